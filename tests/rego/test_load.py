"""From the disk: what is wrong with it is a ConfigError with every problem."""

from __future__ import annotations

import pytest

from sidecar.errors import ConfigError
from sidecar.rego.load import catalog_at, compiled_at, modules_at
from tests.catalog.files import ROOT, SHIPPED, SMALL


def refusals_of(function, *paths):
    with pytest.raises(ConfigError) as refused:
        function(*paths)
    return [f"{problem.pointer}: {problem.detail}" for problem in refused.value.problems]


def test_a_catalog_is_read_from_its_file():
    assert catalog_at(SHIPPED).default_plan == "starter"


def test_every_problem_of_a_catalog_is_told(tmp_path):
    path = tmp_path / "plans.yaml"
    path.write_text(SMALL.replace("EUR", "euro") + "  pro: {extends: fre, price: 1}\n")

    assert refusals_of(catalog_at, path) == [
        (
            f"{path}:2:11: currency of the catalog: expected three capital letters, like EUR,"
            ' got the text "euro" (bad_text)'
        ),
        f'{path}:7:18: plan "pro" extends "fre", which does not exist; did you mean "free"? (unknown_plan)',
    ]


def test_a_missing_file_is_told(tmp_path):
    path = tmp_path / "plans.yaml"

    assert refusals_of(catalog_at, path) == [f"{path}: cannot be read: no such file or directory"]
    assert refusals_of(catalog_at, tmp_path) == [f"{tmp_path}: cannot be read: is a directory"]


def test_a_missing_folder_is_told(tmp_path):
    folder = tmp_path / "policies"

    assert refusals_of(modules_at, folder) == [f"{folder}: cannot be read: there is no such folder"]


def test_a_policy_that_cannot_be_read_is_told(tmp_path):
    path = tmp_path / "x.rego"
    path.write_bytes(b"package \xff")

    assert refusals_of(modules_at, tmp_path) == [f"{path}: is not UTF-8"]


def test_a_policy_that_vanishes_is_told(tmp_path, monkeypatch):
    (tmp_path / "x.rego").write_text("package x\n")

    def gone(*_args, **_more):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("pathlib.Path.read_text", gone)

    assert refusals_of(modules_at, tmp_path) == [
        f"{tmp_path}/x.rego: cannot be read: no such file or directory"
    ]


def test_a_process_does_not_start_with_a_policy_that_looks_at_the_clock(tmp_path):
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/x.rego").write_text("package custom\n\na if time.now_ns() > 1\n")

    (line,) = refusals_of(compiled_at, SHIPPED, tmp_path)

    assert line.startswith(f"{tmp_path}/custom/x.rego:3:6: time.now_ns is not among the builtins")


def test_the_shipped_policies_compile():
    assert compiled_at(SHIPPED, ROOT / "policies").modules == modules_at(ROOT / "policies")
