from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from sidecar.api import wire
from sidecar.decisions.model import Question
from sidecar.errors import BadQuestion

QUESTION = {"user": "adam", "workspace": "acme", "action": "recording.start"}


def problems_of(body, *, read=wire.question_from):
    """[(pointer, detail)] of a body that must be refused."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(BadQuestion) as refused:
        read(raw)
    return [(problem.pointer, problem.detail) for problem in refused.value.problems]


def test_a_question_has_its_defaults():
    actual = wire.question_from(json.dumps(QUESTION).encode())

    assert actual == Question(
        user="adam",
        workspace="acme",
        action="recording.start",
        mode="check",
        amounts=None,
        idempotency_key=None,
        resource=None,
        ttl_s=60,
        context={},
    )


def test_a_question_may_say_everything():
    body = QUESTION | {
        "mode": "reserve",
        "amounts": {"minutes": 10**12},
        "idempotency_key": "k" * 255,
        "resource": "r",
        "ttl_seconds": 3600,
        "context": {"ip": "10.0.0.1", "deep": [{"a": None}]},
    }

    actual = wire.question_from(json.dumps(body).encode())

    assert actual == Question(
        user="adam",
        workspace="acme",
        action="recording.start",
        mode="reserve",
        amounts={"minutes": 10**12},
        idempotency_key="k" * 255,
        resource="r",
        ttl_s=3600,
        context={"ip": "10.0.0.1", "deep": [{"a": None}]},
    )


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("3F2B8A52-1111-4222-8333-444455556666", "3f2b8a52-1111-4222-8333-444455556666"),
        ("3f2b8a52-1111-4222-8333-444455556666", "3f2b8a52-1111-4222-8333-444455556666"),
        ("Acme", "Acme"),
        ("3F2B8A521111422283334444555566660000", "3F2B8A521111422283334444555566660000"),
    ],
)
def test_a_uuid_has_one_form_and_a_slug_stays(written, canonical):
    assert wire.question_from(json.dumps(QUESTION | {"workspace": written}).encode()).workspace == canonical


def test_every_problem_of_a_body_is_told_at_once_where_it_is():
    body = (
        b'{"usr": "adam", "workspace": null, "action": "", "amounts": {"minutes": 1.0, "scenarios": true},'
        b' "mode": "chek", "ttl_seconds": 3601, "context": [], "resource": 7}'
    )

    assert problems_of(body) == [
        ("/usr", "is not a field here"),
        ("/workspace", "expected text, got null"),
        ("/action", "must not be empty"),
        ("/amounts/minutes", "expected a whole number, got 1.0"),
        ("/amounts/scenarios", "expected a whole number, got true"),
        ("/mode", 'must be check or consume or reserve, got "chek"'),
        ("/ttl_seconds", "must be from 1 to 3600, got 3601"),
        ("/context", "expected an object, got a list"),
        ("/resource", "expected text, got 7"),
        ("/user", "is required"),
    ]


def test_a_misspelt_field_is_told_the_right_one():
    with pytest.raises(BadQuestion) as refused:
        wire.question_from(json.dumps(QUESTION | {"amount": {}}).encode())

    assert [(each.pointer, each.suggestion) for each in refused.value.problems] == [("/amount", "amounts")]


@pytest.mark.parametrize("amount", ["0", "-1", "1000000000001", "99999999999999999999999999"])
def test_an_amount_is_bounded(amount):
    body = json.dumps(QUESTION)[:-1].encode() + b', "amounts": {"minutes": %s}}' % amount.encode()

    assert [pointer for pointer, _ in problems_of(body)] == ["/amounts/minutes"]


@pytest.mark.parametrize("amount", ["1.0", "1e3", "true", '"1"', "null", "[]"])
def test_only_a_whole_number_is_an_amount(amount):
    body = json.dumps(QUESTION)[:-1].encode() + b', "amounts": {"minutes": %s}}' % amount.encode()

    assert [pointer for pointer, _ in problems_of(body)] == ["/amounts/minutes"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"user":"a","workspace":"w","action":"x","user":"b"}', ("/user", "is there more than once")),
        (b'{"user":"a","workspace":"w","action":"x","us\\u0065r":"b"}', ("/user", "is there more than once")),
        (
            b'{"user":"a","workspace":"w","action":"x","amounts":{"m":1,"m":2}}',
            ("/amounts/m", "is there more than once"),
        ),
        (
            b'{"user":"a","workspace":"w","action":"x","context":{"a":[{"b":1,"b":1}]}}',
            ("/context/a/0/b", "is there more than once"),
        ),
        (
            b'{"user":"a:","workspace":"w","action":"x","user":"b","mode":"check"}',
            ("/user", "is there more than once"),
        ),
    ],
)
def test_a_field_may_not_be_there_twice(body, expected):
    assert problems_of(body) == [expected]


@pytest.mark.parametrize("user", ["urn:user:1", 'a"b:c', "a\\", 'a\\":', "ü:", "😀"])
def test_text_that_looks_like_json_is_only_text(user):
    body = json.dumps(QUESTION | {"user": user}, ensure_ascii=False).encode()

    assert wire.question_from(body).user == user


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800", "\\udc00\\ud800", "x\\uDFFF"])
@pytest.mark.parametrize("field", ["user", "workspace", "action", "idempotency_key", "resource"])
def test_text_that_no_store_can_hold_is_refused(field, text):
    body = json.dumps(QUESTION | {field: "@"}).replace("@", text).encode()

    assert [pointer for pointer, _ in problems_of(body)] == [f"/{field}"]


@pytest.mark.parametrize(
    ("field", "longest"), [("user", 256), ("workspace", 256), ("action", 256), ("resource", 255)]
)
def test_text_is_as_long_as_it_may_be_and_no_longer(field, longest):
    wire.question_from(json.dumps(QUESTION | {field: "ü" * longest}).encode())

    assert problems_of(QUESTION | {field: "ü" * (longest + 1)}) == [
        (f"/{field}", f"must be at most {longest} characters long, got {longest + 1}")
    ]


def test_a_context_is_nested_only_so_deep():
    def nested(levels):
        return json.loads("{" + '"a":{' * (levels - 1) + "}" * levels)

    wire.question_from(json.dumps(QUESTION | {"context": nested(8)}).encode())

    assert problems_of(QUESTION | {"context": nested(10)}) == [
        ("/context" + "/a" * 8, "is nested more than 8 levels deep")
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"user":"a",}',
        b'\xef\xbb\xbf{"user":"a","workspace":"w","action":"x"}',
        '{"user":"a","workspace":"w","action":"x"}'.encode("utf-16"),
        b'{"user":"\xff","workspace":"w","action":"x"}',
        b'{"user":"a","workspace":"w","action":"x"} {}',
        b'{"user":"a","workspace":"w","action":"x","context":{"n":NaN}}',
        b'{"user":"a","workspace":"w","action":"x","context":{"n":1e999}}',
        b'{"user":"a","workspace":"w","action":"x","context":{"n":' + b"9" * 5000 + b"}}",
        b'{"user":"a\nb","workspace":"w","action":"x"}',
        b"[" * 60_000,
        b'{"context":' * 6_000 + b"1" + b"}" * 6_000,
    ],
)
def test_what_is_not_json_is_told_so(body):
    with pytest.raises(BadQuestion) as refused:
        wire.question_from(body)

    assert refused.value.code == "malformed_json"


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"null", b"1", b"true"])
def test_a_body_is_an_object(body):
    assert [pointer for pointer, _ in problems_of(body)] == [""]


def test_a_flood_of_problems_is_cut():
    body = json.dumps({f"f{number}": 1 for number in range(5_000)}).encode()

    assert len(problems_of(body)) == 100


TEXT = some.text(max_size=4)
TEXT_OF_A_VALUE = some.one_of(
    some.sampled_from(
        [
            '"adam"', '""', "null", "true", "1", "0", "1.0", "-0", "1e2", "[]", "{}", '"check"', '"consume"',
            '{"minutes":5}', '{"minutes":5,"minutes":5}', '{"a":{"b":[1,{"c":2}]}}', '"a:b"', '"\\""',
            '"\\\\"',
            '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0061"', '"é"', "3600", "1000000000001",
            "123456789012345678901234567890", '{"":1}', '{"a":":"}', '{"\\u0000":1}', f'"{"x" * 257}"',
        ]
    ),
    some.text(max_size=12).map(json.dumps),
    some.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False)),
    some.recursive(
        some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | TEXT,
        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps),
)  # fmt: skip
FIELD = some.tuples(
    some.sampled_from(
        [*QUESTION, "mode", "amounts", "context", "resource", "ttl_seconds", "idempotency_key", "usr"]
    ),
    TEXT_OF_A_VALUE,
)


def text_of(fields):
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"


GOOD = [(name, json.dumps(value)) for name, value in QUESTION.items()]
BODY = some.lists(FIELD, max_size=4).map(lambda fields: text_of([*GOOD, *fields])) | some.lists(
    FIELD, max_size=6
).map(text_of)


def outcome(read, raw):
    try:
        return read(raw)
    except BadQuestion as bad:
        return bad.code, bad.problems


@given(BODY)
@example(text_of([*GOOD, ("context", '{"a":1e400}')]))
@example(text_of([*GOOD, ("context", '{"a":"\\u0000"}')]))
def test_the_fast_reading_and_the_thorough_one_agree(text):
    raw = text.encode(errors="surrogatepass")

    assert outcome(wire.question_from, raw) == outcome(wire._question_by_shape, raw)  # noqa: SLF001 - the definition


@given(some.lists(some.lists(FIELD, max_size=5).map(text_of), max_size=3), some.lists(FIELD, max_size=2))
def test_the_two_readings_of_a_batch_agree(items, defaults):
    raw = f'{{"defaults":{text_of(defaults)},"questions":[{",".join(items)}]}}'.encode(errors="surrogatepass")

    def items_of(read):
        found = outcome(read, raw)
        if isinstance(found, tuple):
            return found
        return [(each.code, each.problems) if isinstance(each, BadQuestion) else each for each in found]

    assert items_of(wire.questions_from) == items_of(wire._questions_by_shape)  # noqa: SLF001 - the definition


def test_a_batch_has_its_own_problems_and_those_of_its_items():
    body = {
        "defaults": {"user": "adam", "workspace": "acme"},
        "questions": [{"action": "a"}, {"action": 1}, {}, "x", {"action": "a", "mode": "consume"}],
    }

    answers: list[Any] = wire.questions_from(json.dumps(body).encode())
    first, *others = answers

    assert (first.user, first.workspace, first.action) == ("adam", "acme", "a")
    assert [(each.code, [problem.pointer for problem in each.problems]) for each in others] == [
        ("invalid_request", ["/questions/1/action"]),
        ("invalid_request", ["/questions/2/action"]),
        ("invalid_request", ["/questions/3"]),
        ("mode_not_batched", ["/questions/4/mode"]),
    ]


def test_an_item_takes_from_the_defaults_whole_fields_only():
    body = {
        "defaults": QUESTION | {"amounts": {"minutes": 5}},
        "questions": [{}, {"amounts": {"scenarios": 1}}],
    }

    actual = [getattr(each, "amounts", each) for each in wire.questions_from(json.dumps(body).encode())]

    assert actual == [{"minutes": 5}, {"scenarios": 1}]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/questions"]),
        ({"questions": []}, ["/questions"]),
        ({"questions": [QUESTION] * 1001}, ["/questions"]),
        ({"questions": QUESTION}, ["/questions"]),
        ({"questions": [QUESTION], "default": {}}, ["/default"]),
        ({"questions": [QUESTION], "defaults": {"user": 1, "x": 2}}, ["/defaults/user", "/defaults/x"]),
        ({"questions": [QUESTION], "defaults": {"mode": "consume"}}, ["/defaults/mode"]),
        ([], [""]),
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(body, pointers):
    assert [pointer for pointer, _ in problems_of(body, read=wire.questions_from)] == pointers


def test_a_repeated_name_in_a_batch_is_found_wherever_it_is():
    item = b'{"user":"a","workspace":"w","action":"x"}'

    assert problems_of(b'{"questions":[%s],"questions":[%s]}' % (item, item), read=wire.questions_from) == [
        ("/questions", "is there more than once")
    ]
    assert problems_of(
        b'{"questions":[%s],"defaults":{"user":"a","user":"b"}}' % item, read=wire.questions_from
    ) == [("/defaults/user", "is there more than once")]
    [_, second] = wire.questions_from(
        b'{"questions":[%s,{"user":"a","user":"b","workspace":"w","action":"x"}]}' % item
    )
    assert isinstance(second, BadQuestion)
    assert [problem.pointer for problem in second.problems] == ["/questions/1/user"]
