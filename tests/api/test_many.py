"""Many questions at once: what is plain is read and filled in, with the answers of the general way."""

from __future__ import annotations

import json
import random
from itertools import product
from typing import Any

import pytest

from sidecar.api import wire
from sidecar.api.authzen import wire as authzen_wire
from sidecar.decisions.model import Question
from sidecar.errors import BadQuestion
from sidecar.text.encoding import encoded
from tests.api.known import AUTHORIZER, CATALOG, FACTS, facts_of
from tests.api.stage import BACKEND
from tests.api.test_plain import Asking, Sent, masked

ONES = {"user": "u%é", "workspace": "w", "action": "platform.use"}
PARTS = {
    "subject": {"type": "user", "id": "u%é"},
    "action": {"name": "platform.use"},
    "resource": {"type": "workspace", "id": "w"},
}
VARIES = {"at", "ms", "facts_at", "decision_id"}
UUID = "0E9B9A5E-3B0C-4B0E-8F0E-0E9B9A5E3B0C"


def said(read, raw):
    try:
        found = read(raw)
    except BadQuestion as bad:
        return bad.code, bad.problems
    items = found.items if isinstance(found, authzen_wire.Batch) else found
    if not isinstance(items, list):
        return found
    semantic = getattr(found, "semantic", None)
    return semantic, [(each.code, each.problems) if isinstance(each, BadQuestion) else each for each in items]


def batch(raw):
    """What a batch asks, whether it was read as plain or not."""
    return [
        Question(user=each[0], workspace=each[1], action=each[2]) if isinstance(each, tuple) else each
        for each in wire.batch_from(raw)
    ]


def changed(chance, fields):
    """Mostly as they are."""
    odd: tuple[Any, ...] = (
        None,
        "",
        7,
        {},
        "a:b",
        "x" * 257,
        "é\\",
        {"type": "user"},
        {"type": "user", "id": "a", "more": 1},
    )
    fields = {name: each for name, each in fields.items() if chance.random() < 0.9}
    if chance.random() < 0.1:
        fields[chance.choice([*fields, "mode", "context", "properties", "colour"])] = chance.choice(odd)
    return fields


def bodies(ones, many, *, defaults, count=4_000):
    """Batches, of which about one half is plain; some with a name twice, or with an odd escape."""
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(count):
        whole = chance.random() < 0.5
        items = [ones if whole else changed(chance, ones) for _ in range(chance.randrange(4))]
        body: dict[str, Any] = {many: items}
        if chance.random() < 0.7:
            body |= defaults(ones if whole else changed(chance, ones))
        if chance.random() < 0.2:
            body["options"] = chance.choice(
                [{"evaluations_semantic": "permit_on_first_permit"}, {"evaluations_semantic": "x"}, {}, None]
            )
        raw = encoded(body)
        if chance.random() < 0.1:
            raw = raw.replace(
                b"%", chance.choice((b"\\u0000", b"\\ud800", b"\\u00e9", b'","user":"', b"\xff")), 1
            )
        yield raw


@pytest.mark.parametrize(
    ("read", "module", "plain", "raws"),
    [
        (
            batch,
            wire,
            "plain_questions_in",
            bodies({**ONES, "workspace": UUID}, "questions", defaults=lambda each: {"defaults": each}),
        ),
        (
            authzen_wire.evaluations_from,
            authzen_wire,
            "_plain_batch_in",
            bodies(PARTS, "evaluations", defaults=lambda each: each),
        ),
    ],
    ids=["batch", "evaluations"],
)
def test_what_is_read_as_plain_is_what_the_shapes_read(read, module, plain, raws, monkeypatch):
    plainly = getattr(module, plain)
    were_plain = 0
    for raw in raws:
        found = said(read, raw)
        were_plain += plainly(raw) is not None
        with monkeypatch.context() as patch:
            patch.setattr(module, plain, lambda _: None)
            assert found == said(read, raw), raw
    assert 1_000 < were_plain < 3_500


