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

MOST_IN_QUEUES = 4096
MOST_IN_CALL = 256
LOCKED_FOR_S = 0.1  # a queue stays so long after a lock was met: who spends as much elsewhere is still there


class _Queue:
    __slots__ = ("is_ready", "is_sent", "stays_until", "takes", "where")

    def __init__(self, where: object) -> None:
        self.where = where
        self.takes: deque[Take] = deque()
        self.is_ready = False  # in line for its turn
        self.is_sent = False  # a call of it is on its way
        self.stays_until = -inf


class Queues:
    """Each `where` of a take has its queue as long as something is in it, or a lock was met just before.

    Queues have their turns in a circle. A take that has met a lock, or others of its queue, gives up after
    *lock_timeout_s*, with UsageContended.
    """

    def __init__(self, *, lock_timeout_s: float) -> None:
        self._lock_timeout_s = lock_timeout_s
        self._queues: dict[object, _Queue] = {}
        self._ready: deque[_Queue] = deque()
        self._waiting = 0

    def __contains__(self, where: object) -> bool:
        return where in self._queues

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Take]:
        for queue in self._queues.values():
            yield from queue.takes

    def put(self, take: Take, *, locked: bool = False) -> None:
        """*locked*: a lock was met."""
        if self._waiting >= MOST_IN_QUEUES:
            take.fail(UsageContended("too many wait for workspaces that are locked"))
            return
        now = monotonic()
        queue = self._queues.get(take.where)
        # Who waits for a turn alone waits for nobody's lock: many new counters may come together.
        patience_s = inf if queue is None and not locked else self._lock_timeout_s
        take.gives_up_at = min(take.gives_up_at, take.deadline, now + patience_s)
        if queue is None:
            self._queues[take.where] = queue = _Queue(take.where)
        if locked:
            queue.stays_until = now + LOCKED_FOR_S
        queue.takes.append(take)
        self._waiting += 1
        self._line_up(queue)

    def send(self) -> list[Take]:
        """What is the next call: plain consumes of one queue together, or one take; empty if there is none.

        `ended` says that it is not on its way any more.
        """
        while self._ready:
            queue = self._ready.popleft()
            queue.is_ready = False
            if queue.takes:
                queue.is_sent = True
                takes = _next_of(queue)
                self._waiting -= len(takes)
                return takes
        return []

    def ended(self, where: object) -> None:
        queue = self._queues.get(where)
        if queue is not None:  # else all has ended since
            queue.is_sent = False
            self._line_up(queue)
            self._end(queue, monotonic())

    def expire(self, now: float) -> None:
        for queue in tuple(self._queues.values()):
            if any(take.gives_up_at <= now for take in queue.takes):
                left: deque[Take] = deque()
                for take in queue.takes:
                    if take.gives_up_at <= now:
                        take.fail(UsageContended("others waited for the same workspace, for too long"))
                    else:
                        left.append(take)
                self._waiting -= len(queue.takes) - len(left)
                queue.takes = left
            self._end(queue, now)

    def _line_up(self, queue: _Queue) -> None:
        if queue.takes and not queue.is_sent and not queue.is_ready:
            queue.is_ready = True
            self._ready.append(queue)

    def _end(self, queue: _Queue, now: float) -> None:
        if not queue.takes and not queue.is_sent and queue.stays_until <= now:
            del self._queues[queue.where]


def _next_of(queue: _Queue) -> list[Take]:
    takes = [queue.takes.popleft()]
    if takes[0].row is not None:
        others: deque[Take] = deque()
        for take in queue.takes:
            (takes if take.row is not None and len(takes) < MOST_IN_CALL else others).append(take)
        queue.takes = others
    return takes
