"""Answers that are filled in have the bytes of rendered ones, for every cell and many facts."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from time import monotonic
from types import SimpleNamespace

import pytest

from sidecar.api import problems, rendered, wire
from sidecar.api.log_lines import note_decision
from sidecar.api.request import Request
from sidecar.api.v1.plain import PlainChecks
from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.cells import cells
from sidecar.decisions.model import Question, Reservation, Usage
from sidecar.decisions.situation import situation_bytes
from sidecar.decisions.timings import Timings
from sidecar.engines.memo import MemoisedEngine
from sidecar.identity.callers import Caller
from sidecar.quota.decider import Decider
from sidecar.text.encoding import encoded
from tests.api.stage import PolicyInPython, a_stage
from tests.fakes import FactsInMemory
from tests.values import FAR_AWAY, some_facts, the_catalog

CATALOG = the_catalog()
FORMS = {
    rendered.native: wire.document_about,
    rendered.authzen: rendered.authzen_document,
    rendered.denial: problems.denial,
    rendered.outcome: rendered.outcome_of,
}


class AlsoARule(PolicyInPython):
    """One rule of the company's own, whose detail would be a place to fill if it was not escaped."""

    def verdict(self, situation, /, *, deadline):
        verdict = super().verdict(situation, deadline=deadline)
        if verdict.allow and b'"data.' in situation:
            return replace(
                verdict,
                allow=False,
                reason="denied_by_policy",
                status=403,
                charges={},
                detail='100%(id)b "%d"',
            )
        return verdict


def an_authorizer():
    memo = MemoisedEngine(AlsoARule(CATALOG), cells=map(situation_bytes, cells(CATALOG)))
    for cell in memo.unknown:
        memo.verdict(cell, deadline=FAR_AWAY)
    return Authorizer(
        catalog=CATALOG,
        context_fields=frozenset({"ip"}),
        policy=memo,
        facts=FactsInMemory({}),
        recall=memo.recall,
    )


AUTHORIZER = an_authorizer()


def decided(question, facts, *, at_once):
    amounts = question.amounts or AUTHORIZER.catalog.actions[question.action].takes
    return (AUTHORIZER.decide_at_once if at_once else AUTHORIZER.decide_from)(
        question, amounts, facts, timings=Timings(), **({} if at_once else {"deadline": FAR_AWAY})
    )


def some_usage(chance):
    """Around every limit there is, and far from it."""
    limits = [limit for plan in CATALOG.plans.values() for limit in plan.limits.values() if limit is not None]
    resets = datetime(2026, 12, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**6))
    return {
        meter: Usage(
            used=max(0, chance.choice(limits) + chance.choice((-2, -1, 0, 1, 10**9))),
            reserved=chance.choice((0, 0, 1, 7)),
            resets_at=chance.choice((None, resets)),
        )
        for meter in CATALOG.meters
    }


def facts_of(chance, role, plan, status, action):
    feature = CATALOG.actions[action].feature
    return replace(
        some_facts(role=role, plan=plan, status=status),
        feature_overrides=chance.choice(({}, {feature: True}, {feature: False})) if feature else {},
        limit_overrides=chance.choice(({}, {meter: chance.choice((0, 5, None)) for meter in CATALOG.meters})),
        usage=some_usage(chance),
        at=datetime(2026, 11, 28, 7, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**6)),
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_is_filled_in_is_what_would_be_rendered(seed):
    chance = random.Random(seed)  # noqa: S311 - no secret
    known = 0
    for role, plan, status, action in product(
        CATALOG.roles, CATALOG.plans, ("active", "suspended"), CATALOG.actions
    ):
        facts = facts_of(chance, role, plan, status, action)
        amounts = chance.choice((None, dict.fromkeys(CATALOG.actions[action].takes, chance.choice((1, 3)))))
        question = Question(user="u", workspace="w", action=action, amounts=amounts)
        first, again = (decided(question, facts, at_once=at_once) for at_once in (False, True))
        assert again == replace(first, decision_id=again.decision_id)
        others = facts_of(chance, role, plan, status, action)
        other = decided(question, others, at_once=True)
        for decision in (first, again, other, replace(again, reservation=None, quota=first.quota)):
            if decision is None:  # in another cell, that nobody has asked about
                continue
            known += decision.texts is not None
            for text, document_of in FORMS.items():
                if text is not rendered.denial or not decision.allowed:
                    assert text(decision) == encoded(document_of(decision))
    assert known > 1_000


def test_a_stranger_gets_the_same_words_for_every_action():
    for action in [*CATALOG.actions, "no.action"]:
        question = Question(user="u%(id)b", workspace="w", action=action)
        for at_once in (False, True):
            decision = AUTHORIZER.decide_at_once(question, {}, None, timings=Timings()) if at_once else None
            decision = decision or AUTHORIZER.decide_from(
                question, {}, None, deadline=FAR_AWAY, timings=Timings()
            )
            assert decision.texts is not None
            assert rendered.native(decision) == encoded(wire.document_about(decision))