def test_what_takes_long_to_read_is_not_read_on_the_loop():
    plain, colon = ({"questions": [{**ONES, "user": user}]} for user in ("u", "u:"))
    assert wire.plain_questions_in(encoded(plain), quickly=True) == [("u", "w", "platform.use")]
    assert wire.plain_questions_in(encoded(colon), quickly=True) is None
    assert wire.batch_from(encoded(colon)) == [("u:", "w", "platform.use")]


def without_times(line):
    document = json.loads(line + b"}")  # the log closes it
    return {name: each for name, each in document.items() if name not in VARIES}


def times_of_members(reply):
    [answers] = json.loads(reply[2]).values()
    return [
        about["facts"]["at"] if "role" in about else None
        for about in (answer.get("context", answer) for answer in answers)
    ]


def sent(kind, questions, **more):
    typed = {"Authorization": f"Bearer {BACKEND}", "Content-Type": "application/json", "X-Request-ID": "r"}
    if kind == "batch":
        return Sent("POST", "/v1/authorize/batch", typed, encoded({"questions": questions}))
    items = [
        {
            "subject": {"type": "user", "id": each.pop("user")},
            "resource": {"type": "workspace", "id": each.pop("workspace")},
            "action": {"name": each.pop("action")},
            "context": each,
        }
        for each in questions
    ]
    for item in items:
        if not item["context"]:
            del item["context"]
    return Sent("POST", "/access/v1/evaluations", typed, encoded({"evaluations": items, **more}))


@pytest.mark.parametrize(
    ("kind", "semantic"),
    [
        ("batch", None),
        ("evaluations", "execute_all"),
        ("evaluations", "deny_on_first_deny"),
        ("evaluations", "permit_on_first_permit"),
    ],
)
def test_many_questions_are_answered_logged_and_counted_as_in_the_general_way(kind, semantic, monkeypatch):
    """Plain ones, and between them some that take, are unknown, are no questions or have a context."""
    asking, chance = Asking(), random.Random(11)  # noqa: S311 - no secret
    hit, were_plain = id(asking.metrics._memo["hit"]), 0  # noqa: SLF001 - the memo of AUTHORIZER counts none
    members = {}
    asked: list[dict[str, Any]] = []
    for number, (role, plan, status, action) in enumerate(
        product(
            [*CATALOG.roles, "janitor"], [*CATALOG.plans, "gold"], ("active", "suspended"), CATALOG.actions
        )
    ):
        member = f"u{number}%", "w"
        if chance.random() < 0.9:
            members[member] = facts_of(chance, role, plan, status, action)
        also: dict[str, Any] = chance.choice([{}] * 8 + [{"amounts": {"gold": 1}}, {"ip": "10.0.0.1"}])
        if kind == "batch" and "ip" in also:
            also = {"context": also}
        user = "" if chance.random() < 0.02 else member[0]
        asked.append({"user": user, "workspace": "w", "action": action, **also})
    chance.shuffle(asked)
    step = 150 if semantic in {None, "execute_all"} else 9
    for start in range(0, len(asked), step):
        options = {} if semantic is None else {"options": {"evaluations_semantic": semantic}}
        chunk = asked[start : start + step]
        names = [(each["user"], "w") for each in chunk]
        FACTS.members = {name: members[name] for name in names if name in members}
        request = sent(kind, [dict(each) for each in chunk], **options)
        asking.by_endpoint(request)  # so that each cell has its texts
        asking.lines.clear()
        asking.counted()
        reply, counted, lines = asking.by_endpoint(request), asking.counted(), [*asking.lines]
        asking.lines.clear()
        with monkeypatch.context() as patch:
            patch.setattr(AUTHORIZER, "_read_plainly", None)
            general, by_general = asking.by_endpoint(request), asking.counted()
        were_plain += counted.pop(hit, 0)
        assert masked(reply, of_stranger=True) == masked(general, of_stranger=True)
        assert counted == by_general
        assert times_of_members(reply) == times_of_members(general)
        assert list(map(without_times, lines)) == list(map(without_times, asking.lines))
        asking.lines.clear()
    assert were_plain > (300 if step > 9 else 40)
    assert json.loads(reply[2])
