"""The event loop that drives connections: somebody else's, or one of their own on a daemon thread."""

from __future__ import annotations

import asyncio
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from sidecar.errors import FactsUnavailable
from sidecar.store.session import LONGEST_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.errors import DatabaseCause

Value = TypeVar("Value")

LATE = "PostgreSQL did not answer in time"
_GRACE_S = 0.5  # beyond a deadline, which the loop itself keeps: only for a loop that is dead
_END_WITHIN_S = 2.0


class Loop:
    """Other threads reach what lives on the loop through here, and never wait for a dead one."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
        if loop is None:
            loop = asyncio.new_event_loop()
            self._thread = Thread(target=_run, args=(loop,), name="postgres-loop", daemon=True)
            self._thread.start()
        self._loop = loop
        return loop

    def stop(self) -> None:
        """Of its own thread; somebody else's loop goes on. What was scheduled before still runs."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            if not self.is_here():
                thread.join(_END_WITHIN_S)

    def is_here(self) -> bool:
        """True on the thread that runs the loop."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def run(self, act: Callable[[], None]) -> None:
        """Call *act* on the loop and wait until it has returned; here, if nobody runs the loop."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        if self.is_here() or not (self._thread or loop.is_running()):
            act()
            return
        acted = Event()

        def act_there() -> None:
            try:
                act()
            finally:
                acted.set()

        loop.call_soon_threadsafe(act_there)
        acted.wait(_END_WITHIN_S)

    def answer(
        self, ask: Callable[[Callable[[Value | None, Exception | None], None]], None], *, deadline: float
    ) -> Value:
        """Call *ask* on the loop, and wait until it has called what it is given, with a value or an error.

        RuntimeError on the loop's own thread, which would wait for itself.
        """
        loop = self._loop
        if self.is_here():
            raise RuntimeError("this would wait for the event loop's own thread: call `ask` here")
        if loop is None:
            raise closed()
        reply = _Reply[Value]()
        try:
            loop.call_soon_threadsafe(_asked, ask, reply)
        except RuntimeError as error:  # the loop is closed
            raise closed() from error
        return reply.awaited(deadline)


class _Reply(Generic[Value]):
    """A lock that is released once; an Event costs more than the rest of a question's way."""

    __slots__ = ("_came", "_error", "_value")

    def __init__(self) -> None:
        self._came = Lock()
        self._came.acquire()
        self._value: Value | None = None
        self._error: Exception | None = None

    def __call__(self, value: Value | None, error: Exception | None) -> None:
        self._value, self._error = value, error
        self._came.release()

    def awaited(self, deadline: float) -> Value:
        left_s = min(max(deadline - monotonic(), 0.0), LONGEST_WAIT_S)
        if not self._came.acquire(timeout=left_s + _GRACE_S):
            raise late("its event loop does not run")
        if self._error is not None:
            raise self._error
        return cast("Value", self._value)


def _asked(
    ask: Callable[[Callable[[Value | None, Exception | None], None]], None], reply: _Reply[Value]
) -> None:
    try:
        ask(reply)
    except Exception as error:  # noqa: BLE001 - the border of the loop: raised again on the thread that waits
        reply(None, error)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def closed() -> FactsUnavailable:
    return FactsUnavailable("PostgreSQL cannot be reached: the connections are closed")


def late(why: str, *, cause: DatabaseCause = "database_unreachable") -> FactsUnavailable:
    return FactsUnavailable(f"{LATE}: {why}", cause=cause)
