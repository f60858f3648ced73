"""Threads for what may wait: for the database, the policy engine, a lock. The event loop never does."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Result = TypeVar("Result")


class NoThread(Exception):
    """No thread was free until the deadline: the call was not made."""


class _Call(Generic[Result]):
    __slots__ = ("function", "future", "timer")

    def __init__(self, function: Callable[[], Result], future: asyncio.Future[Result]) -> None:
        self.function = function
        self.future = future
        self.timer: asyncio.TimerHandle | None = None


class Threads:
    """*size* threads. All methods are called by *loop*'s own thread.

    The line of calls that wait is as long as the connections of a worker: each has one request at a time.
    """

    def __init__(self, size: int, *, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._free = size
        self._line: deque[_Call[object]] = deque()
        self._calls: SimpleQueue[_Call[object]] = SimpleQueue()
        for number in range(size):
            # Daemons: a stop does not wait for a call that nobody waits for any more.
            Thread(target=self._work, name=f"answer-{number}", daemon=True).start()

    def run(self, function: Callable[[], Result], *, deadline: float) -> asyncio.Future[Result]:
        """The result of *function*, called on a thread.

        *deadline* is on the loop's clock; NoThread if none was free by then. A function that has begun is
        waited for: it keeps its own deadline.
        """
        call = _Call(function, self._loop.create_future())
        if self._free:
            self._free -= 1
            self._calls.put(call)
        else:
            self._line.append(call)
            call.timer = self._loop.call_at(deadline, self._give_up, call)
        return call.future

    def _give_up(self, call: _Call[object]) -> None:
        if not call.future.done():
            call.future.set_exception(NoThread())

    def _next(self) -> None:
        """A thread is free."""
        while self._line:
            call = self._line.popleft()
            if call.timer is not None:
                call.timer.cancel()
            if not call.future.done():
                self._calls.put(call)
                return
        self._free += 1

    def _done(self, call: _Call[object], result: object, error: BaseException | None) -> None:
        self._next()
        if call.future.done():  # its connection has gone
            return
        if error is None:
            call.future.set_result(result)
        else:
            call.future.set_exception(error)

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            result, failure = None, None
            try:
                result = call.function()
            except BaseException as error:  # noqa: BLE001 - else the thread would be missing from now on
                failure = error
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._done, call, result, failure)
            del call, result, failure  # not kept alive until the next one comes
