"""Threads that connect to PostgreSQL, so that no other thread waits for a name server or a silent host."""

from __future__ import annotations

from contextlib import suppress
from threading import Condition, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from sidecar.store.session import LONGEST_WAIT_S, Late, Lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.store.session import Session

MOST_THREADS = 2
PAUSE_S = 0.02  # after a failure, to limit connects to a server that refuses


class Connector:
    """Calls *make* (which blocks, and raises Lost or Late) on at most MOST_THREADS threads at a time.

    Each thread makes one session and ends. Waiting questions share the sessions and the failures. A connect
    that nobody waits for any more still finishes, for the next question. *keep* takes each session.
    """

    def __init__(self, make: Callable[[], Session], keep: Callable[[Session], None]) -> None:
        self._make = make
        self._keep = keep
        self._changed = Condition()
        self._threads = 0
        self._begun = 0  # the number of connects; the last that failed was number
        self._failed = 0
        self._failure: Lost | Late = Late("still connecting")
        self._not_before = 0.0
        self.waiting = 0  # how many; read without the lock by who gives a session back

    def session(self, take: Callable[[], Session | None], *, until: Callable[[], float]) -> Session:
        """Wait until *take* finds something, and return it.

        Lost or Late if a connect fails that began after this, Late if it is *until* then; *until* is asked
        again at each change, and may raise.
        """
        with self._changed:
            begun = self._begun
            self.waiting += 1
            try:
                while True:
                    if session := take():
                        return session
                    if self._failed > begun:
                        raise type(self._failure)(str(self._failure))
                    left = until() - monotonic()
                    if left <= 0:
                        raise Late("still connecting")
                    self._start_up_to(self.waiting)
                    self._changed.wait(min(left, LONGEST_WAIT_S))
            finally:
                self.waiting -= 1

    def start(self) -> None:
        """Start a connect without waiting for it, unless one is in progress."""
        with self._changed, suppress(Lost):
            self._start_up_to(1)

    def wake(self) -> None:
        """Wake waiting questions to look again."""
        with self._changed:
            self._changed.notify_all()

    def fail(self, failure: Lost | Late) -> None:
        """Fail the waiting questions with *failure*."""
        with self._changed:
            self._begun += 1
            self._failed = self._begun
            self._failure = failure
            self._changed.notify_all()

    def _start_up_to(self, wanted: int) -> None:
        while self._threads < min(wanted, MOST_THREADS):
            # A daemon thread: a stop must not wait for a resolver.
            thread = Thread(target=self._connect, name="postgres-connector", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if self._threads:
                    return
                raise Lost(f"no thread to connect on: {error}") from error
            self._threads += 1

    def _connect(self) -> None:
        failure: Lost | Late | None = None
        sleep(max(0.0, self._not_before - monotonic()))
        with self._changed:
            self._begun += 1
            number = self._begun
        try:
            self._keep(self._make())
        except (Lost, Late) as caught:
            failure = caught
            self._not_before = monotonic() + PAUSE_S
        finally:
            with self._changed:
                self._threads -= 1
                if failure is not None and number > self._failed:
                    self._failed = number
                    self._failure = failure
                self._changed.notify_all()
