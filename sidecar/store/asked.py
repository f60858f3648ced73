"""One question on its way through the connections, with the timings of each part."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.store.session import Query


class Asked:
    """*since* is when its current step began: the wait for a session, or for the answer."""

    __slots__ = ("_sent", "_waited_s", "began", "deadline", "params", "query", "since", "trying")

    def __init__(self, query: Query, params: Sequence[bytes | None], deadline: float) -> None:
        self.query = query
        self.params = params
        self.deadline = deadline
        self.began = self.since = monotonic()
        self.trying = False  # while the breaker is open
        self._waited_s = 0.0
        self._sent = False

    def waits(self) -> None:
        self._step(sent=False)

    def is_sent(self) -> None:
        self._step(sent=True)

    def seconds(self) -> tuple[float, float]:
        """How long it waited for a session, and for the server."""
        now = monotonic()
        waited_s = self._waited_s + (0.0 if self._sent else now - self.since)
        return waited_s, now - self.began - waited_s

    def _step(self, *, sent: bool) -> None:
        now = monotonic()
        if not self._sent:
            self._waited_s += now - self.since
        self._sent = sent
        self.since = now
