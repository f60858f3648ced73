"""The reader of YAML: positions, and what ends early."""

from __future__ import annotations

import time

import pytest

from sidecar.catalog.read import MAX_BYTES, Nothing, described, document_in, plain, shortened
from sidecar.rego.load import plans_text
from tests.catalog.files import SMALL, check, codes_in

SECONDS = 20  # "within seconds", on a machine that others use too


def first_problem(raw):
    return str(check(raw).problems[0])


def test_a_hundred_megabytes_are_refused_without_being_read(tmp_path):
    path = tmp_path / "plans.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    begun = time.monotonic()
    raw = plans_text(path)

    assert len(raw) == MAX_BYTES + 1
    assert first_problem(raw) == (
        "plans.yaml:1:1: the file is larger than 256 KiB: this cannot be a catalog (too_large)"
    )
    assert time.monotonic() - begun < SECONDS


def filled(begin, item, end=""):
    room = MAX_BYTES - len(begin) - len(end)
    return begin + item * (room // len(item)) + end


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (filled("a: ", "["), {"too_deep"}),
        (filled("", "- "), {"too_deep"}),
        (filled("a: ", "{a: "), {"too_deep"}),
        (filled("", "? "), {"too_deep"}),
        (
            filled("a: &a [x]\nb: [", "*a,", "]"),
            {"yaml_anchor", "yaml_alias", "unknown_field", "missing_field"},
        ),
        (filled(SMALL + "routes:\n", "- {a: }\n"), {"too_many"}),
        (filled(SMALL + "actions:\n", "  a: {role: membr}\n"), {"duplicate_key", "unknown_role"}),
        (filled('a: "', "\\u0000", '"'), {"forbidden_character", "unknown_field", "missing_field"}),
        (filled("a: ", "1_"), {"unknown_field", "missing_field"}),
        (filled("a: ", "9"), {"yaml_number", "unknown_field", "missing_field"}),
        (filled("", "\t\n"), {"tab", "empty_file"}),
        (filled("", "\x00"), {"forbidden_character"}),
        (filled("a: |\n", " x\n"), {"unknown_field", "missing_field"}),
        (filled("%YAML 1.", "9", "\n---\na"), {"yaml_syntax"}),
        ("".join(f"r{number}: \n" for number in range(20_000)), {"unknown_field", "missing_field"}),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_what_is_made_to_be_slow_is_refused_within_seconds(text, codes):
    begun = time.monotonic()
    found = set(codes_in(text))

    assert found == codes
    assert time.monotonic() - begun < SECONDS


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing():
    mistaken = SMALL + "actions:\n  a: {role: nobody}\n"
    windows = b"\xef\xbb\xbf" + mistaken.replace("\n", "\r\n").encode()

    assert check(windows).problems == check(mistaken).problems
    assert check(b"\xef\xbb\xbf" + SMALL.encode()).catalog == check(SMALL).catalog


def test_a_byte_order_mark_in_the_middle_is_something_unseen():
    assert codes_in(SMALL.replace("EUR", "\ufeffEUR")) == ["forbidden_character"]


def test_columns_count_characters_not_bytes():
    assert first_problem(SMALL + "actions: {a: {title: größe, role: nobody}}\n").startswith(
        "plans.yaml:7:35:"
    )


def test_the_last_line_needs_no_end():
    assert check(SMALL.rstrip("\n")).problems == ()


def test_explicit_document_marks_are_fine():
    assert check(f"---\n{SMALL}...\n").problems == ()


def test_what_is_quoted_is_text():
    assert codes_in(SMALL.replace("member: ", '"yes": {title: "017"}')) == []


def test_a_file_of_nothing_is_refused():
    assert [codes_in(raw) for raw in (b"", b"\n\n", b"\xef\xbb\xbf", b"---\n", b"~", b"null")] == [
        ["empty_file"],
        ["empty_file"],
        ["empty_file"],
        ["wrong_type"],
        ["wrong_type"],
        ["wrong_type"],
    ]


def test_an_unforeseen_mistake_is_told_in_the_parsers_words():
    assert first_problem("a: !<\n") == (
        "plans.yaml:1:6: this is not YAML: expected URI, but found '\\n' (yaml_syntax)"
    )


def test_nothing_is_none():
    root = document_in(b"a: [1, b, true, ~]", source="").root

    assert root is not None
    assert plain(root) == {"a": [1, "b", True, None]}
    assert described(Nothing(1, 1)) == "nothing"


def test_long_text_is_shortened_in_messages():
    assert shortened("a\nb") == "a b"
    assert len(shortened("x" * 1000)) == 61
