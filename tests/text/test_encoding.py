from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sidecar.errors import BadQuestion
from sidecar.text.encoding import Duplicated, decoded, document_from, embedded, encoded

TEXT = some.text(some.characters(exclude_categories=["Cs"]), max_size=8)
DOCUMENTS = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**53), 2**53) | TEXT,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS)
def test_what_is_encoded_can_be_read_again_in_either_way(document):
    raw = encoded(document)

    assert decoded(raw) == document
    assert document_from(raw) == document
    assert json.loads(raw) == document


def test_a_time_in_utc_ends_in_z():
    assert encoded({"at": datetime(2030, 1, 31, 12, tzinfo=UTC)}) == b'{"at":"2030-01-31T12:00:00Z"}'


def test_embedded_text_is_written_byte_for_byte():
    assert encoded({"situation": embedded(b'{"a": 1.0}')}) == b'{"situation":{"a": 1.0}}'


@pytest.mark.parametrize("raw", [b"", b"{", b"nul", b"\xff", b"1 2"])
def test_what_is_no_json_is_a_value_error(raw):
    with pytest.raises(ValueError, match=r".+"):
        decoded(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Expecting value at line 1, column 1"),
        (b'{"a":', "Expecting value at line 1, column 6"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b"NaN", "NaN is not a number in JSON"),
        (b"1e400", "1e400 is a number too large to hold"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 65 + b"]" * 65, "nested too deeply"),
        (b'{"a":' * 987 + b"1" + b"}" * 987, "nested too deeply"),
        (b"-1" + b"0" * 400, "is a number too large to hold"),
    ],
)
def test_a_body_that_is_no_json_is_refused_and_says_where(raw, why):
    with pytest.raises(BadQuestion, match=why) as caught:
        document_from(raw)

    assert caught.value.code == "malformed_json"


@pytest.mark.parametrize(
    "raw", [b"[" * 64 + b"]" * 64, b"[" + b"[]," * 500 + b"1]", b'["' + b"[" * 500 + b'", "\\"[["]']
)
def test_brackets_are_counted_by_their_depth_and_not_in_text(raw):
    assert document_from(raw) == json.loads(raw)


def test_a_repeated_name_is_reported_with_the_object_that_has_it():
    document = document_from(b'{"once": {"a": 1, "a": 2, "b": 3}}')

    assert document == {"once": {"a": 2, "b": 3}}
    assert not isinstance(document, Duplicated)
    assert isinstance(document, dict)
    assert document["once"].names == {"a"}
