"""A circuit breaker for a silent PostgreSQL: while it is open, one question at a time tests the server."""

from __future__ import annotations

from math import inf
from time import monotonic

SHORTEST_SILENCE_S = 0.05  # a question that waited less proves nothing
_LEAST_PATIENCE_S = 0.1
_MOST_PATIENCE_S = 0.8


class Breaker:
    """What the questions of one pool know about their server. All times are on the monotonic clock.

    A late question may have met a lock: it makes the server *suspected* only if nobody had an answer since it
    was sent, and a new connection then probes the server. The breaker opens if no answer has come
    to anybody after the time that a probe should take. Any answer closes it, also an error.
    """

    def __init__(self) -> None:
        self.heard = 0.0  # when the last answer came to any question; set by that question
        self.suspected: float | None = None  # since when; None as long as all is well
        self._patience_s = _LEAST_PATIENCE_S

    def learn(self, *, connected_in_s: float) -> None:
        """Allow more time for a server that is far away."""
        self._patience_s = min(max(_LEAST_PATIENCE_S, 2 * connected_in_s), _MOST_PATIENCE_S)

    def suspect(self, *, since: float) -> bool:
        """A question timed out after waiting *since* then. True if the server is to be probed."""
        if self.opens_at() < inf or self.heard >= since:
            return False
        self.suspected = monotonic()
        return True

    def opens_at(self) -> float:
        """When it opens or has opened; infinity while the server is not suspected."""
        suspected = self.suspected
        if suspected is None:
            return inf
        if self.heard >= suspected:
            self.suspected = None
            return inf
        return suspected + self._patience_s

    def is_open(self) -> bool:
        return self.opens_at() <= monotonic()
