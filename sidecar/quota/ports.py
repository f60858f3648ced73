"""What quota asks of the world: a ledger of usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.quota.model import (
        AlreadyExists,
        Charge,
        Charged,
        Conflict,
        Expired,
        GivenBack,
        NoCapacity,
        Replayed,
        Settlement,
    )


class Ledger(Protocol):
    """Quota: each effect is one call, has happened when the call returns, and is all or nothing.

    FactsUnavailable if nothing was answered: then it may have happened. UsageContended: it has not.
    """

    def charge(
        self, charge: Charge, /, *, deadline: float
    ) -> Charged | Replayed | AlreadyExists | NoCapacity | Conflict:
        """IdempotencyKeyReused if the key was used for another request, whose effect stands."""
        ...

    def find_replay(self, charge: Charge, /, *, deadline: float) -> Replayed | AlreadyExists | None:
        """What `charge` would answer to a duplicate; None if *charge* is not one. Nothing is charged."""
        ...

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        """Of meters that are not named, all.

        UnknownReservation, ReservationSettled, CommitExceedsReservation, BadQuestion (``meter_not_taken``, or
        0 of all meters), ReservationExpired if another request has its key by now.
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
