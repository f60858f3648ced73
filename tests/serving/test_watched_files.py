"""A change of files counts once, when nobody writes them any more."""

from __future__ import annotations

import os

import pytest

from sidecar.serving.watched_files import WatchedFiles
from tests.serving.processes import at_most


@pytest.fixture(name="place")
def a_catalog_and_a_folder(tmp_path):
    (tmp_path / "plans.yaml").write_text("a")
    (tmp_path / "policies" / "custom").mkdir(parents=True)
    (tmp_path / "policies" / "custom" / "x.rego").write_text("a")
    return tmp_path


def looks(watched, times=3):
    return [watched.have_changed() for _ in range(times)]


@pytest.mark.parametrize("file", ["plans.yaml", "policies/custom/x.rego", "policies/custom/new.rego"])
def test_a_changed_file_is_told_once_and_not_at_the_first_look(place, file):
    watched = WatchedFiles([place / "plans.yaml", place / "policies"])
    assert looks(watched) == [False] * 3
    (place / file).write_text("longer")

    assert looks(watched, 4) == [False, True, False, False]


def test_a_file_that_is_still_written_is_waited_for(place):
    watched = WatchedFiles([place / "plans.yaml"])
    for size in range(2, 5):
        (place / "plans.yaml").write_text("a" * size)
        assert not watched.have_changed()

    assert looks(watched, 2) == [True, False]


def test_a_file_that_was_deleted_and_one_that_changed_back_are_changes_too(place):
    watched = WatchedFiles([place / "policies"])
    (place / "policies/custom/x.rego").unlink()
    assert looks(watched, 2) == [False, True]
    (place / "policies/custom/x.rego").write_text("a")

    assert looks(watched, 2) == [False, True]


def test_a_folder_that_is_replaced_by_its_link_is_a_change_as_a_config_map_makes_it(place):
    for name in ("one", "two"):
        (place / name).mkdir()
        (place / name / "plans.yaml").write_text("a")
    (place / "data").symlink_to("one")
    watched = WatchedFiles([place / "data" / "plans.yaml"])
    (place / "new").symlink_to("two")
    os.replace(place / "new", place / "data")  # noqa: PTH105 - as kubelet does it

    assert looks(watched, 2) == [False, True]


def test_what_a_signal_has_taken_is_no_change_any_more(place):
    watched = WatchedFiles([place / "plans.yaml"])
    (place / "plans.yaml").write_text("longer")
    watched.take()

    assert looks(watched) == [False] * 3


def test_a_folder_that_cannot_be_read_is_no_change_and_no_end(place):
    watched = WatchedFiles([place / "policies"])
    with at_most(3, os.getpid()):
        assert looks(watched) == [False] * 3
        watched.take()

    assert looks(watched) == [False] * 3


def test_a_file_that_is_gone_is_a_change_and_so_is_one_that_keeps_its_time_and_size(place):
    file = place / "plans.yaml"
    watched, times = WatchedFiles([file]), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("b")
    os.utime(file, ns=times)
    assert looks(watched) == [False, True, False]
    file.unlink()

    assert looks(watched) == [False, True, False]
