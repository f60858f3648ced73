"""Who waits until their lines are written: each is told once, in time, on the loop."""

from __future__ import annotations

from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

from sidecar.errors import LogUnavailable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    Done = Callable[[None, Exception | None], None]


class Waiter:
    """*since* is when the first of the lines was noted, on the monotonic clock. Made on the loop."""

    __slots__ = ("_done", "_loop", "_timer", "since")

    def __init__(self, loop: AbstractEventLoop, since: float, *, deadline: float, done: Done) -> None:
        self.since = since
        self._loop = loop
        self._done: Done | None = done
        self._timer = loop.call_at(deadline, self._tell, LogUnavailable("it was not written in time"))

    def tell(self, *, written: bool) -> None:
        """From any thread."""
        error = None if written else LogUnavailable("it could not be written")
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        done, self._done = self._done, None
        self._timer.cancel()
        if done is not None:
            done(None, error)


def wait_for(loop: AbstractEventLoop, ask: Callable[..., None], since: float, *, deadline: float) -> None:
    """Make *ask* on the loop, and wait on this thread for what it says."""
    told = Event()
    errors: list[Exception] = []

    def done(_: None, error: Exception | None) -> None:
        if error is not None:
            errors.append(error)
        told.set()

    loop.call_soon_threadsafe(lambda: ask(since, deadline=deadline, done=done))
    if not told.wait(max(0.0, deadline - loop.time()) + 1.0):
        raise LogUnavailable("the loop does not answer")
    if errors:
        raise errors[0]
