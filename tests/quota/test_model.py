"""Whatever is asked in whatever order, the real database and a model of plain numbers agree at each step."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sidecar.errors import (
    BadQuestion,
    CommitExceedsReservation,
    IdempotencyKeyReused,
    RefundExceedsUse,
    ReservationExpired,
    ReservationSettled,
    SidecarError,
    UnknownIdempotencyKey,
)
from tests.effort import tries
from tests.quota.model import Model

pytestmark = pytest.mark.postgres

EXAMPLES, STEPS = tries(80, usual=20), 40
TAKES = {
    "record": ("minutes",),
    "unlock": ("lifetime",),
    "tour": ("lifetime", "minutes"),
    "create": ("projects",),
    "build": ("projects", "rooms"),
}
PLANS = ["small", "large", "endless"]
keys = st.none() | st.sampled_from(["k1", "k2", "k3", "k4"])
resources = st.none() | st.sampled_from(["r1", "r2"])
amounts = st.integers(1, 6)
questions = st.sampled_from(sorted(TAKES)).flatmap(
    lambda action: st.tuples(st.just(action), st.fixed_dictionaries(dict.fromkeys(TAKES[action], amounts)))
)
OUTCOMES: dict[type[SidecarError], str | None] = {
    BadQuestion: "nothing",
    CommitExceedsReservation: "exceeds",
    ReservationSettled: "settled",
    ReservationExpired: "expired",
    RefundExceedsUse: None,
    UnknownIdempotencyKey: "unknown",
}


class Quota(RuleBasedStateMachine):
    place: Any  # set by the test
    holds = Bundle("holds")

    @initialize(plan=st.sampled_from(PLANS))
    def begin(self, plan):
        self.at = self.place.workspace(plan, olivia="owner", mia="member")
        self.model = Model(self.place.catalog, plan)

    @rule(
        target=holds,
        mode=st.sampled_from(["consume", "reserve"]),
        question=questions,
        key=keys,
        resource=resources,
    )
    def ask(self, mode, question, key, resource):
        action, wanted = question
        asked = (mode, action, wanted, key, resource)
        expected = self.model.ask(*asked)
        check = self.place.ask(action, self.at, "check", amounts=wanted)
        assert check.allowed == (self.model.may(wanted) == "taken")
        try:
            answer = self.place.ask(
                action, self.at, mode, amounts=wanted, idempotency_key=key, resource=resource
            )
        except IdempotencyKeyReused:
            assert expected == "key_reused"
            return multiple()

        if not answer.allowed:
            assert answer.verdict.reason == expected
            return multiple()
        assert expected == ("replayed" if answer.replayed else "taken")
        if answer.replayed:
            self._is_told_what_is_so(answer, key)
            return multiple()
        assert check.allowed
        held = answer.reservation.id if answer.reservation else None
        self.model.took(*asked, by=answer.decision_id, reservation=held)
        for meter, quota in answer.quota.items():
            assert (quota.limit, quota.used, quota.reserved) == (
                self.model.limit(meter),
                self.model.used[meter],
                self.model.reserved(meter),
            )
            assert quota.limit is None or quota.used + quota.reserved <= quota.limit
        return held or multiple()

    def _is_told_what_is_so(self, answer, key):
        """A repeat, though it is of another state than its first answer was of."""
        if answer.reservation is not None:
            assert answer.reservation.state == self.model.holds[answer.reservation.id].state
        if key is not None and self.model.stands(key) and self.model.has_changed(key):
            for meter, quota in answer.quota.items():
                assert (quota.limit, quota.used, quota.reserved) == (
                    self.model.limit(meter),
                    self.model.used[meter],
                    self.model.reserved(meter),
                )

    @rule(id_=holds, share=st.sampled_from(["all", "less", "more", "nothing of the first", "nothing"]))
    def commit(self, id_, share):
        hold = self.model.holds[id_]
        change = {"less": -1, "more": 1}.get(share, 0)
        wanted = {meter: max(1, amount + change) for meter, amount in hold.amounts.items() if amount}
        if share == "nothing":
            wanted = dict.fromkeys(wanted, 0)
        elif share == "nothing of the first":
            wanted[min(wanted)] = 0
        whole = {**hold.amounts, **wanted}
        expected = self.model.may_commit(hold, whole)

        outcome = self._outcome(lambda: self.place.commit(id_, wanted if share != "all" else None))

        if isinstance(outcome, str):
            assert outcome == expected
            return
        assert expected == ("replayed" if outcome.replayed else "taken")
        if expected == "taken":
            assert outcome.committed == whole
            self.model.committed(hold, whole)

    @rule(id_=holds)
    def release(self, id_):
        hold = self.model.holds[id_]

        outcome = self._outcome(lambda: self.place.release(id_))

        if hold.state == "committed":
            assert outcome == "settled"
            return
        if hold.state == "held":
            hold.state = "released"
        assert (outcome.replayed, outcome.state) == (hold.given_up, hold.state)
        hold.given_up = True

    @rule(id_=consumes(holds))
    def expire(self, id_):
        self.place.expire(id_)
        if self.model.holds[id_].state == "held":
            self.model.holds[id_].state = "expired"

    @rule(target=holds, id_=consumes(holds))
    def expire_and_come_late(self, id_):
        self.place.expire(id_)
        if self.model.holds[id_].state == "held":
            self.model.holds[id_].state = "expired"
        return id_

    @rule(key=keys.filter(bool), amount=st.none() | amounts)
    def refund(self, key, amount):
        known = self.model.keys.get(key)
        wanted = None if amount is None or not known else dict.fromkeys(TAKES[known.asked[1]], amount)

        outcome = self._outcome(lambda: self.place.refund(self.at, key, wanted))

        if known is None:
            assert outcome == "unknown"
            return
        expected = self.model.refunded(key, wanted)
        assert (outcome if outcome is None else not outcome.replayed) == expected

    @rule(meter=st.sampled_from(["projects", "rooms"]), resource=resources.filter(bool))
    def give_back(self, meter, resource):
        amount = self.model.given_back(meter, resource)

        back = self.place.give_back(self.at, meter, resource)

        assert (back.released, back.replayed) == ({meter: amount}, amount == 0)

    @rule(plan=st.sampled_from(PLANS))
    def change_plan(self, plan):
        self.place.set_plan(self.at, plan)
        self.model.plan = plan

    @rule(
        meter=st.sampled_from(["minutes", "projects"]),
        limit=st.sampled_from(["null", "0", "7", '"unlimited"']),
    )
    def override(self, meter, limit):
        self.place.sql(
            "SELECT authz.set_overrides(%s, '{}', jsonb_build_object(%s::text, %s::jsonb))",
            self.at.slug,
            meter,
            limit,
        )
        self.model.overrides.pop(meter, None)
        if limit != "null":
            self.model.overrides[meter] = int(limit) if limit.isdigit() else None

    @rule(role=st.sampled_from([None, "reader", "member", "member"]))
    def change_role(self, role):
        self.place.sql(
            "DELETE FROM authz.workspace_memberships WHERE user_id = 'mia' AND workspace_id = %s",
            self.at.id,
        )
        if role:
            self.place.sql(
                "INSERT INTO authz.workspace_memberships VALUES (%s, 'mia', %s)",
                self.at.id,
                role,
            )
        self.model.role = role

    @invariant()
    def the_figures_are_those_of_the_model(self):
        if not hasattr(self, "at"):
            return
        [facts] = self.place.facts.facts([("olivia", self.at.slug)], deadline=float("inf"))
        for meter, used in self.model.used.items():
            assert (facts.usage[meter].used, facts.usage[meter].reserved) == (
                used,
                self.model.reserved(meter),
            ), meter

    @invariant()
    def every_counter_is_the_sum_of_its_ledger(self):
        if hasattr(self, "at"):
            assert self.place.sql("SELECT * FROM authz.miscounts(%s)", self.at.id) == []
            # No constraint holds this: it would cost every consume (0024).
            assert {kind for _, _, kind in self.place.ledger_of(self.at)} <= {"consume", "commit", "release"}

    @staticmethod
    def _outcome(act):
        try:
            return act()
        except tuple(OUTCOMES) as error:
            return OUTCOMES[type(error)]


def test_any_interleaving_agrees_with_the_model(place):
    machine = type("QuotaHere", (Quota,), {"place": place})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_check_says_yes_exactly_when_consume_alone_would(place):
    """Near each limit, with any of it reserved, in each plan, with a limit of its own or none."""
    figures = itertools.product(
        [0, 8, 9, 10, 11], [0, 1], [1, 2, 3], ["small", "large"], ["null", "10", "9", "0"]
    )
    asked = []
    for used, reserved, amount, plan, limit in figures:
        at = place.workspace("endless")
        if used:
            place.ask("record", at, amounts={"minutes": used})
        if reserved:
            place.ask("record", at, "reserve")
        place.set_plan(at, plan)
        place.sql(
            "SELECT authz.set_overrides(%s, '{}', jsonb_build_object('minutes', %s::jsonb))",
            at.slug,
            limit,
        )

        check = place.ask("record", at, "check", amounts={"minutes": amount})
        consume = place.ask("record", at, amounts={"minutes": amount})

        assert (check.allowed, check.verdict) == (consume.allowed, consume.verdict)
        asked.append(check.allowed)
    assert {True, False} == set(asked)
