"""A bounded number of places, given to waiting threads in the order of their arrival."""

from __future__ import annotations

from collections import deque
from threading import Lock


class Places:
    """Each waiting thread has a gate: a lock that is released in its turn (not a queue: record 0009)."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._line: deque[Lock] = deque()
        self._lock = Lock()

    def take(self) -> Lock | None:
        """None: the place is yours. Else your gate: the place is yours once you have acquired it."""
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
        """Leave the queue, and give back the place if it was assigned meanwhile."""
        with self._lock:
            waits = gate in self._line
            if waits:
                self._line.remove(gate)
        if not waits:
            self.give_back()
