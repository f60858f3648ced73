from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta

import pytest

from sidecar.telemetry.log_folder import LogFolder
from sidecar.telemetry.log_upkeep import compress_closed, delete_old


def day(ago):
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


@pytest.fixture
def written(tmp_path):
    """Writes lines of a writer on a day, *ago* days ago, and closes the file."""

    def write(writer, ago, *, closes=True):
        sink = LogFolder(tmp_path, writer=writer)
        assert sink.write(b'{"line":1}\n' * 100, day(ago)) == 1_100
        if closes:
            sink.close()
        return sink

    return write


def test_a_file_that_is_closed_is_compressed_and_says_the_same(tmp_path, written):
    written("a", 1)

    assert compress_closed(tmp_path) == 1
    assert compress_closed(tmp_path) == 0

    [file] = (tmp_path / day(1)).iterdir()
    assert file.name == "a.jsonl.gz"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()] == [
        {"line": 1}
    ] * 100


def test_a_file_that_is_being_written_stays_as_it_is_whatever_its_day(tmp_path, written):
    sink = written("a", 3, closes=False)

    assert compress_closed(tmp_path) == 0

    assert sink.write(b"{}\n", day(3)) == 3
    assert (tmp_path / day(3) / "a.jsonl").read_bytes().endswith(b"{}\n")
    sink.close()


def test_whole_days_are_deleted_after_the_writers_that_have_nothing_left_are_named(tmp_path, written):
    for writer, ago in (("gone", 11), ("gone", 12), ("stays", 12), ("stays", 3), ("young", 10)):
        written(writer, ago)
    (tmp_path / "notes.txt").write_text("of somebody else")
    named = []

    def removed(writer):
        assert (tmp_path / day(12)).exists()
        named.append(writer)

    assert delete_old(tmp_path, keep_days=10, removed=removed) == [day(12), day(11)]

    assert named == ["gone"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([day(10), day(3), "notes.txt"])


def test_what_cannot_be_noted_is_not_deleted(tmp_path, written):
    written("a", 20)

    def removed(_):
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError):
        delete_old(tmp_path, keep_days=10, removed=removed)

    assert (tmp_path / day(20) / "a.jsonl").exists()
