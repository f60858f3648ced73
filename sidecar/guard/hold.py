"""What is reserved: to be committed as far as it was used; what is left without a commit is released."""

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

    def commit(self, reservation_id: str, amounts: Mapping[str, int], /) -> Settled: ...

    def release(self, reservation_id: str, /) -> Settled: ...


class Hold:
    """``with client.reserve(…) as hold:`` releases what was not committed when the block is left.

    The time to live ends it when the process dies, and when the release itself finds no sidecar.
    """

    def __init__(self, client: Settles, decision: Decision, reservation: Reservation) -> None:
        self._client = client
        self.decision = decision
        self.reservation = reservation
        self._open = True

    def commit(self, amounts: Mapping[str, int] | None = None, /, **meters: int) -> Settled:
        """Take *amounts* and give the rest back; what is not named is taken whole. Zero of all is a release.

        Conflict when more is asked for than is held (the hold stays), or when the hold has expired and there
        is no room any more. After Unavailable the commit may have been carried out: say it again.
        """
        used = {**(amounts or {}), **meters}
        if used.keys() >= self.reservation.amounts.keys() and not any(used.values()):
            return self.release()
        try:
            settled = self._client.commit(self.reservation.id, used)
        except Unavailable:
            # It may have gone through, and what was used is not to be given back: its time to live ends it.
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
            # Whatever happened in the block matters more; the hold ends by itself.
            _log.warning("reservation %s was left to its time to live: %s", self.reservation.id, failure)
