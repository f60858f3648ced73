"""Every file in mistakes/ with the lines that `sidecar check` prints about it, which stand beside it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sidecar.catalog.check import check_plans
from tests.catalog.files import ROOT

MISTAKES = sorted((Path(__file__).parent / "mistakes").glob("*.yaml"))
OF_POLICIES = {
    "many_cells",  # found by the command, which knows the cells
    "absent_context",
    "authz_changed",
    "bad_context",
    "builtin_not_allowed",
    "data_not_loaded",
    "does_not_build",
    "never_denies",
    "no_verdict",
    "not_asked",
    "not_checked",
    "outside_the_roots",
    "package_not_its_folder",
    "with_in_policy",
    "not_without_name",
    "stale_data",
    "undeclared_case_context",
    "undeclared_context",
    "unknown_data",
    "unknown_input",
    "unknown_name",
}


def findings_in(path):
    found = check_plans(path.read_bytes(), source=path.name)
    return found.problems + found.warnings


def codes_in_the_code():
    """What is a code of `sidecar check`; those that are put together from words are left out."""
    found = []
    checking = {*(ROOT / "sidecar/catalog").glob("*.py"), *(ROOT / "sidecar/rego").glob("*.py")}
    others = ("audit/effects.py", "cli/check.py", "cli/checking.py", "cli/test.py", "engines/building.py")
    checking |= {ROOT / "sidecar" / path for path in others}
    for path in sorted(checking - {ROOT / "sidecar/catalog/routes.py"}):  # that one is about requests
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="find" | "_find"), args=[first, *_]):
                    found.append(first)
                case ast.keyword(arg="code", value=value):
                    found.append(value)
                case ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant() as value):
                    found.append(value)
                case ast.Yield(value=ast.Tuple(elts=[_, code, _])):
                    found.append(code)
                case ast.Return(value=ast.Tuple(elts=[code, _])):
                    found.append(code)
                case _:
                    pass
    return {each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str)}


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_a_mistake_is_reported_in_these_words(path):
    printed = "".join(f"{finding}\n" for finding in findings_in(path))

    assert printed == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_a_mistake_is_reported_where_the_file_has_it(path):
    lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    outside = [
        finding
        for finding in findings_in(path)
        if not 1 <= finding.line <= len(lines) + 1 or not 1 <= finding.column <= 200
    ]

    assert outside == []


def test_every_expected_output_has_its_mistake():
    outputs = {path.stem for path in (Path(__file__).parent / "mistakes").glob("*.txt")}

    assert outputs == {path.stem for path in MISTAKES}


def test_every_code_has_a_mistake_and_a_row_in_the_docs():
    docs = (ROOT / "docs/plans.md").read_text().partition("## What the check says")[2]
    documented = set(re.findall(r"^\| `([a-z0-9_]+)` \|", docs, flags=re.MULTILINE))
    shown = {finding.code for path in MISTAKES for finding in findings_in(path)} | {"too_large"}

    assert documented == shown | OF_POLICIES
    assert codes_in_the_code() - documented == set()
    assert OF_POLICIES - codes_in_the_code() == set()
    assert len(codes_in_the_code()) > len(documented) / 2  # the walk above still finds them
