"""Asks the primary what it has written, and tells it that facts are read from replicas."""

from __future__ import annotations

from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import FactsMisread
from sidecar.store.asked import Query
from sidecar.store.connection_options import DEFAULT_OPTIONS
from sidecar.store.connections import Connections
from sidecar.store.positions import written_in
from sidecar.store.postgres import answered

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from sidecar.store.connection_options import ConnectionOptions
    from sidecar.store.positions import Positions

WRITTEN = Query(name=b"written_now", sql=b"SELECT authz.written_now()")
ANNOUNCE = Query(name=b"announce_replica_reads", sql=b"SELECT authz.announce_replica_reads()")

EVERY_S = 0.05
_AGAIN_S = 0.25  # after an error
_WITHIN_S = 0.5
_ANNOUNCED_EVERY_S, _ANNOUNCED_WITHIN_S, _ANNOUNCED_AGAIN_S = 60.0, 2.0, 1.0


class PrimaryWatch:
    """Notes *positions* every 50 ms, on connections of its own: a busy pool must not make replicas look late.

    *observe* is told, on the loop, why it cannot, and None when it can.
    """

    def __init__(
        self,
        url: str,
        *,
        positions: Positions,
        options: ConnectionOptions = DEFAULT_OPTIONS,
        observe: Callable[[str | None], None],
    ) -> None:
        self._positions = positions
        self._observe = observe
        # Half of the bound, so that a replica that lags by less than the other half can always prove it.
        self._every_s = min(EVERY_S, positions.most_lag_s / 2)
        self.connections = Connections(
            url, size=2, statement_timeout_s=1.0, lock_timeout_s=_WITHIN_S, options=options
        )
        self._may_read_until = -inf
        self._next_announcement = 0.0
        self._timer: TimerHandle | None = None
        self._is_open = False

    def open(self, loop: AbstractEventLoop) -> None:
        self._loop = self.connections.open(loop)
        self._is_open = True
        loop.call_soon_threadsafe(self._ask)

    def end(self) -> None:
        """On the loop."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()

    def allows_reads(self, now: float) -> bool:
        """Whether revocations wait for the replicas, and the primary has said lately what it has written."""
        return now < self._may_read_until and self._positions.are_fresh(now)

    def _ask(self) -> None:
        if not self._is_open:
            return
        now = monotonic()
        if now >= self._next_announcement:
            self._announce(now)
        self.connections.ask(WRITTEN, (), deadline=now + _WITHIN_S, done=partial(self._told, now))

    def _told(self, asked_at: float, answer: bytes | None, error: Exception | None) -> None:
        if not self._is_open:
            return
        now, again_s = monotonic(), self._every_s
        try:
            written = written_in(answered(answer, error))
        except Exception as failure:  # noqa: BLE001 - the border of the loop: it goes on, whatever came
            self._observe(str(failure))
            again_s = _AGAIN_S
        else:
            self._positions.note(written, asked_at=asked_at, now=now)
            if written.epoch is None:
                self._next_announcement = min(self._next_announcement, now + _ANNOUNCED_AGAIN_S)
            self._observe(None)
        self._timer = self._loop.call_later(max(0.0, asked_at + again_s - now), self._ask)

    def _announce(self, now: float) -> None:
        self._next_announcement = now + _ANNOUNCED_EVERY_S
        self.connections.ask(
            ANNOUNCE, (), deadline=now + _ANNOUNCED_WITHIN_S, done=partial(self._announced, now)
        )

    def _announced(self, asked_at: float, answer: bytes | None, error: Exception | None) -> None:
        if not self._is_open:
            return
        try:
            self._may_read_until = asked_at + _seconds_in(answered(answer, error))
        except Exception as failure:  # noqa: BLE001 - as above
            self._next_announcement = monotonic() + _ANNOUNCED_AGAIN_S
            self._observe(str(failure))


def _seconds_in(answer: bytes | None) -> float:
    try:
        return float(answer or b"")
    except ValueError as error:
        raise FactsMisread(
            f"for how long replicas may be read is outside its contract: {answer!r}"
        ) from error
