"""Makes sessions, on threads, so that no event loop waits for a name server or a silent host."""

from __future__ import annotations

from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from psycopg import Error

from sidecar.store.session import Connected, Late, Lost, Session, one_line

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from sidecar.store.breaker import Breaker

MOST_AT_ONCE = 2
PAUSE_S = 0.02  # after a failure, to limit connects to a server that refuses


class Connector:
    """Calls *connect* (which blocks, and raises Lost or Late) on at most MOST_AT_ONCE threads at a time.

    Each makes one session and ends. *came* gets the session or the failure, and when the connect began (on
    the monotonic clock), on *loop*. A connect that nobody waits for any more still finishes.
    """

    def __init__(
        self,
        connect: Callable[[], Connected],
        *,
        prepare: bool,
        breaker: Breaker,
        loop: AbstractEventLoop,
        came: Callable[[Session | Lost | Late, float], None],
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._breaker = breaker
        self._loop = loop
        self._came = came
        self._in_progress = 0
        self._not_before = 0.0

    def start_up_to(self, wanted: int) -> None:
        """So that *wanted* connects are in progress. Lost if there is no thread for even one."""
        while self._in_progress < min(wanted, MOST_AT_ONCE):
            # A daemon thread: a stop must not wait for a resolver.
            thread = Thread(target=self._run, name="postgres-connector", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if self._in_progress:
                    return
                raise Lost(f"no thread to connect on: {error}") from error
            self._in_progress += 1

    def _run(self) -> None:
        sleep(max(0.0, self._not_before - monotonic()))
        began = monotonic()
        made: Connected | Lost | Late = Lost("connecting failed unexpectedly")
        try:
            made = self._connect()
        except (Lost, Late) as failure:
            made = failure
        finally:
            self._tell(made, began)

    def _tell(self, made: Connected | Lost | Late, began: float) -> None:
        try:
            self._loop.call_soon_threadsafe(self._made, made, began)
        except RuntimeError:  # the loop is closed
            if not isinstance(made, Exception):
                made.pg.finish()

    def _made(self, made: Connected | Lost | Late, began: float) -> None:
        if isinstance(made, Lost):
            self._breaker.heard = monotonic()  # a refusal is an answer
        if isinstance(made, Exception):
            self._end(made, began)
            return
        try:
            session = Session(made, prepare=self._prepare, loop=self._loop)
        except (OSError, Error) as error:  # no descriptor is left, for one
            made.pg.finish()
            self._end(Lost(one_line(str(error))), began)
            return
        self._breaker.heard = monotonic()  # it has answered the first question
        self._end(session, began)

    def _end(self, made: Session | Lost | Late, began: float) -> None:
        self._in_progress -= 1
        if isinstance(made, Exception):
            self._not_before = monotonic() + PAUSE_S
        else:
            self._breaker.learn(connected_in_s=monotonic() - began)
        self._came(made, began)
