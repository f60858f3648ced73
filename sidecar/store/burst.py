"""What comes together goes together: a burst ends with a turn of the loop that brings nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

MOST_TURNS = 8


class Burst:
    """Calls *send* once *count*, of those who wait, has not grown for a turn of the loop.

    This is no wait: each turn looks at the sockets and goes on at once. Peers who got their answers together
    ask again together, within microseconds of each other, and a query for one of them costs as much as one
    for all. After MOST_TURNS, or with *enough* of them, *send* is called all the same.
    """

    def __init__(self, count: Callable[[], int], send: Callable[[], None], *, enough: int) -> None:
        self._count = count
        self._send = send
        self._enough = enough
        self._has_begun = False

    def begin(self, loop: AbstractEventLoop) -> None:
        """Somebody waits from now on."""
        if not self._has_begun:
            self._has_begun = True
            loop.call_soon(self._look, loop, self._count(), MOST_TURNS)

    def _look(self, loop: AbstractEventLoop, before: int, turns: int) -> None:
        now = self._count()
        if before < now < self._enough and turns:
            loop.call_soon(self._look, loop, now, turns - 1)
            return
        self._has_begun = False
        self._send()