@pytest.mark.parametrize(
    ("role", "plan", "action", "context"),
    [
        ("janitor", "team", "platform.use", {}),
        ("admin", "gold", "platform.use", {}),
        ("admin", "team", "no.action", {}),
        ("admin", "team", "platform.use", {"ip": "10.0.0.1"}),
    ],
    ids=["an undeclared role", "an undeclared plan", "an undeclared action", "a context that counts"],
)
def test_what_anybody_can_make_up_is_not_kept(role, plan, action, context):
    question = Question(user="u", workspace="w", action=action, context=context)
    facts = some_facts(role=role, plan=plan)
    for _ in range(3):
        assert AUTHORIZER.decide_at_once(question, {}, facts, timings=Timings()) is None
        decision = AUTHORIZER.decide_from(question, {}, facts, deadline=FAR_AWAY, timings=Timings())
        assert decision.texts is None
        assert rendered.native(decision) == encoded(wire.document_about(decision))


def test_a_reservation_and_a_replay_are_rendered_as_they_are():
    question = Question(user="u", workspace="w", action="platform.use")
    decided(question, some_facts(), at_once=False)
    decision = decided(question, some_facts(), at_once=True)
    held = Reservation(id="r", expires_at=decision.at, amounts={"minutes": 1}, state="held")
    for changed in (replace(decision, reservation=held), replace(decision, replayed=True)):
        for text, document_of in FORMS.items():
            if text is not rendered.denial:
                assert text(changed) == encoded(document_of(changed))


def test_nothing_is_kept_of_a_verdict_that_is_not_known_for_good():
    authorizer = Authorizer(
        catalog=CATALOG, context_fields=frozenset(), policy=PolicyInPython(CATALOG), facts=FactsInMemory({})
    )
    question = Question(user="u", workspace="w", action="platform.use")
    facts = some_facts()
    authorizer.decide_from(question, {}, facts, deadline=FAR_AWAY, timings=Timings())
    assert authorizer.decide_at_once(question, {}, facts, timings=Timings()) is None


def test_a_plain_check_is_answered_with_the_same_bytes_as_any_other_and_logged_alike():
    """Once its cell has been rendered; before that, and for whatever is not plain, it is not answered."""
    stage = a_stage({}, tokens={})
    lines: list[bytes] = []
    service = replace(
        stage.service,
        authorizer=AUTHORIZER,
        decider=Decider(AUTHORIZER, stage.service.spending),
        log=SimpleNamespace(note=lines.append),
    )
    plain, chance, answered = PlainChecks(service), random.Random(5), 0  # noqa: S311 - no secret
    caller = Caller(name='back"end', scopes=frozenset({"authorize"}))
    for role, plan, status, action in product(
        [*CATALOG.roles, "janitor"], [*CATALOG.plans, "gold"], ("active", "suspended"), CATALOG.actions
    ):
        facts = chance.choice((facts_of(chance, role, plan, status, action),) * 9 + (None,))
        raw = encoded({"user": "u%é", "workspace": "w", "action": action})
        asked = plain.question_in(raw)
        assert (asked is None) == bool(CATALOG.actions[action].takes)
        if asked is None:
            continue
        question = wire.question_from(raw)
        assert asked == (question.user, question.workspace, question.action)
        decision = AUTHORIZER.decide_from(question, {}, facts, deadline=FAR_AWAY, timings=Timings())
        expected = rendered.native(decision), rendered.outcome(decision)
        lines.clear()
        text = plain.answer(asked, facts, caller=caller, request_id="r-1", began=monotonic())
        if decision.texts is None:
            assert (text, lines) == (None, [])
            continue
        answered += 1
        own, theirs = json.loads(text or b""), json.loads(expected[0])
        for document in (own, theirs):
            del document["decision_id"]
            if facts is None:  # a stranger learns the time of the answer
                del document["facts"]["at"]
        assert own == theirs
        assert len(text or b"") == len(expected[0])
        [line] = lines
        request = Request(id="r-1", caller=caller)
        note_decision(service, request, "authorize", question, decision)
        assert without_times(line) == without_times(lines[1])
    assert answered > 100


def without_times(line: bytes) -> dict[str, object]:
    return {
        name: value
        for name, value in json.loads(line).items()
        if name not in {"at", "facts_at", "decision_id", "ms"}
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"user":"u","workspace":"w"}',
        b'{"user":"u","workspace":"w","action":"platform.use","mode":"check"}',
        b'{"user":"u","workspace":"w","action":"platform.use","context":{}}',
        b'{"user":"u","user":"v","workspace":"w","action":"platform.use"}',
        b'{"user":"","workspace":"w","action":"platform.use"}',
        b'{"user":"\\u0000","workspace":"w","action":"platform.use"}',
        b'{"user":"\\ud800","workspace":"w","action":"platform.use"}',
        b'{"user":"u","workspace":"w","action":"nothing.declared"}',
        b'{"user":7,"workspace":"w","action":"platform.use"}',
        b'{"user":"%b","workspace":"w","action":"platform.use"}' % (b"u" * 257),
    ],
)
def test_what_is_not_plain_is_left_to_authorize(body):
    assert PlainChecks(a_stage({}).service).question_in(body) is None
