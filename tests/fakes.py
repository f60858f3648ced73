"""Stand-ins that are small and real: they pass the contract tests of what they stand in for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from sidecar.errors import (
    CommitExceedsReservation,
    IdempotencyKeyReused,
    RefundExceedsUse,
    ReservationSettled,
    UnknownIdempotencyKey,
    UnknownReservation,
)
from sidecar.model import Quota, Reservation, Roster, Usage
from sidecar.taking import (
    GivenBack,
    NoRoom,
    Repeated,
    Settlement,
    Taken,
    Unsettled,
    UsageNow,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.errors import DependencyError
    from sidecar.model import Facts
    from sidecar.taking import Taking


class FactsInMemory:
    """A FactStore over *members*: (user, slug) → facts. While *outage* is set, that is all it answers."""

    def __init__(self, members: Mapping[tuple[str, str], Facts]) -> None:
        self.members = dict(members)
        self.outage: DependencyError | None = None

    def facts(self, members: Sequence[tuple[str, str]], /, *, deadline: float) -> list[Facts | None]:
        self._answers()
        return [self.members.get((user, self._slug(workspace))) for user, workspace in members]

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        self._answers()
        found = [facts for (member, _), facts in self.members.items() if member == user]
        found.sort(key=lambda facts: facts.slug)
        return [facts for facts in found if after is None or facts.slug > after][:limit]

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:
        self._answers()
        wanted = self._slug(workspace)
        of_it = {user: facts for (user, slug), facts in self.members.items() if slug == wanted}
        page = [(user, of_it[user]) for user in sorted(of_it) if user > (after or "")][:limit]
        return Roster(
            facts=page[0][1] if page else None, members=tuple((user, facts.role) for user, facts in page)
        )

    def _slug(self, workspace: str) -> str:
        slugs = {str(facts.workspace_id): facts.slug for facts in self.members.values()}
        return slugs.get(workspace.lower(), workspace)

    def _answers(self) -> None:
        if self.outage is not None:
            raise self.outage


class NoPeople:
    """A store that nobody is expected to ask."""


class NoLedger:
    """Of an authorizer that is only asked to check: whatever is asked of it is a mistake of the test."""

    def _unasked(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("the ledger was asked")

    take = repeated = commit = release = refund = release_resource = _unasked


class LedgerInMemory:
    """A Ledger over the facts of *store*, for one caller at a time; nothing expires. *outage* as above."""

    def __init__(self, store: FactsInMemory) -> None:
        self._store = store
        self._keys: dict[str, tuple[str, Repeated, Taking]] = {}
        self._holds: dict[str, tuple[Taking, str, dict[str, int]]] = {}
        self._refunded: dict[str, GivenBack] = {}
        self.outage: DependencyError | None = None

    def take(self, taking: Taking, /, *, deadline: float) -> Taken | Repeated | NoRoom | Unsettled:
        if (known := self.repeated(taking, deadline=deadline)) is not None:
            return known
        facts = self._facts(taking)
        if facts.version != taking.facts_version:
            return Unsettled.STALE
        limits = {**taking.limits, **{m: facts.limit_overrides[m] for m in facts.limit_overrides}}
        for meter, amount in taking.amounts.items():
            usage, limit = facts.usage[meter], limits[meter]
            if limit is not None and usage.used + usage.reserved + amount > limit:
                return NoRoom(facts=facts)
        held = taking.ttl_s is not None
        self._move(facts, taking.amounts, used=not held, reserved=held)
        usage_after = self._facts(taking).usage
        reservation = None
        if taking.ttl_s is not None and taking.reservation is not None:
            reservation = Reservation(
                id=taking.reservation,
                expires_at=facts.at + timedelta(seconds=taking.ttl_s),
                amounts=taking.amounts,
            )
            self._holds[taking.reservation] = (taking, "held", {})
        taken = Taken(
            quota={
                meter: Quota(
                    limit=limits[meter],
                    used=usage_after[meter].used,
                    reserved=usage_after[meter].reserved,
                    resets_at=usage_after[meter].resets_at,
                )
                for meter in taking.amounts
            },
            reservation=reservation,
            at=facts.at,
        )
        if taking.key:
            repeated = Repeated(
                decision_id=taking.decision_id,
                revision=taking.revision,
                role=taking.role,
                plan=taking.plan,
                message=taking.message,
                quota=taken.quota,
                reservation=reservation,
                at=facts.at,
            )
            self._keys[taking.key] = (taking.fingerprint, repeated, taking)
        return taken

    def repeated(self, taking: Taking, /, *, deadline: float) -> Repeated | None:
        if self.outage is not None:
            raise self.outage
        known = self._keys.get(taking.key or "")
        if known is None:
            return None
        if known[0] != taking.fingerprint:
            raise IdempotencyKeyReused
        return known[1]

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement:
        taking, state, committed = self._hold(reservation)
        wanted = {**taking.amounts, **(amounts or {})}
        if state == "committed" and committed == wanted:
            return self._settlement(reservation, replayed=True)
        if state != "held":
            raise ReservationSettled(state)
        if any(wanted[meter] > taking.amounts[meter] for meter in wanted):
            raise CommitExceedsReservation("more than is reserved")
        facts = self._facts(taking)
        self._move(facts, {m: -n for m, n in taking.amounts.items()}, used=False, reserved=True)
        self._move(self._facts(taking), wanted, used=True, reserved=False)
        self._holds[reservation] = (taking, "committed", wanted)
        return self._settlement(reservation, replayed=False)

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        taking, state, _ = self._hold(reservation)
        if state == "committed":
            raise ReservationSettled(state)
        if state == "held":
            self._move(
                self._facts(taking), {m: -n for m, n in taking.amounts.items()}, used=False, reserved=True
            )
            self._holds[reservation] = (taking, "released", {})
        return self._settlement(reservation, replayed=state == "released")

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        if self.outage is not None:
            raise self.outage
        if key not in self._keys:
            raise UnknownIdempotencyKey("nothing was taken under this key")
        taking = self._keys[key][2]
        wanted = dict(amounts or taking.amounts)
        if before := self._refunded.get(key):
            if amounts is not None and wanted != before.released:
                raise RefundExceedsUse("given back before")
            return replace(before, replayed=True)
        if any(amount > taking.amounts.get(meter, 0) for meter, amount in wanted.items()):
            raise RefundExceedsUse("more than was taken")
        self._move(self._facts(taking), {m: -n for m, n in wanted.items()}, used=True, reserved=False)
        self._refunded[key] = GivenBack(released=wanted, now=self._now(taking), replayed=False)
        return self._refunded[key]

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        raise NotImplementedError

    def _hold(self, reservation: str) -> tuple[Taking, str, dict[str, int]]:
        if self.outage is not None:
            raise self.outage
        if reservation not in self._holds:
            raise UnknownReservation("there is no reservation of this id")
        return self._holds[reservation]

    def _settlement(self, reservation: str, *, replayed: bool) -> Settlement:
        taking, state, committed = self._holds[reservation]
        return Settlement(
            reservation=Reservation(
                id=reservation, expires_at=self._facts(taking).at, amounts=taking.amounts
            ),
            state="committed" if state == "committed" else "released",
            committed=committed or None,
            now=self._now(taking),
            replayed=replayed,
        )

    def _now(self, taking: Taking) -> UsageNow:
        facts = self._facts(taking)
        return UsageNow(
            plan=facts.plan,
            limit_overrides=facts.limit_overrides,
            usage={meter: facts.usage[meter] for meter in taking.amounts},
        )

    def _facts(self, taking: Taking) -> Facts:
        return next(
            facts
            for (user, _), facts in self._store.members.items()
            if user == taking.user and facts.workspace_id == taking.workspace_id
        )

    def _move(self, facts: Facts, amounts: Mapping[str, int], *, used: bool, reserved: bool) -> None:
        usage = dict(facts.usage)
        for meter, amount in amounts.items():
            before = usage[meter]
            usage[meter] = Usage(
                used=before.used + amount * used,
                reserved=before.reserved + amount * reserved,
                resets_at=before.resets_at,
            )
        for member, each in self._store.members.items():
            if each.workspace_id == facts.workspace_id:
                self._store.members[member] = replace(each, usage=usage)
