"""Steps driven by the event loop: no step of a request keeps the loop from the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.decisions.steps import Pause
from sidecar.serving.threads import NoThread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from sidecar.decisions.steps import Steps, Wait
    from sidecar.serving.threads import Threads

T = TypeVar("T")


class Driver:
    """*starts* has the calls that need no thread; every other call is made on one of *threads*.

    A start takes what its call takes, and *done*, which gets the result or the error, once and on the loop,
    unless the start itself raises.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        threads: Threads,
        starts: Mapping[Callable[..., Any], Callable[..., None]],
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._starts = starts

    def drive(self, steps: Steps[T], finished: Callable[[T | None], None]) -> None:
        """Call *finished* with what *steps* return; with None if no thread was free for one of them in time.

        What *steps* raise is raised to whoever drives them on, so they had better raise nothing.
        """
        self._go_on(steps, finished, None, None)

    def drive_from(
        self,
        steps: Steps[T],
        finished: Callable[[T | None], None],
        call: Callable[..., Any],
        found: object,
        error: BaseException | None,
    ) -> None:
        """As `drive`. If *steps* wait for *call* first, it has given *found* or the *error* already."""
        try:
            wait = next(steps)
        except StopIteration as stop:
            finished(stop.value)
            return
        if wait.call == call:
            self._go_on(steps, finished, found, error)
        else:
            self._wait_for(wait, steps, finished)

    def soon(self, call: Callable[[], None]) -> None:
        """Call it in the loop's next round."""
        self._loop.call_soon(call)

    def _go_on(
        self,
        steps: Steps[T],
        finished: Callable[[T | None], None],
        found: object,
        error: BaseException | None,
    ) -> None:
        try:
            wait = steps.send(found) if error is None else steps.throw(error)
        except StopIteration as stop:
            finished(stop.value)
        else:
            self._wait_for(wait, steps, finished)

    def _wait_for(self, wait: Wait, steps: Steps[T], finished: Callable[[T | None], None]) -> None:
        go_on = partial(self._go_on, steps, finished)
        start = self._starts.get(wait.call)
        if start is not None:
            try:
                start(*wait.args, deadline=wait.deadline, done=go_on)
            except Exception as raised:  # noqa: BLE001 - not dealt with here: raised where it was waited for
                go_on(None, raised)
        elif isinstance(wait, Pause):
            self._loop.call_soon(go_on, None, None)
        else:
            self._call_on_thread(wait, steps, finished)

    def _call_on_thread(self, wait: Wait, steps: Steps[T], finished: Callable[[T | None], None]) -> None:
        def called(call: asyncio.Future[object]) -> None:
            error = call.exception()
            if isinstance(error, NoThread):
                steps.close()
                finished(None)
            elif error is not None:
                self._go_on(steps, finished, None, error)
            else:
                self._go_on(steps, finished, call.result(), None)

        self._threads.run(wait.done, deadline=wait.deadline).add_done_callback(called)
