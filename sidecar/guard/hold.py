"""A reservation in a ``with`` block: commit what was used; without a commit it is released."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from sidecar.guard.errors import GuardError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from sidecar.guard.answers import Decision, Reservation, Settled

_log = logging.getLogger("sidecar.guard")


class Settles(Protocol):
    """What a hold needs of a client."""

    def commit(self, reservation_id: str, amounts: Mapping[str, int] | None, /) -> Settled: ...

    def release(self, reservation_id: str, /) -> Settled: ...


class Hold:
    """``with client.reserve(…) as hold:`` releases what was not committed when the block is left.

    It expires by itself when the process dies or the release cannot reach the sidecar.
    """

    def __init__(self, client: Settles, decision: Decision, reservation: Reservation) -> None:
        self._client = client
        self.decision = decision
        self.reservation = reservation
        self._open = True

    def commit(self, amounts: Mapping[str, int] | None = None, /, **meters: int) -> Settled:
        """Take *amounts* and give the rest back; other meters are taken in full. All zero is a release.

        Conflict when more is asked for than is held (the hold stays), or when the hold has expired and there
        is no room left. After Unavailable the commit may have been carried out: retry it.
        """
        used = None if amounts is None and not meters else {**(amounts or {}), **meters}
        if used and used.keys() >= self.reservation.amounts.keys() and not any(used.values()):
            return self.release()
        try:
            settled = self._client.commit(self.reservation.id, used)
        except Unavailable:
            # It may have succeeded, and what was used must not be given back: the hold expires by itself.
            self._open = False
            raise
        self._open = False
        return settled

    def release(self) -> Settled:
        settled = self._client.release(self.reservation.id)
        self._open = False
        return settled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._open:
            return
        try:
            self.release()
        except GuardError as failure:
            # The block's own exception matters more; the hold expires by itself.
            _log.warning("reservation %s was left to its time to live: %s", self.reservation.id, failure)
