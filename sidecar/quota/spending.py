"""Questions that spend quota: decided like any other, then charged, if the ledger still has capacity.

The policy decides, the ledger arbitrates. What the policy grants is charged in one call, which checks again
whether there is capacity and whether anything has changed. What that call refuses goes back to the policy,
which words the denial.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.decisions.model import Question
from sidecar.decisions.room import amounts_of, quotas_of
from sidecar.decisions.steps import Wait, run
from sidecar.decisions.timings import Timings
from sidecar.errors import BadQuestion, EngineMisbehaved, FieldFault, ReservationExpired, UsageContended
from sidecar.quota.model import (
    AlreadyExists,
    Charge,
    Charged,
    Conflict,
    Consume,
    Counter,
    Expired,
    Hold,
    LateCommit,
    NoCapacity,
    Replayed,
)
from sidecar.quota.ratelimit import with_ends
from sidecar.text.ids import fresh_id
from sidecar.text.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Facts, Quota, Verdict
    from sidecar.decisions.steps import Steps
    from sidecar.quota.model import GivenBack, Settlement, UsageNow
    from sidecar.quota.ports import Ledger

_canonical = json.JSONEncoder(sort_keys=True).encode  # json.dumps would make an encoder for each
_TRIES = 2  # if the facts change while a question is decided, it is decided once more


class Spending:
    """*timings* of its methods count what each question waits for, also when it fails."""

    def __init__(self, authorizer: Authorizer, *, ledger: Ledger) -> None:
        self._authorizer = authorizer
        self._catalog = authorizer.catalog
        self._ledger = ledger

    def decide(
        self,
        question: Question,
        *,
        deadline: float,
        timings: Timings | None = None,
        late: str | None = None,
    ) -> Decision:
        """`deciding`, on this thread."""
        return run(self.deciding(question, deadline=deadline, timings=timings, late=late))

    def deciding(
        self,
        question: Question,
        *,
        deadline: float,
        timings: Timings | None = None,
        late: str | None = None,
    ) -> Steps[Decision]:
        """The question is in mode ``consume`` or ``reserve``; *late* is the expired reservation it commits.

        BadQuestion, IdempotencyKeyReused, UsageContended when nothing was charged since too many wanted it.
        """
        timings = timings or Timings()
        amounts = amounts_of(question, catalog=self._catalog)
        _refuse_counted(amounts, self._catalog)
        if late is None and question.mode == "consume" and not amounts and not question.idempotency_key:
            check = replace(question, mode="check")
            decision = yield from self._authorizer.deciding(check, deadline=deadline, timings=timings)
            return decision

        for _ in range(_TRIES):
            facts = yield from self._authorizer.reading(question, amounts, deadline=deadline, timings=timings)
            charged = yield from self._deciding_and_charging(
                question, amounts, facts, deadline=deadline, timings=timings, late=late
            )
            if charged is not None and not charged.allowed and late is None:
                charged = yield from self._authorizer.completing(
                    question, charged, amounts, deadline=deadline
                )
            if charged is not None:
                return charged
        raise UsageContended("the workspace has changed twice while one question was decided")

    def commit(
        self,
        reservation: str,
        amounts: Mapping[str, int] | None,
        *,
        deadline: float,
        timings: Timings | None = None,
    ) -> Settlement:
        """Within its time a commit settles a right already given. After it, it is a new question.

        What Ledger.commit raises, and ReservationExpired when the answer to the new question is no.
        """
        timings = timings or Timings()
        with _time_ledger(timings):
            outcome = self._ledger.commit(reservation, amounts, deadline=deadline)
        if not isinstance(outcome, Expired):
            return outcome

        question = Question(
            user=outcome.user,
            workspace=str(outcome.workspace_id),
            action=outcome.action,
            mode="consume",
            amounts=outcome.amounts,
            resource=outcome.resource,
        )
        try:
            decision = self.decide(question, deadline=deadline, timings=timings, late=reservation)
        except BadQuestion as error:  # the action takes other meters by now
            raise ReservationExpired(error.detail) from error
        if not decision.allowed:
            raise ReservationExpired(decision.message)
        with _time_ledger(timings):
            settled = self._ledger.commit(reservation, amounts, deadline=deadline)
        if isinstance(settled, Expired):
            raise UsageContended("the reservation was to be committed late, and was not")
        return replace(settled, replayed=decision.replayed, late=(question, decision))

    def release(self, reservation: str, *, deadline: float, timings: Timings | None = None) -> Settlement:
        with _time_ledger(timings):
            return self._ledger.release(reservation, deadline=deadline)

    def refund(
        self,
        workspace: str,
        key: str,
        amounts: Mapping[str, int] | None,
        *,
        deadline: float,
        timings: Timings | None = None,
    ) -> GivenBack:
        with _time_ledger(timings):
            return self._ledger.refund(workspace, key, amounts, deadline=deadline)

    def release_resource(
        self,
        workspace: str,
        meter: str,
        resource: str,
        *,
        deadline: float,
        timings: Timings | None = None,
    ) -> GivenBack:
        """BadQuestion unless *meter* is a level, which alone is given back by name."""
        known = self._catalog.meters.get(meter)
        if known is None or known.kind != "level":
            levels = tuple(name for name, each in self._catalog.meters.items() if each.kind == "level")
            what = "is not in the catalog" if known is None else "is not a level"
            near = nearest(meter, levels) if known is None else None
            fault = FieldFault(field=("meter",), detail=f'"{meter}" {what}', suggestion=near)
            if known is not None and known.is_counted:
                raise _not_consumable(fault)
            raise BadQuestion("only a level is given back by the name of a resource", faults=(fault,))
        with _time_ledger(timings):
            return self._ledger.release_resource(workspace, meter, resource, deadline=deadline)

    def quotas(self, now: UsageNow) -> dict[str, Quota]:
        return quotas_of(now.usage, now, catalog=self._catalog)

    def _deciding_and_charging(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts | None,
        *,
        deadline: float,
        timings: Timings,
        late: str | None,
    ) -> Steps[Decision | None]:
        """None: the facts have changed since, and the question must be decided again."""
        # A late commit needs room for what it takes, and may say 0 of some meters.
        needs = {meter: amount for meter, amount in amounts.items() if amount} if late else amounts
        decision = yield from self._authorizer.deciding_from(
            question, needs, facts, deadline=deadline, timings=timings
        )
        if (
            facts is None
            or facts.role not in self._catalog.roles
            or decision.verdict.reason == "not_a_member"
        ):
            return decision
        charge = self._charge_for(question, amounts, facts, decision, late=late)
        if not decision.allowed:
            decision = yield from self._denying(question, facts, decision, charge, deadline=deadline)
            return decision

        with _time_ledger(timings):
            outcome = yield Wait(self._ledger.charge, charge, deadline=deadline)
        match outcome:
            case Charged() as charged:
                return replace(
                    decision,
                    quota=with_ends(charged, charge.frees_at) if amounts else None,
                    reservation=charged.reservation,
                    at=charged.at,
                )
            case Replayed() | AlreadyExists() as known:
                return self._replay(decision, known)
            case NoCapacity(facts=fresh):
                denial = yield from self._authorizer.deciding_from(
                    question, needs, fresh, deadline=deadline, timings=timings
                )
                return None if denial.allowed else denial
            case Conflict.STALE:
                return None
            case Conflict.SETTLED:
                return replace(decision, replayed=True)
            case _:
                raise TypeError(f"a ledger answered {outcome!r}")

    def _denying(
        self, question: Question, facts: Facts, denial: Decision, charge: Charge, *, deadline: float
    ) -> Steps[Decision]:
        """Nothing is charged, but a duplicate of a request that was charged gets its earlier answer."""
        if isinstance(charge.purpose, LateCommit):  # never a duplicate
            return denial
        if charge.key is None and charge.resource is None:
            return denial
        with _time_ledger(denial.timings):
            known = yield Wait(self._ledger.find_replay, charge, deadline=deadline)
        if isinstance(known, AlreadyExists):
            # What exists needs no capacity. But whoever may not create it must not learn that it exists.
            denial = yield from self._authorizer.deciding_from(
                question, {}, facts, deadline=deadline, timings=denial.timings
            )
            return self._replay(denial, known) if denial.allowed else denial
        return denial if known is None else self._replay(denial, known)

    def _charge_for(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts,
        decision: Decision,
        *,
        late: str | None,
    ) -> Charge:
        charges = decision.verdict.charges if decision.allowed else dict.fromkeys(amounts)
        if charges.keys() != amounts.keys():
            raise EngineMisbehaved(
                f"{question.action} takes {sorted(amounts)}, charged are {sorted(charges)}"
            )
        purpose = _purpose(question, late=late)
        at_once = decision.allowed and isinstance(purpose, Consume)
        return Charge(
            workspace_id=facts.workspace_id,
            token=facts.token,
            user=question.user,
            action=question.action,
            amounts=amounts,
            limits=charges,
            resource=question.resource,
            key=question.idempotency_key,
            fingerprint=_fingerprint(question, self._catalog),
            purpose=purpose,
            decision_id=decision.decision_id,
            revision=decision.verdict.revision,
            role=facts.role,
            plan=facts.plan,
            message=decision.message,
            frees_at={
                meter: frees_at for meter in amounts if (frees_at := facts.usage[meter].frees_at) is not None
            },
            counter=self._counter(question, facts, charges) if at_once else None,
        )

    def _counter(self, question: Question, facts: Facts, charges: Mapping[str, int | None]) -> Counter | None:
        """None where one counter is not all: several meters, a level by name, open reservations."""
        if len(charges) != 1:
            return None
        [(meter, limit)] = charges.items()
        by_name = question.resource and self._catalog.meters[meter].kind == "level"
        if by_name or facts.usage[meter].reserved:
            return None
        return Counter(limit=facts.limit_overrides.get(meter, limit), resets_at=facts.usage[meter].resets_at)

    def _replay(self, decision: Decision, known: Replayed | AlreadyExists) -> Decision:
        """The earlier yes, with its id and revision; nothing is charged this time."""
        verdict = _granted(decision.verdict, revision=known.revision)
        if isinstance(known, Replayed):
            return replace(
                decision,
                verdict=verdict,
                message=known.message,
                role=known.role,
                plan=known.plan,
                upgrade=(),
                quota=(self.quotas(known.now) if known.now else with_ends(known, known.frees_at)) or None,
                retry_after_s=None,
                decision_id=known.decision_id,
                at=known.at,
                reservation=known.reservation,
                replayed=True,
                texts=None,
            )
        return replace(
            decision,
            verdict=verdict,
            message="It exists already: nothing was taken.",
            upgrade=(),
            quota=self.quotas(known.now),
            retry_after_s=None,
            decision_id=known.decision_id,
            replayed=True,
            texts=None,
        )


def _purpose(question: Question, *, late: str | None) -> Consume | Hold | LateCommit:
    if question.mode == "reserve":
        return Hold(id=fresh_id(), ttl_s=question.ttl_s)
    return Consume() if late is None else LateCommit(id=late)


@contextmanager
def _time_ledger(timings: Timings | None) -> Iterator[None]:
    began = monotonic()
    try:
        yield
    finally:
        if timings is not None:
            timings.ledger_s += monotonic() - began


def _granted(verdict: Verdict, *, revision: str) -> Verdict:
    return replace(
        verdict,
        allow=True,
        reason="granted",
        status=200,
        upgrade=(),
        waiting_helps=False,
        needs_roles=(),
        needs_feature=None,
        detail=None,
        revision=revision,
    )


def _fingerprint(question: Question, catalog: Catalog) -> str:
    """Of what makes a request another one under the same key. As it was asked: a default may change.

    In former names, so that a repeat after a rename is still one.
    """
    action = catalog.actions.get(question.action)
    asked = [
        question.user,
        (action.renamed_from if action else None) or question.action,
        question.mode,
        None
        if question.amounts is None
        else {
            (catalog.meters[meter].renamed_from if meter in catalog.meters else None) or meter: amount
            for meter, amount in question.amounts.items()
        },
        question.resource,
    ]
    return sha256(_canonical(asked).encode()).hexdigest()


def _refuse_counted(amounts: Mapping[str, int], catalog: Catalog) -> None:
    for meter in amounts:
        if catalog.meters[meter].is_counted:
            raise _not_consumable(
                FieldFault(
                    field=("mode",),
                    detail=f'must be check: "{meter}" is counted by the database',
                )
            )


def _not_consumable(fault: FieldFault) -> BadQuestion:
    return BadQuestion("the meter is counted, never taken", code="meter_not_consumable", faults=(fault,))
