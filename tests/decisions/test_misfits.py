"""A verdict that cannot be about the question is an outage, whichever way the answer leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.cells import STATUSES, cells
from sidecar.decisions.room import amounts_of
from sidecar.decisions.situation import situation_bytes
from sidecar.decisions.steps import run
from sidecar.decisions.timings import Timings
from sidecar.engines.memo import MemoisedEngine
from sidecar.errors import EngineMisbehaved, NotAMember
from sidecar.quota.decider import Decider
from sidecar.quota.spending import Spending
from tests.decisions.test_authorizer import Answers, a_verdict
from tests.fakes import FactsInMemory
from tests.ledger_in_memory import LedgerInMemory
from tests.values import FAR_AWAY, a_question, some_facts, the_catalog

CATALOG = the_catalog()
CELLS = frozenset(map(situation_bytes, cells(CATALOG)))
PLAIN = [name for name in CATALOG.declared_actions if not CATALOG.actions[name].takes]
UNDECLARED = "king"  # a role that no catalog has: nobody's


def grants_all(situation):
    """With the charges that belong to it, so that only who is asked about can be wrong."""
    asked = json.loads(situation)
    action, plan = CATALOG.actions.get(asked["action"]), CATALOG.plans.get(asked["plan"])
    limits = plan.limits if plan else {}
    return a_verdict(charges={meter: limits.get(meter) for meter in (action.takes if action else ())})


class Asked:
    """All ways in which an answer leaves, asked of one policy about the one member there may be."""

    def __init__(self, facts, policy=grants_all):
        self.store = FactsInMemory({("adam", "acme"): facts} if facts else {})
        memo = MemoisedEngine(Answers(policy), cells=CELLS)
        self.authorizer = Authorizer(
            catalog=CATALOG,
            context_fields=frozenset(),
            policy=memo,
            facts=self.store,
            recall=memo.recall,
        )
        ledger = LedgerInMemory(self.store, catalog=CATALOG)
        self.decider = Decider(self.authorizer, Spending(self.authorizer, ledger=ledger))
        self.facts = facts

    def decide(self, action, mode="check", **more):
        return run(self.decider.deciding(a_question(action, mode=mode, **more), deadline=FAR_AWAY))

    def many(self, action):
        [answer] = run(self.authorizer.deciding_many([a_question(action)], deadline=FAR_AWAY))
        return answer

    def kept(self, action):
        """As the lane asks, for what was asked before."""
        try:
            self.decide(action)
        except EngineMisbehaved:
            plainly = None
            if (facts := self.facts) is not None:
                plainly = SimpleNamespace(
                    role=facts.role, plan=facts.plan, status=facts.status, overrides=facts.feature_overrides
                )
            assert self.authorizer.kept_cell(action, plainly) is None
            question = a_question(action)
            amounts = amounts_of(question, catalog=CATALOG)
            decided = self.authorizer.decide_at_once(question, amounts, self.facts, timings=Timings())
            assert decided is None
            raise
        return True

    def ways(self):
        """Each with what it says of an action: true for a grant."""
        authorizer, far = self.authorizer, FAR_AWAY
        return {
            "check": self.decide,
            "consume": lambda action: self.decide(action, "consume"),
            "consume, once": lambda action: self.decide(action, "consume", idempotency_key="k"),
            "reserve": lambda action: self.decide(action, "reserve"),
            "many": self.many,
            "kept": self.kept,
            "actions": lambda action: action in authorizer.actions_of(a_question(), deadline=far),
            "members": lambda action: (
                authorizer.members_who_may(a_question(action), after=None, limit=9, deadline=far).users
            ),
            "workspaces": lambda action: (
                authorizer.workspaces_of("adam", action=action, after=None, limit=9, deadline=far).workspaces
            ),
            "entitlements": lambda action: authorizer.entitlements("adam", "acme", deadline=far).actions[
                action
            ],
            "features": lambda _: all(
                state.enabled
                for state in authorizer.features_of(
                    "adam", "acme", CATALOG.features, meters=(), deadline=far
                )[1].values()
            ),
        }


SAID_BEFORE_THE_POLICY_IS_ASKED = {
    "workspaces": (None, UNDECLARED),  # of none that is theirs
    "members": (None,),  # there are none
}
WAYS = list(Asked(None).ways())


def some_facts_of(role, plan, status, overrides):
    return some_facts(role=role, plan=plan, status=status, feature_overrides=overrides)


anybody = st.one_of(
    st.none(),
    st.builds(
        some_facts_of,
        st.sampled_from([*CATALOG.roles, UNDECLARED]),
        st.sampled_from([*CATALOG.plans, "gone"]),
        st.sampled_from(STATUSES),
        st.dictionaries(st.sampled_from(list(CATALOG.features)), st.booleans(), max_size=2),
    ),
)


@pytest.mark.parametrize("way", WAYS)
@given(facts=anybody, action=st.sampled_from(PLAIN))
def test_no_way_out_has_a_grant_without_a_role(way, facts, action):
    is_member = facts is not None and facts.role in CATALOG.roles
    ask = Asked(facts).ways()[way]

    if is_member:
        assert ask(action)
    elif (facts.role if facts else None) in SAID_BEFORE_THE_POLICY_IS_ASKED.get(way, ()):
        assert not ask(action)
    else:
        with pytest.raises((EngineMisbehaved, NotAMember)):
            ask(action)


@pytest.mark.parametrize("action", ["scenarios.create", "recording.start", "no.such.action"])
@pytest.mark.parametrize("mode", ["check", "consume", "reserve"])
@pytest.mark.parametrize("facts", [None, some_facts(role=UNDECLARED)], ids=["stranger", "undeclared"])
def test_nothing_is_taken_for_who_has_no_role(facts, mode, action):
    asked = Asked(facts)

    with pytest.raises(EngineMisbehaved, match="no role in the workspace"):
        asked.decide(action, mode)

    assert asked.store.members == ({("adam", "acme"): facts} if facts else {})


def test_who_lost_their_role_is_not_granted_what_they_once_took():
    def denies_who_has_none(situation):
        if b'"role":null' in situation:
            return a_verdict("denied_by_policy", 403, detail="a rule")
        return grants_all(situation)

    asked = Asked(some_facts(), denies_who_has_none)
    once = {"mode": "consume", "idempotency_key": "k"}
    assert asked.decide("recording.start", **once)
    assert asked.decide("recording.start", **once).replayed

    asked.store.members["adam", "acme"] = replace(asked.store.members["adam", "acme"], role=UNDECLARED)

    assert not asked.decide("recording.start", **once)


def wants_roles(*roles):
    return a_verdict("role_insufficient", 403, needs_roles=roles)


def wants_feature(feature):
    return a_verdict("feature_not_in_plan", 403, needs_feature=feature)


@pytest.mark.parametrize(
    ("verdict", "facts", "said"),
    [
        (a_verdict("feature_not_in_plan", 402, upgrade=("gold",), needs_feature="analytics"), ..., "gold"),
        (wants_roles("king"), ..., "king"),
        (wants_roles(), ..., "no role"),
        (wants_roles("owner"), None, "owner"),
        (wants_roles("owner"), some_facts(role=UNDECLARED), "owner"),
        (wants_feature("flying"), ..., "flying"),
        (wants_feature("video_avatar"), ..., "video_avatar"),
    ],
)
def test_what_the_catalog_does_not_have_is_an_outage_and_no_defect(verdict, facts, said):
    facts = some_facts() if facts is ... else facts
    asked = Asked(facts, lambda _: verdict)

    for way in ("check", "many", "actions"):
        with pytest.raises(EngineMisbehaved, match=said):
            asked.ways()[way]("analytics.view")


def test_a_denial_of_a_stranger_in_any_other_words_stays_a_denial():
    asked = Asked(None, lambda _: a_verdict("denied_by_policy", 403, detail="a rule"))

    assert not asked.decide("platform.use")
    assert not asked.decide("scenarios.create", "consume")
