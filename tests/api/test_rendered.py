"""Answers that are filled in have the bytes of rendered ones, for every cell and many facts."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest

from sidecar.api import problems, rendered, wire
from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.model import Question, Reservation
from sidecar.decisions.timings import Timings
from sidecar.text.encoding import encoded
from tests.api.known import AUTHORIZER, CATALOG, facts_of
from tests.api.stage import PolicyInPython
from tests.fakes import FactsInMemory
from tests.values import FAR_AWAY, some_facts

FORMS = {
    rendered.native: wire.document_about,
    rendered.authzen: rendered.authzen_document,
    rendered.denial: problems.denial,
    rendered.outcome: rendered.outcome_of,
}


def decided(question, facts, *, at_once):
    amounts = question.amounts or AUTHORIZER.catalog.actions[question.action].takes
    return (AUTHORIZER.decide_at_once if at_once else AUTHORIZER.decide_from)(
        question, amounts, facts, timings=Timings(), **({} if at_once else {"deadline": FAR_AWAY})
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
