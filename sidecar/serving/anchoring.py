"""The anchors of a worker's log: its head goes to the database now and then, which its writer cannot rewrite.

Nothing waits for that, and whatever fails is tried again.
"""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from sidecar.errors import FactsUnavailable
from sidecar.store.connections import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.telemetry.decision_log import DecisionLog

EVERY_S = 5.0
MOST_ROWS = 100_000  # of one mark, as in authz.seal_history
HISTORY_EVERY_S = 3_600.0
_WITHIN_S = 2.0
_LAST_WITHIN_S = 1.0
_HISTORY_WITHIN_S = 60.0


class Anchors(Protocol):
    """Each call is on the loop; *done* gets the error, if there is one."""

    def ask_anchor(
        self,
        writer: str,
        number: int,
        head: bytes,
        /,
        *,
        ended: bool,
        deadline: float,
        done: Callable[[bytes | None, Exception | None], None],
    ) -> None: ...

    def ask_seal_history(
        self, writer: str, /, *, deadline: float, done: Callable[[bytes | None, Exception | None], None]
    ) -> None:
        """*done* gets the mark as JSON; None where another worker has set one within the hour."""
        ...


class Anchoring:
    """*observe* gets for how many seconds lines have been without an anchor; 0 if all have one."""

    def __init__(self, log: DecisionLog, anchors: Anchors, *, observe: Callable[[float], None]) -> None:
        self._log = log
        self._anchors = anchors
        self._observe = observe
        self._anchored: tuple[int, bytes] | None = None
        self._in_time = 0.0  # when there last was nothing new
        self._asking = self._sealing = False
        self._history_at = 0.0

    async def run(self) -> None:
        """Until it is cancelled."""
        self._in_time = self._history_at = monotonic()
        self._seal_history()
        while True:
            await asyncio.sleep(EVERY_S)
            self._log.turn_day()
            self._anchor()
            if monotonic() >= self._history_at + HISTORY_EVERY_S:
                self._history_at = monotonic()
                self._seal_history()

    async def end(self) -> None:
        """The anchor of the last line, if the database takes it within a second."""
        written = self._log.written
        if written is None:
            return
        told = asyncio.get_running_loop().create_future()

        def done(_: bytes | None, __: Exception | None) -> None:
            if not told.done():
                told.set_result(None)

        self._anchors.ask_anchor(
            self._log.writer, *written, ended=True, deadline=monotonic() + _LAST_WITHIN_S, done=done
        )
        await told

    def _anchor(self) -> None:
        written, now = self._log.written, monotonic()
        if written == self._anchored:
            self._in_time = now
        self._observe(now - self._in_time)
        if written is None or written == self._anchored or self._asking:
            return
        self._asking = True

        def done(_: bytes | None, error: Exception | None) -> None:
            self._asking = False
            if error is None:
                self._anchored, self._in_time = written, now
                self._observe(0.0)
            elif not isinstance(error, FactsUnavailable | Refused):
                raise error

        self._anchors.ask_anchor(self._log.writer, *written, ended=False, deadline=now + _WITHIN_S, done=done)

    def _seal_history(self) -> None:
        if self._sealing:
            return
        self._sealing = True

        def done(mark: bytes | None, error: Exception | None) -> None:
            self._sealing = False
            if mark is not None:
                says = json.loads(mark)
                self._log.tell("history", {"marked_at": says.pop("at"), **says})
                if says["rows"] >= MOST_ROWS:
                    self._history_at -= HISTORY_EVERY_S  # there are more: at once
            elif error is not None and not isinstance(error, FactsUnavailable | Refused):
                raise error

        self._anchors.ask_seal_history(self._log.writer, deadline=monotonic() + _HISTORY_WITHIN_S, done=done)
