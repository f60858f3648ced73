"""The calls of a ledger that may have to wait for a lock: of each workspace one at a time."""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import UsageContended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.store.take import Take

MOST_IN_LANES = 4096
MOST_IN_CALL = 256
LOCKED_FOR_S = 0.1  # a lane stays so long after a lock was met: who spends as much elsewhere is still there


class _Lane:
    __slots__ = ("is_ready", "is_sent", "queue", "stays_until", "where")

    def __init__(self, where: object) -> None:
        self.where = where
        self.queue: deque[Take] = deque()
        self.is_ready = False  # in line for its turn
        self.is_sent = False  # a call of it is on its way
        self.stays_until = -inf


class Lanes:
    """Each `where` of a take has its lane as long as something is in it, or a lock was met just before.

    Lanes have their turns in a circle. A take gives up after *lock_timeout_s*, with UsageContended.
    """

    def __init__(self, *, lock_timeout_s: float) -> None:
        self._lock_timeout_s = lock_timeout_s
        self._lanes: dict[object, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._waiting = 0

    def __contains__(self, where: object) -> bool:
        return where in self._lanes

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __iter__(self) -> Iterator[Take]:
        for lane in self._lanes.values():
            yield from lane.queue

    def put(self, take: Take, *, locked: bool = False) -> None:
        """*locked*: a lock was met."""
        if self._waiting >= MOST_IN_LANES:
            take.fail(UsageContended("too many wait for workspaces that are locked"))
            return
        now = monotonic()
        if take.gives_up_at == inf:
            take.gives_up_at = min(take.deadline, now + self._lock_timeout_s)
        lane = self._lanes.get(take.where)
        if lane is None:
            self._lanes[take.where] = lane = _Lane(take.where)
        if locked:
            lane.stays_until = now + LOCKED_FOR_S
        lane.queue.append(take)
        self._waiting += 1
        self._line_up(lane)

    def send(self) -> list[Take]:
        """What is the next call: plain consumes of one lane together, or one take; empty if there is none.

        `ended` says that it is not on its way any more.
        """
        while self._ready:
            lane = self._ready.popleft()
            lane.is_ready = False
            if lane.queue:
                lane.is_sent = True
                takes = _next_of(lane)
                self._waiting -= len(takes)
                return takes
        return []

    def ended(self, where: object) -> None:
        lane = self._lanes.get(where)
        if lane is not None:  # else all has ended since
            lane.is_sent = False
            self._line_up(lane)
            self._end(lane, monotonic())

    def expire(self, now: float) -> None:
        for lane in tuple(self._lanes.values()):
            if any(take.gives_up_at <= now for take in lane.queue):
                left: deque[Take] = deque()
                for take in lane.queue:
                    if take.gives_up_at <= now:
                        take.fail(UsageContended("others waited for the same workspace, for too long"))
                    else:
                        left.append(take)
                self._waiting -= len(lane.queue) - len(left)
                lane.queue = left
            self._end(lane, now)

    def _line_up(self, lane: _Lane) -> None:
        if lane.queue and not lane.is_sent and not lane.is_ready:
            lane.is_ready = True
            self._ready.append(lane)

    def _end(self, lane: _Lane, now: float) -> None:
        if not lane.queue and not lane.is_sent and lane.stays_until <= now:
            del self._lanes[lane.where]


def _next_of(lane: _Lane) -> list[Take]:
    takes = [lane.queue.popleft()]
    if takes[0].row is not None:
        others: deque[Take] = deque()
        for take in lane.queue:
            (takes if take.row is not None and len(takes) < MOST_IN_CALL else others).append(take)
        lane.queue = others
    return takes
