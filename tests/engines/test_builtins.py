"""What policies may call and compare means the same to both engines; what does not is not on the list."""

from __future__ import annotations

import json
import re

import pytest

from sidecar.rego.lint import ALLOWED_BUILTINS
from tests.engines.documents import a_grant
from tests.values import FAR_AWAY

INPUT = {
    "n": 10,
    "f": 1.5,
    "s": "text",
    "l": list(range(11)),
    "o": {"a": 1, "b": None},
    "empty": [],
    "nothing": None,
}
HOLDS = [
    "array.concat([1], input.l)[1] == 0",
    "array.concat([], []) == []",
    "count(input.l) == 11",
    "count(input.l) > 9",
    "count({1 | some x in input.l}) == 1",
    "count(input.o) == 2",
    'count("é😀") == 2',
    'endswith(input.s, "xt")',
    'endswith("é", "")',
    'startswith(input.s, "te")',
    'startswith("😀é", "😀")',
    "is_array(input.l)",
    "is_boolean(false)",
    "is_null(input.nothing)",
    "is_number(input.f)",
    "is_object(input.o)",
    "is_set({x | some x in input.l})",
    "is_string(input.s)",
    'object.get(input.o, "a", 2) == 1',
    'object.get(input.o, "b", 2) == null',
    'object.get(input.o, "c", 2) == 2',
    'object.get({"a": {"b": 3}}, ["a", "b"], 2) == 3',
    'object.keys(input.o) == {"a", "b"}',
    "sum(input.l) == 55",
    "sum({1, 2, 2}) == 3",
    "sum([]) == 0",
    "input.n > 9",
    "input.n >= 9.5",
    "input.n == 10.0",
    'input.s < "texture"',
    '"10" < "9"',
    '"Z" < "a"',
    '"f" < "é"',
    "10 in input.l",
    'input.s in {"text"}',
    '1 in {"key": 1}',
    "input.n + 1 == 11",
    "every x in input.empty { x == 1 }",
    'min_of == "a"',
]
HOLDS_NOT = [
    "count(input.n) >= 0",
    'startswith(input.n, "1")',
    'endswith(input.nothing, "")',
    "sum(input.s) == 0",
    "sum([1, input.s]) == 1",
    'object.get(input.nosuch, "a", 1) == 1',
    "object.keys(input.n) == set()",
    "array.concat(input.n, [1]) == [1]",
    "is_array(input.nosuch)",
    "is_null(input.nosuch)",
    "is_number(input.s)",
    "is_set(input.l)",
    "input.n / 0 == 1",
    "input.s in input.n",
    "some x in input.n; x == 1",
    "every x in input.n { x == 1 }",
    "every x in input.nosuch { x == 1 }",
    'input.n == "10"',
]


def test_what_holds_holds_to_both_engines_and_what_does_not_to_none(engine_of):
    cases = [*HOLDS, *HOLDS_NOT]
    rules = "\n".join(f'_held contains "{number}" if {{ {case} }}' for number, case in enumerate(cases))
    grant = json.dumps(a_grant(charges={})).replace(
        '"charges": {}', '"charges": {key: 1 | some key in _held}'
    )
    smallest = (
        'min_of := code if {\n\tsome code in {"b", "a"}\n\tevery other in {"b", "a"} { code <= other }\n}'
    )
    engine = engine_of(f"package authz\n\ndecision := {grant}\n\n{smallest}\n\n{rules}\n")

    held = engine.verdict(json.dumps(INPUT).encode(), deadline=FAR_AWAY).charges

    assert [case for number, case in enumerate(cases) if str(number) in held] == HOLDS


@pytest.mark.parametrize("name", sorted(ALLOWED_BUILTINS))
def test_every_builtin_that_is_allowed_is_tried_both_ways(name):
    called = re.compile(rf"(?<![\w.]){re.escape(name)}\(")

    assert [case for case in HOLDS if called.search(case)]
    assert name.startswith("is_") or [case for case in HOLDS_NOT if called.search(case)]
