"""A ledger without a database: it passes the contract tests of the real one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sidecar.decisions.model import Quota, Reservation, Usage
from sidecar.errors import (
    BadQuestion,
    CommitExceedsReservation,
    FieldFault,
    IdempotencyKeyReused,
    RefundExceedsUse,
    ReservationExpired,
    ReservationSettled,
    UnknownIdempotencyKey,
    UnknownReservation,
    UnknownWorkspace,
)
from sidecar.quota.model import (
    AlreadyExists,
    Charged,
    Conflict,
    Expired,
    GivenBack,
    Hold,
    LateCommit,
    NoCapacity,
    Replayed,
    Settlement,
    UsageNow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts, ReservationState
    from sidecar.errors import DependencyError
    from sidecar.quota.model import Charge
    from tests.fakes import FactsInMemory


@dataclass(slots=True, kw_only=True)
class _Key:
    fingerprint: str
    told: Replayed
    taken: dict[str, int] | None  # None: reserved, and not committed
    resource: str | None
    hold: _Hold | None
    given_back: dict[str, int] | None = None


@dataclass(slots=True, kw_only=True)
class _Hold:
    charge: Charge
    reservation: Reservation
    committed: dict[str, int] = field(default_factory=dict)
    given_up: bool = False  # released, in its time or later

    @property
    def state(self) -> ReservationState:
        return self.reservation.state

    @state.setter
    def state(self, state: ReservationState) -> None:
        self.reservation = replace(self.reservation, state=state)


class LedgerInMemory:
    """A Ledger over the facts of *store*, for one caller at a time. *outage* is as FactsInMemory's.

    It has no clock: a reservation ends when a test says `expire`, and no period ever does.
    """

    def __init__(self, store: FactsInMemory, *, catalog: Catalog) -> None:
        self._store = store
        self._meters = catalog.meters
        self._keys: dict[tuple[UUID, str | None], _Key] = {}
        self._holds: dict[str | None, _Hold] = {}
        self._made: dict[tuple[UUID, str, str | None], tuple[int, str, str]] = {}
        self.outage: DependencyError | None = None

    def charge(
        self, charge: Charge, /, *, deadline: float
    ) -> Charged | Replayed | AlreadyExists | NoCapacity | Conflict:
        late = self._holds[charge.purpose.id] if isinstance(charge.purpose, LateCommit) else None
        if late and (late.state == "committed" or late.given_up or self._taken_anew(late)):
            return Conflict.SETTLED
        facts = self._of_member(charge.workspace_id, charge.user)
        if facts is None or facts.token != charge.token:
            return Conflict.STALE
        if not late and (known := self.find_replay(charge, deadline=deadline)) is not None:
            return known

        wanted = {meter: 0 if self._exists(charge, meter) else n for meter, n in charge.amounts.items()}
        limits = {**charge.limits, **{m: n for m, n in facts.limit_overrides.items() if m in charge.limits}}
        for meter, amount in wanted.items():
            limit, usage = limits[meter], facts.usage[meter]
            if amount and limit is not None and usage.used + usage.reserved + amount > limit:
                return NoCapacity(facts=facts)
        reservation = None
        if isinstance(charge.purpose, Hold):
            self._move(charge.workspace_id, wanted, reserved=1)
            ends_at = facts.at + timedelta(seconds=charge.purpose.ttl_s)
            reservation = Reservation(id=charge.purpose.id, expires_at=ends_at, amounts=wanted, state="held")
            self._holds[reservation.id] = _Hold(charge=charge, reservation=reservation)
        else:
            self._use(late.charge if late else charge, wanted)
        if late:
            self._settle(late, dict(charge.amounts), wanted)
        usage_after = self._any_member(charge.workspace_id).usage
        quota = {
            meter: Quota(
                limit=limits[meter], used=used.used, reserved=used.reserved, resets_at=used.resets_at
            )
            for meter, used in usage_after.items()
            if meter in wanted
        }
        if charge.key and not late:
            told = Replayed(
                decision_id=charge.decision_id,
                revision=charge.revision,
                role=charge.role,
                plan=charge.plan,
                message=charge.message,
                quota=quota,
                reservation=reservation,
                at=facts.at,
                frees_at=charge.frees_at,
            )
            self._keys[charge.workspace_id, charge.key] = _Key(
                fingerprint=charge.fingerprint,
                told=told,
                taken=None if reservation else wanted,
                resource=charge.resource,
                hold=self._holds[reservation.id] if reservation else None,
            )
        return Charged(quota=quota, reservation=reservation, at=facts.at)

    def find_replay(self, charge: Charge, /, *, deadline: float) -> Replayed | AlreadyExists | None:
        self._answers()
        known = self._keys.get((charge.workspace_id, charge.key))
        if known and self._stands(charge.workspace_id, known):
            if known.fingerprint != charge.fingerprint:
                raise IdempotencyKeyReused
            return self._told_now(charge.workspace_id, known)
        levels = [meter for meter in sorted(charge.amounts) if self._meters[meter].kind == "level"]
        if not levels or not all(self._exists(charge, meter) for meter in levels):
            return None
        _, decision_id, revision = self._made[charge.workspace_id, levels[0], charge.resource]
        now = self._now(charge.workspace_id, charge.amounts)
        return AlreadyExists(decision_id=decision_id, revision=revision, now=now)

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        hold = self._hold(reservation)
        held, charge = hold.reservation.amounts, hold.charge
        wanted = {**held, **(amounts or {})}
        if wanted.keys() != held.keys():
            raise BadQuestion(
                "an amount of a meter that is not reserved",
                code="meter_not_taken",
                faults=_of_amounts(wanted.keys() - held.keys(), "is not reserved"),
            )
        if amounts is not None and wanted and not any(wanted.values()):
            raise BadQuestion(
                "nothing: release it", faults=_of_amounts(amounts, "is 0, as all the others are")
            )
        if hold.state == "committed" and hold.committed == wanted:
            return self._settlement(hold, replayed=True)
        if hold.state == "committed" or hold.given_up:
            raise ReservationSettled(hold.state)
        if above := [meter for meter in wanted if wanted[meter] > held[meter]]:
            raise CommitExceedsReservation(
                "more than is reserved", faults=_of_amounts(above, "is more than is reserved")
            )
        if hold.state == "expired" and self._taken_anew(hold):
            raise ReservationExpired("its key was taken anew")
        if hold.state == "expired":
            return Expired(
                workspace_id=charge.workspace_id,
                user=charge.user,
                action=charge.action,
                resource=charge.resource,
                amounts=wanted,
            )
        self._move(charge.workspace_id, held, reserved=-1)
        charged = {meter: 0 if self._exists(charge, meter) else n for meter, n in wanted.items()}
        self._use(charge, charged)
        self._settle(hold, wanted, charged)
        return self._settlement(hold, replayed=False)

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        hold = self._hold(reservation)
        if hold.state == "committed":
            raise ReservationSettled(hold.state)
        replayed, hold.given_up = hold.given_up, True
        if hold.state == "held":
            self._move(hold.charge.workspace_id, hold.reservation.amounts, reserved=-1)
            hold.state = "released"
        return self._settlement(hold, replayed=replayed)

    def expire(self, reservation: str) -> None:
        hold = self._hold(reservation)
        self._move(hold.charge.workspace_id, hold.reservation.amounts, reserved=-1)
        hold.state = "expired"

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        workspace_id = self._workspace(workspace)
        known = self._keys.get((workspace_id, key))
        if known is None:
            raise UnknownIdempotencyKey("nothing was taken under this key")
        wanted = dict(amounts or known.given_back or known.taken or {})
        if (
            known.taken is None
            or (known.given_back is not None and known.given_back != wanted)
            or any(amount > known.taken.get(meter, 0) for meter, amount in wanted.items())
        ):
            raise RefundExceedsUse("more than was taken, or not for the first time")
        gone = {
            meter: amount
            for meter, amount in wanted.items()
            if known.given_back is None
            and self._let_go(workspace_id, meter, known.resource, known.told.decision_id, amount)
        }
        self._move(workspace_id, gone, used=-1)
        known.given_back = wanted
        return GivenBack(
            released=wanted, now=self._now(workspace_id, known.taken), replayed=not any(gone.values())
        )

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        workspace_id = self._workspace(workspace)
        amount, *_ = self._made.pop((workspace_id, meter, resource), (0, "", ""))
        self._move(workspace_id, {meter: amount}, used=-1)
        return GivenBack(released={meter: amount}, now=self._now(workspace_id, [meter]), replayed=not amount)

    def _use(self, charge: Charge, wanted: Mapping[str, int]) -> None:
        self._move(charge.workspace_id, wanted, used=1)
        for meter, amount in wanted.items():
            if amount and charge.resource and self._meters[meter].kind == "level":
                made = amount, charge.decision_id, charge.revision
                self._made[charge.workspace_id, meter, charge.resource] = made

    def _settle(self, hold: _Hold, committed: dict[str, int], charged: dict[str, int]) -> None:
        hold.state, hold.committed = "committed", committed
        known = self._keys.get((hold.charge.workspace_id, hold.charge.key))
        if known and known.hold is hold:
            known.taken = {meter: charged[meter] for meter, amount in committed.items() if amount}

    def _taken_anew(self, hold: _Hold) -> bool:
        known = self._keys.get((hold.charge.workspace_id, hold.charge.key))
        return known is not None and known.hold is not hold

    def _stands(self, workspace_id: UUID, known: _Key) -> bool:
        """Whether what was taken under this key has not been given back."""
        if known.taken is None:
            return known.hold is not None and known.hold.state == "held"
        levels = [meter for meter in known.taken if self._meters[meter].kind == "level"]
        for meter in levels if known.resource else ():
            _, made_by, _ = self._made.get((workspace_id, meter, known.resource), (0, None, ""))
            if made_by is None or (known.taken[meter] and made_by != known.told.decision_id):
                return False
        back = known.given_back or {}
        taken = {meter: amount for meter, amount in known.taken.items() if amount}
        some = [meters for meters in (set(taken), taken.keys() & set(levels)) if meters]
        return not any(all(back.get(meter, 0) >= taken[meter] for meter in meters) for meters in some)

    def _told_now(self, workspace_id: UUID, known: _Key) -> Replayed:
        told = known.told
        if known.hold:
            told = replace(told, reservation=known.hold.reservation)
        if known.given_back is None and (known.hold is None or known.taken is None):
            return told
        at = self._any_member(workspace_id).at
        return replace(told, at=at, now=self._now(workspace_id, known.told.quota))

    def _let_go(
        self, workspace_id: UUID, meter: str, resource: str | None, decision_id: str, amount: int
    ) -> bool:
        if resource is None or self._meters[meter].kind != "level":
            return True
        there, made_by, revision = self._made.get((workspace_id, meter, resource), (0, "", ""))
        if made_by != decision_id:
            return False
        self._made[workspace_id, meter, resource] = there - amount, made_by, revision
        if there <= amount:
            del self._made[workspace_id, meter, resource]
        return True

    def _exists(self, charge: Charge, meter: str) -> bool:
        return (charge.workspace_id, meter, charge.resource) in self._made

    def _hold(self, reservation: str) -> _Hold:
        self._answers()
        if reservation not in self._holds:
            raise UnknownReservation("there is no reservation of this id")
        return self._holds[reservation]

    def _settlement(self, hold: _Hold, *, replayed: bool) -> Settlement:
        return Settlement(
            reservation=hold.reservation,
            committed=hold.committed if hold.state == "committed" else None,
            now=self._now(hold.charge.workspace_id, hold.reservation.amounts),
            replayed=replayed,
        )

    def _answers(self) -> None:
        if self.outage is not None:
            raise self.outage

    def _now(self, workspace_id: UUID, meters: Iterable[str]) -> UsageNow:
        facts = self._any_member(workspace_id)
        return UsageNow(
            plan=facts.plan,
            limit_overrides=facts.limit_overrides,
            usage={meter: facts.usage[meter] for meter in meters},
        )

    def _workspace(self, workspace: str) -> UUID:
        self._answers()
        for facts in self._store.members.values():
            if workspace in {facts.slug, str(facts.workspace_id)}:
                return facts.workspace_id
        raise UnknownWorkspace(f'workspace "{workspace}" does not exist')

    def _of_member(self, workspace_id: UUID, user: str) -> Facts | None:
        members = self._store.members.items()
        return next((f for (who, _), f in members if who == user and f.workspace_id == workspace_id), None)

    def _any_member(self, workspace_id: UUID) -> Facts:
        return next(facts for facts in self._store.members.values() if facts.workspace_id == workspace_id)

    def _move(
        self, workspace_id: UUID, amounts: Mapping[str, int], *, used: int = 0, reserved: int = 0
    ) -> None:
        usage = dict(self._any_member(workspace_id).usage)
        for meter, amount in amounts.items():
            before = usage[meter]
            usage[meter] = Usage(
                used=before.used + amount * used,
                reserved=before.reserved + amount * reserved,
                resets_at=before.resets_at,
            )
        for member, each in self._store.members.items():
            if each.workspace_id == workspace_id:
                self._store.members[member] = replace(each, usage=usage)


def _of_amounts(meters: Iterable[str], detail: str) -> tuple[FieldFault, ...]:
    return tuple(FieldFault(field=("amounts", meter), detail=detail) for meter in sorted(meters))
