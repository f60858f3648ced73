"""Rego is read as OPA reads it: what is no Rego is said with its place, and all that is Rego is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.rego.syntax.parser import module_in
from sidecar.rego.syntax.tokens import NotRego
from tests import servers
from tests.catalog.files import ROOT

LEGAL = sorted([*(Path(__file__).parent / "legal").rglob("*.rego"), *(ROOT / "policies").rglob("*.rego")])
HEAD = "package custom\n\n"
RULE = 'denials contains "x" if '
# What stands behind the head of a file, and where it ceases to be Rego.
MISTAKES = [
    (f"{RULE}input.plan == == 1", "3:39"),
    (f"{RULE}input.plan === 1", "3:38"),
    (f"{RULE}{{\n\tinput.plan == 1\n", "5:1"),
    (f"{RULE}{{\n\tinput.plan == 1,\n}}", "5:1"),
    (f"{RULE}{{ input.plan == 1 input.role == 1 }}", "3:43"),
    (f"{RULE}{{ input.plan == 1 and input.role == 1 }}", "3:43"),
    (f"{RULE}{{ input.plan == 1 && input.role == 1 }}", "3:44"),
    (f"{RULE}(input.plan == 1\n", "4:1"),
    (f"{RULE}input.plan in [1, 2", "3:44"),
    (f"{RULE}", "3:25"),
    ('denials contains "x" {\n\tinput.plan == 1\n}', "3:22"),
    ("denials contains 'x' if true", "3:18"),
    ('denials contains "x if true', "3:18"),
    ("denials contains `x if true", "3:18"),
    ('denials contain "x" if true', "3:9"),
    ('denials contains "x" iff true', "3:26"),
    ("a if every x in [1]", "3:20"),
    ("a if some x, 1", "3:15"),
    ("a if not", "3:9"),
    ("a := {1: 2, 3}", "3:14"),
    ("a := [x | ]", "3:11"),
    ('a := "\\q"', "3:6"),
    ("a := 1; b := 2", "3:7"),
    ("import data.x;", "3:14"),
    ("a", "3:2"),
    ("else := 1", "3:1"),
    ("default", "3:8"),
    ("import other.thing", "3:8"),
    ("a if input.", "3:12"),
    ("a if x[1", "3:9"),
    ("a ? 1", "3:3"),
]


@pytest.mark.parametrize("path", LEGAL, ids=lambda path: path.name)
def test_what_is_rego_is_read(path):
    assert module_in(path.read_text()).rules


@pytest.mark.parametrize(("text", "place"), MISTAKES)
def test_what_is_no_rego_is_said_with_its_place(text, place):
    whole = HEAD + text
    with pytest.raises(NotRego) as refused:
        module_in(whole)
    before = whole[: refused.value.at]

    assert f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}" == place
    assert refused.value.says


@pytest.mark.opa
def test_opa_takes_the_legal_ones_and_none_of_the_others(tmp_path):
    for number, (text, _) in enumerate(MISTAKES):
        (tmp_path / f"{number}.rego").write_text(HEAD + text)
    accepted = [
        text
        for number, (text, _) in enumerate(MISTAKES)
        if servers.opa("parse", tmp_path / f"{number}.rego").returncode == 0
    ]

    assert accepted == []
    assert [path.name for path in LEGAL if servers.opa("parse", path).returncode != 0] == []


def test_what_is_nested_too_deeply_is_refused_and_does_not_end_the_process():
    with pytest.raises(NotRego, match="nested more than"):
        module_in(f"{HEAD}a := {'[' * 5000}1{']' * 5000}")


def test_operators_bind_as_in_rego():
    [rule] = module_in(f"{HEAD}a if 1 + 2 * 3 == x | y & z").rules
    [literal] = rule.branches[0].body

    equal: Any = literal.term
    assert (equal.operator, equal.left.operator, equal.left.right.operator) == ("==", "+", "*")
    assert (equal.right.operator, equal.right.right.operator) == ("|", "&")


def test_a_bar_in_braces_is_a_comprehension_and_in_parentheses_a_union():
    rules: Any = module_in(f"{HEAD}a := {{x | some x in y}}\n\nb := ({{1}} | {{2}})").rules
    comprehension, union = rules

    assert type(comprehension.branches[0].value).__name__ == "Comprehension"
    assert union.branches[0].value.operator == "|"
