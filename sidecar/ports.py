"""What the core asks of the world: a policy engine, a store of facts, and a ledger of what is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.model import Facts, Verdict
    from sidecar.taking import (
        Expired,
        GivenBack,
        Made,
        NoRoom,
        Repeated,
        Settlement,
        Taken,
        Taking,
        Unsettled,
    )


class PolicyEngine(Protocol):
    @property
    def name(self) -> str:
        """``opa`` or ``embedded``: a metric's label."""
        ...

    @property
    def revision(self) -> str:
        """The revision that this process was started with; a verdict by another is refused."""
        ...

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        """*situation* is canonical JSON; *deadline* is on the monotonic clock, in seconds.

        EngineUnavailable, EngineMisbehaved and RevisionMismatch are raised; a verdict never stands for
        an outage.
        """
        ...


class FactStore(Protocol):
    def facts(self, members: Sequence[tuple[str, str]], /, *, deadline: float) -> list[Facts | None]:
        """The facts of each (user, workspace) in order, in one round trip; None for whoever is no member.

        An unknown user, an unknown workspace and a stranger are the same None.
        """
        ...

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        """The facts of up to *limit* workspaces of *user*, ordered by slug, those behind *after*."""
        ...


class Ledger(Protocol):
    """Quota: each effect is one call, has happened when the call returns, and is all or nothing.

    FactsUnavailable if nothing was answered: then it may have happened. UsageContended: it has not.
    """

    def take(self, taking: Taking, /, *, deadline: float) -> Taken | Repeated | Made | NoRoom | Unsettled:
        """IdempotencyKeyReused if the key was used for another request."""
        ...

    def repeated(self, taking: Taking, /, *, deadline: float) -> Repeated | Made | None:
        """What `take` would say if this had been taken before, and else None; nothing is taken."""
        ...

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        """Of meters that are not named, all.

        UnknownReservation, ReservationSettled, CommitExceedsReservation, BadQuestion ``meter_not_taken``.
        """
        ...

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        """UnknownReservation, ReservationSettled if it was committed."""
        ...

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        """UnknownWorkspace, UnknownIdempotencyKey, RefundExceedsUse."""
        ...

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        """*meter* is a level. UnknownWorkspace."""
        ...
