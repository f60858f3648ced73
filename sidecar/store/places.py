"""A bounded number of places, given to those who wait for one in the order in which they came."""

from __future__ import annotations

from collections import deque
from threading import Lock


class Places:
    """Whoever waits has a gate: a lock that is released when it is their turn (0009: why it is no queue)."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._line: deque[Lock] = deque()
        self._lock = Lock()

    def take(self) -> Lock | None:
        """None: it is yours. Else your gate: the place is yours as soon as you can acquire it."""
        with self._lock:
            if self.free:
                self.free -= 1
                return None
            gate = Lock()
            gate.acquire()
            self._line.append(gate)
            return gate

    def give_back(self) -> None:
        with self._lock:
            if self._line:
                self._line.popleft().release()
            else:
                self.free += 1

    def leave(self, gate: Lock) -> None:
        """Out of the line, and out of the place if it was given meanwhile."""
        with self._lock:
            waits = gate in self._line
            if waits:
                self._line.remove(gate)
        if not waits:
            self.give_back()
