"""Ends what PostgreSQL still does for a question that nobody waits for any more."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from psycopg import Error

if TYPE_CHECKING:
    from psycopg.pq.abc import PGcancel

_MOST_WAITING = 64


class Canceller:
    """Sends cancel requests on one thread at most: libpq connects for each, and blocks."""

    def __init__(self) -> None:
        self._waiting: Queue[PGcancel] = Queue(_MOST_WAITING)
        self._lock = Lock()
        self._runs = False

    def cancel(self, request: PGcancel) -> None:
        """Later. Too many, or without a thread for it: not at all."""
        with suppress(Full):
            self._waiting.put_nowait(request)
        with self._lock:
            if self._runs:
                return
            self._runs = True
        try:
            Thread(target=self._run, name="postgres-canceller", daemon=True).start()
        except RuntimeError:
            self._runs = False

    def _run(self) -> None:
        while True:
            with self._lock:
                try:
                    request = self._waiting.get_nowait()
                except Empty:
                    self._runs = False
                    return
            with suppress(Error):  # the server is gone, and what it did for us with it
                request.cancel()
