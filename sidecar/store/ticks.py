"""One timer for all deadlines of a queue: a timer for each question would cost more than the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

TICK_S = 0.01


class Ticks:
    """Calls *look* on *loop* every TICK_S as long as it returns True."""

    def __init__(self, loop: AbstractEventLoop, look: Callable[[], bool]) -> None:
        self._loop = loop
        self._look = look
        self._timer: TimerHandle | None = None

    def go_on(self) -> None:
        """There is something to look at from now on."""
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)  # first: *look* may raise
        if not self._look():
            self.stop()

    def stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
