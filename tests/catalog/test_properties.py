"""Whatever is fed to the check, it answers with a catalog or with problems inside the file."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.catalog.sections import PLANS_FILE
from sidecar.rego.compile import compiled
from tests.catalog.files import SHIPPED, check
from tests.catalog.test_schema import editor_refuses

TEXT = SHIPPED.read_text()
LINES = TEXT.splitlines(keepends=True)
FILE = yaml.safe_load(TEXT)
WORDS = sorted({word for word in TEXT.replace("{", " ").replace("}", " ").split() if word.isidentifier()})
FRAGMENTS = [
    *"{}[]:,-#&*!|>'\"%@`?\t\n\r\0 ",
    "<<: *a",
    "\ufeff",
    "\u2028",
    "é",
    "- ",
    ": ",
    "---\n",
    "...\n",
    "%YAML 9\n",
]
VALUES = [
    "",
    "~",
    "yes",
    "1e3",
    "-1",
    "0x1",
    "1:30",
    "unlimited",
    "99999999999999999999",
    "[]",
    "{}",
    "&a x",
    "*a",
    '"\\uD800"',
]


def agrees_with_itself(raw):
    """A catalog that compiles, or problems in order, each at a place that the file has."""
    found = check(raw)
    text = raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else raw
    lines = text.replace("\r\n", "\n").split("\n")

    assert (found.catalog is None) == bool(found.problems)
    assert list(found.problems) == sorted(set(found.problems), key=lambda each: each.order)
    for finding in found.problems + found.warnings:
        assert 1 <= finding.line <= len(lines) + 1, finding
        assert 1 <= finding.column <= max(map(len, lines)) + 2, finding
        assert "\n" not in str(finding), finding
        str(finding).encode()
    if found.catalog:
        assert len(compiled(found.catalog, {}).revision) == 32
    return found


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
@example(b"\xff\xfe")
@example(b"a: \xe9")
@example(b"\r\r\n")
def test_any_bytes(raw):
    agrees_with_itself(raw)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*FRAGMENTS, *WORDS, *VALUES]), max_size=30).map("".join))
@example('a: "\\UFFFFFFFF"')
@example("%YAML 1.1\n%YAML 1.1\n---\n")
@example("!<")
@example("? - a\n  - b\n: c")
@example("? ? ?")
@example("- |9")
@example("a: |0\n b")
def test_any_scraps_of_yaml(text):
    agrees_with_itself(text.encode("utf-8", errors="surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_shipped_file_with_a_few_characters_changed(data):
    text = TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.sampled_from([*FRAGMENTS, *VALUES, *WORDS])) + text[at + cut :]

    agrees_with_itself(text.encode())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_shipped_file_with_lines_left_out_and_repeated(data):
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = data.draw(st.sampled_from([[], [lines[at], lines[at]], [f"  {lines[at]}"]]))

    agrees_with_itself("".join(lines).encode())


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 10**13)
    | st.sampled_from([*WORDS, "", "unlimited", "EUR", "a b"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "Ä"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places_in(document, path=()):
    yield path
    children = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, value in children:
        yield from places_in(value, (*path, key))


PLACES = [path for path in places_in(FILE) if path]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_an_editor_refuses_the_check_refuses(data):
    document = json.loads(json.dumps(FILE))
    *way, last = data.draw(st.sampled_from(PLACES))
    at = document
    for key in way:
        at = at[key]
    at[last] = data.draw(ANYTHING)
    found = agrees_with_itself(json.dumps(document, ensure_ascii=False).encode())

    assert not editor_refuses(document) or found.problems


@pytest.mark.parametrize("section", sorted(PLANS_FILE.fields))
def test_a_section_of_any_other_form_is_refused(section):
    for value in (None, 5, "text", [], {}, [1], {"a": 1}):
        found = agrees_with_itself(json.dumps(FILE | {section: value}).encode())
        allowed = section in {"routes", "invariants"} and value == []

        assert allowed or found.problems, (section, value)
