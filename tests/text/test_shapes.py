"""Each shape finds what is wrong, and its JSON Schema says the same."""

from __future__ import annotations

import jsonschema
import pytest

from sidecar.text.shapes import (
    MOST_PROBLEMS,
    Anything,
    Either,
    Flag,
    ListOf,
    MapOf,
    OneOf,
    Open,
    OrWord,
    Record,
    Text,
    Whole,
    problems_with,
)

PLAN = Record({"plan": Text(), "months": Whole(1, 12)}, required=("plan",))
METER = Record({"meter": Text()}, required=("meter",))

GOOD = [
    (Text(3), "abc"),
    (Text(3, shortest=0), ""),
    (Whole(1, 5), 5),
    (OneOf(("check", "consume")), "consume"),
    (Flag(), False),
    (OrWord(Whole(0, 5), "unlimited"), "unlimited"),
    (OrWord(Text(), None), None),
    (MapOf(Flag()), {"a": True}),
    (MapOf(Flag()), {}),
    (MapOf(Flag(), fewest=1), {"a": True}),
    (ListOf(Flag(), 2), [True, False]),
    (PLAN, {"plan": "pro", "months": 3}),
    (Either(PLAN, METER, by=("meter",)), {"meter": "minutes"}),
    (Open({"plan": Text()}), {"plan": None, "anything": [1]}),
    (Anything(kind=dict), {"a": [{"b": 1.5}]}),
]
BAD = [
    (Text(3), "abcd", "", "must be at most 3 characters long, got 4"),
    (Text(), "", "", "must not be empty"),
    (Text(), "a\0b", "", "must not hold a NUL"),
    (Text(), 7, "", "expected text, got 7"),
    (Whole(1, 5), 6, "", "must be from 1 to 5, got 6"),
    (Whole(1, 5), True, "", "expected a whole number, got true"),
    (OneOf(("check", "consume")), "consum", "", 'must be check or consume, got "consum"'),
    (Flag(), 1, "", "expected true or false, got 1"),
    (OrWord(Whole(0, 5), "unlimited"), None, "", "expected a whole number, got null"),
    (MapOf(Flag()), {"a/b": 1}, "/a~1b", "expected true or false, got 1"),
    (MapOf(Flag(), fewest=1), {}, "", "must name at least 1, or be left out"),
    (ListOf(Flag(), 2), [True, 0], "/1", "expected true or false, got 0"),
    (ListOf(Flag(), 2), [], "", "must hold 1 to 2 of them, got 0"),
    (PLAN, {"plan": "pro", "month": 3}, "/month", "is not a field here"),
    (PLAN, {}, "/plan", "is required"),
    (PLAN, [], "", "expected an object, got a list"),
    (Either(PLAN, METER, by=("meter",)), {"meter": 1}, "/meter", "expected text, got 1"),
    (Open({"plan": Text()}, required=("plan",)), {"plan": None}, "/plan", "is required"),
    (Anything(kind=dict), 1, "", "expected an object, got 1"),
]


@pytest.mark.parametrize(("shape", "value"), GOOD)
def test_what_has_the_shape_has_no_problem_and_fits_its_schema(shape, value):
    assert problems_with(value, shape) == ()
    jsonschema.validate(value, shape.schema)


@pytest.mark.parametrize(("shape", "value", "pointer", "detail"), BAD)
def test_what_has_not_has_one_at_its_place_and_does_not_fit_the_schema(shape, value, pointer, detail):
    [problem] = problems_with(value, shape)

    assert (problem.pointer, problem.detail) == (pointer, detail)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, shape.schema)


def test_a_word_nearly_right_comes_with_the_right_one():
    [misspelt] = problems_with({"plan": "pro", "month": 3}, PLAN)
    [unknown] = problems_with("consum", OneOf(("check", "consume")))

    assert (misspelt.suggestion, unknown.suggestion) == ("months", "consume")


def test_what_json_schema_cannot_say_is_found_all_the_same():
    deep: object = 1
    for _ in range(9):
        deep = [deep]

    assert [problem.detail for problem in problems_with({"a": deep}, Anything())] == [
        "is nested more than 8 levels deep"
    ]
    assert [problem.detail for problem in problems_with(float("inf"), Anything())] == [
        "is a number too large to hold"
    ]
    assert [problem.detail for problem in problems_with("\ud800", Text())] == [
        "must not hold half of a surrogate pair"
    ]


def test_the_number_of_problems_is_bounded():
    assert len(problems_with([1] * 500, ListOf(Flag(), 500))) == MOST_PROBLEMS
