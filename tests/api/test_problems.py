"""What the core says of a field is told at a JSON pointer, wherever the field stands in a body."""

from __future__ import annotations

import pytest

from sidecar.api.problems import moved, problem_of, problems_in
from sidecar.errors import BadQuestion, FieldFault, Problem


@pytest.mark.parametrize(
    ("field", "pointer"),
    [
        (("meter",), "/meter"),
        (("amounts", "minutes"), "/amounts/minutes"),
        (("amounts", "a/b~"), "/amounts/a~1b~0"),
        (("amounts", "~1"), "/amounts/~01"),
        ((), ""),
    ],
    ids=str,
)
def test_a_field_becomes_its_json_pointer(field, pointer):
    bad = BadQuestion("no", faults=(FieldFault(field=field, detail="is wrong", suggestion="other"),))

    expected = [{"pointer": pointer, "detail": "is wrong", "suggestion": "other"}]
    assert problem_of(bad).get("errors") == expected


def test_what_is_wrong_with_one_part_of_a_body_is_moved_to_where_the_part_stands():
    bad = BadQuestion(
        "no",
        code="meter_not_taken",
        problems=(Problem(pointer="/user", detail="is required", suggestion="usr"),),
        faults=(FieldFault(field=("amounts", "a/b"), detail="is not taken"),),
    )

    error = moved(bad, "/questions/7")

    assert (error.detail, error.code, error.faults) == ("no", "meter_not_taken", ())
    assert error.problems == problems_in(bad, at="/questions/7")
    assert error.problems == (
        Problem(pointer="/questions/7/user", detail="is required", suggestion="usr"),
        Problem(pointer="/questions/7/amounts/a~1b", detail="is not taken"),
    )
