"""Questions with an effect: decided like any other, and then taken, if the ledger still has room.

The policy decides, the ledger arbitrates. What the policy grants is taken in one call, which sees again
whether there is room and whether anything has changed. What that call refuses goes back to the policy, which
words the denial.
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
from sidecar.decisions.timings import Timings
from sidecar.errors import BadQuestion, EngineMisbehaved, FieldFault, ReservationExpired, UsageContended
from sidecar.quota.model import Counter, Expired, Made, NoRoom, Repeated, Taken, Taking, Unsettled
from sidecar.text.ids import fresh_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Facts, Quota, Verdict
    from sidecar.quota.model import GivenBack, Settlement, UsageNow
    from sidecar.quota.ports import Ledger

_TRIES = 2  # what was decided by facts that have changed since is decided once more, and no oftener


class Effects:
    """*timings* of its methods count what each question waits for, also when it fails."""

    def __init__(self, authorizer: Authorizer, *, ledger: Ledger) -> None:
        self._authorizer = authorizer
        self._catalog = authorizer.catalog
        self._ledger = ledger

    def decision(
        self,
        question: Question,
        *,
        deadline: float,
        timings: Timings | None = None,
        late: str | None = None,
    ) -> Decision:
        """Of a question in mode ``consume`` or ``reserve``; *late* is the reservation that it settles.

        BadQuestion, IdempotencyKeyReused, UsageContended when nothing was taken since too many wanted it.
        """
        timings = timings or Timings()
        amounts = amounts_of(question, catalog=self._catalog)
        _refuse_counted(amounts, self._catalog)
        if late is None and question.mode == "consume" and not amounts and not question.idempotency_key:
            check = replace(question, mode="check")
            return self._authorizer.decision(check, deadline=deadline, timings=timings)

        for _ in range(_TRIES):
            facts = self._authorizer.facts_about(question, deadline=deadline, timings=timings)
            decision = self._decided(question, amounts, facts, deadline=deadline, timings=timings, late=late)
            if decision is not None:
                return decision
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
        with _waiting(timings):
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
            decision = self.decision(question, deadline=deadline, timings=timings, late=reservation)
        except BadQuestion as error:  # the action takes other meters by now
            raise ReservationExpired(error.detail) from error
        if not decision.allowed:
            raise ReservationExpired(decision.message)
        with _waiting(timings):
            settled = self._ledger.commit(reservation, amounts, deadline=deadline)
        if isinstance(settled, Expired):
            raise UsageContended("the reservation was to be committed late, and was not")
        return replace(settled, replayed=decision.replayed)

    def release(self, reservation: str, *, deadline: float, timings: Timings | None = None) -> Settlement:
        with _waiting(timings):
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
        with _waiting(timings):
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
            what = "is not in the catalog" if known is None else "is not a level"
            fault = FieldFault(field=("meter",), detail=f'"{meter}" {what}')
            if known is not None and known.kind == "members":
                raise _not_consumable(fault)
            raise BadQuestion("only a level is given back by the name of a resource", faults=(fault,))
        with _waiting(timings):
            return self._ledger.release_resource(workspace, meter, resource, deadline=deadline)

    def quotas(self, now: UsageNow) -> dict[str, Quota]:
        return quotas_of(now.usage, now, catalog=self._catalog)

    def _decided(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts | None,
        *,
        deadline: float,
        timings: Timings,
        late: str | None,
    ) -> Decision | None:
        """None: things have changed, and it is to be decided again."""
        decision = self._authorizer.decided(question, amounts, facts, deadline=deadline, timings=timings)
        if facts is None or decision.verdict.reason == "not_a_member":
            return decision
        taking = self._taking(question, amounts, facts, decision, late=late)
        if not decision.allowed:
            return self._denied(question, facts, decision, taking, deadline=deadline)

        with _waiting(timings):
            outcome = self._ledger.take(taking, deadline=deadline)
        match outcome:
            case Taken() as taken:
                return replace(
                    decision,
                    quota=taken.quota if amounts else None,
                    reservation=taken.reservation,
                    at=taken.at,
                )
            case Repeated() | Made() as known:
                return self._told(decision, known)
            case NoRoom(facts=fresh):
                denial = self._authorizer.decided(
                    question, amounts, fresh, deadline=deadline, timings=timings
                )
                return None if denial.allowed else denial
            case Unsettled.STALE:
                return None
            case Unsettled.SETTLED:
                return replace(decision, replayed=True)

    def _denied(
        self, question: Question, facts: Facts, denial: Decision, taking: Taking, *, deadline: float
    ) -> Decision:
        """Nothing is taken. But what was taken before stays had, and who asks again is told so again."""
        if taking.reservation is not None and taking.ttl_s is None:  # a late commit is no repeat of anything
            return denial
        if taking.key is None and taking.resource is None:
            return denial
        with _waiting(denial.timings):
            known = self._ledger.repeated(taking, deadline=deadline)
        if isinstance(known, Made):
            # What exists needs no room. But who may not make it is not told that it is there.
            denial = self._authorizer.decided(question, {}, facts, deadline=deadline, timings=denial.timings)
            return self._told(denial, known) if denial.allowed else denial
        return denial if known is None else self._told(denial, known)

    def _taking(
        self,
        question: Question,
        amounts: Mapping[str, int],
        facts: Facts,
        decision: Decision,
        *,
        late: str | None,
    ) -> Taking:
        held = question.mode == "reserve"
        charges = decision.verdict.charges if decision.allowed else dict.fromkeys(amounts)
        if charges.keys() != amounts.keys():
            raise EngineMisbehaved(
                f"{question.action} takes {sorted(amounts)}, charged are {sorted(charges)}"
            )
        return Taking(
            workspace_id=facts.workspace_id,
            token=facts.token,
            user=question.user,
            action=question.action,
            amounts=amounts,
            limits=charges,
            resource=question.resource,
            key=question.idempotency_key,
            fingerprint=_fingerprint(question),
            ttl_s=question.ttl_s if held else None,
            reservation=fresh_id() if held else late,
            decision_id=decision.decision_id,
            revision=decision.verdict.revision,
            role=facts.role,
            plan=facts.plan,
            message=decision.message,
            counter=self._counter(question, facts, decision, late=late),
        )

    def _counter(
        self, question: Question, facts: Facts, decision: Decision, *, late: str | None
    ) -> Counter | None:
        """None where there is more to it: several meters, a level by name, reservations, new or open."""
        charges = decision.verdict.charges
        if not decision.allowed or question.mode == "reserve" or late or len(charges) != 1:
            return None
        [(meter, limit)] = charges.items()
        by_name = question.resource and self._catalog.meters[meter].kind == "level"
        if by_name or facts.usage[meter].reserved:
            return None
        return Counter(limit=facts.limit_overrides.get(meter, limit), resets_at=facts.usage[meter].resets_at)

    def _told(self, decision: Decision, known: Repeated | Made) -> Decision:
        """A yes that was said before, with its id and revision, and no effect this time."""
        verdict = _granted(decision.verdict, revision=known.revision)
        if isinstance(known, Repeated):
            return replace(
                decision,
                verdict=verdict,
                message=known.message,
                role=known.role,
                plan=known.plan,
                upgrade=(),
                quota=known.quota or None,
                retry_after_s=None,
                decision_id=known.decision_id,
                at=known.at,
                reservation=known.reservation,
                replayed=True,
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
        )


@contextmanager
def _waiting(timings: Timings | None) -> Iterator[None]:
    """For the ledger."""
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
        needs_roles=(),
        needs_feature=None,
        detail=None,
        revision=revision,
    )


def _fingerprint(question: Question) -> str:
    """Of what makes a request another one under the same key. As it was asked: a default may change."""
    asked = [
        question.user,
        question.action,
        question.mode,
        None if question.amounts is None else dict(question.amounts),
        question.resource,
    ]
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _refuse_counted(amounts: Mapping[str, int], catalog: Catalog) -> None:
    for meter in amounts:
        if catalog.meters[meter].kind == "members":
            raise _not_consumable(
                FieldFault(
                    field=("mode",),
                    detail=f'must be check: "{meter}" is counted by the database, as people join and leave',
                )
            )


def _not_consumable(fault: FieldFault) -> BadQuestion:
    return BadQuestion("members are counted, never taken", code="meter_not_consumable", faults=(fault,))
