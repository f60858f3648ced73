"""The calls of a ledger on their way to PostgreSQL: plain consumes in groups, all others in queues.

It happens on one event loop, without a lock of ours. docs/decisions/0038 says why, and what it costs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from itertools import count
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.errors import SidecarError, UsageContended
from sidecar.store.burst import Burst
from sidecar.store.charges import (
    CONSUME,
    CONSUME_MANY,
    charged_in,
    consume_many_of,
    consume_of,
    misread,
)
from sidecar.store.clock import SKEWED, UNTRUSTED
from sidecar.store.connections import Query, Refused
from sidecar.store.loop import closed, late
from sidecar.store.names import in_our_names
from sidecar.store.queues import Queues
from sidecar.store.session import not_storable
from sidecar.store.ticks import Ticks
from sidecar.text.encoding import decoded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.store.clock import Clock
    from sidecar.store.connections import Connections
    from sidecar.store.names import Names, ParamsOf, Spoken
    from sidecar.store.take import Take

MOST_IN_GROUP = 256
MOST_IN_LINE = 4096
QUEUE_WAIT_S = 0.05  # how long a call of a queue waits for a lock before other queues have their turn
ALONE_WAIT_S = 0.005  # as authz.consume_many waits, where a group is of one
SLOW_S = 0.05  # a group that takes longer does not keep the next one waiting

_OVERFLOW = "22003"  # of a counter: every amount fits by itself
_LOCKED = "55P03"  # lock_not_available
_TOO_SLOW = frozenset({"40P01", "57014"})  # deadlock_detected, query_canceled (our own statement_timeout)
_CONTENDED = _TOO_SLOW | {_LOCKED, "40001"}  # serialization_failure


class _Call:
    """One query on its way; *queue* is None for a group."""

    __slots__ = ("began", "query", "queue", "takes")

    def __init__(self, query: Query, takes: list[Take], *, queue: object) -> None:
        self.query = query
        self.takes = takes
        self.queue = queue
        self.began = monotonic()

    @property
    def is_plain(self) -> bool:
        return self.query in {CONSUME, CONSUME_MANY}


class Takes:
    """Sends each `Take` that it gets, on the loop of *connections*.

    Plain consumes that arrive while no group is on its way go together at the end of their burst; the
    others gather for the next group. A group passes over what is locked; that goes on in the queue of its
    workspace. Whatever is not plain begins there. A queue has one call on its way, which may wait for a lock,
    and queues never take the last connection: so a workspace that is locked holds up nobody else.
    """

    def __init__(self, connections: Connections, /, *, names: Names, clock: Clock) -> None:
        self._connections = connections
        self._names = names
        self._clock = clock
        self._most_queues = max(1, connections.size - 1)
        self._lock_timeout_s = connections.lock_timeout_s or inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathering: deque[Take] = deque()
        self._burst = Burst(lambda: len(self._gathering), self._go_on, enough=MOST_IN_GROUP)
        self._group: _Call | None = None  # the last one
        self._queues = Queues(lock_timeout_s=self._lock_timeout_s)
        self._calls: set[_Call] = set()
        self._queries: dict[tuple[Query, float], Query] = {}

    def ask(self, take: Take) -> None:
        """It is told later, never from here: UsageContended if too many wait."""
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop = loop
            self._ticks = Ticks(loop, self._look)
        if take.row is None or take.where in self._queues:
            self._queues.put(take)
        elif len(self._gathering) < MOST_IN_LINE:
            self._gathering.append(take)
        else:
            take.fail(UsageContended("too many consumes wait for PostgreSQL"))
        self._go_on_soon()

    def end(self) -> None:
        calls = [take for call in self._calls for take in call.takes]
        _fail([*self._gathering, *self._queues, *calls], closed())
        self._gathering.clear()
        self._queues = Queues(lock_timeout_s=self._lock_timeout_s)

    def _go_on_soon(self) -> None:
        self._ticks.go_on()
        if self._loop is not None:
            self._burst.begin(self._loop)

    def _go_on(self) -> None:
        in_queues = sum(call.queue is not None for call in self._calls)
        while in_queues < self._most_queues and self._may_send() and (takes := self._queues.send()):
            self._send(takes, queue=takes[0].where)
            in_queues += 1
        if self._gathering and self._may_send() and not self._group_is_young():
            takes = [self._gathering.popleft() for _ in range(min(MOST_IN_GROUP, len(self._gathering)))]
            self._group = self._send(takes, queue=None)

    def _may_send(self) -> bool:
        return len(self._calls) < self._connections.size

    def _group_is_young(self) -> bool:
        group = self._group
        return group is not None and group in self._calls and monotonic() - group.began < SLOW_S

    def _send(self, takes: list[Take], *, queue: object) -> _Call:
        rows = [take.row for take in takes if take.row is not None]
        params_of: ParamsOf
        if not rows:
            query, params_of = takes[0].query, takes[0].alone
        elif len(rows) == 1:
            query, params_of = CONSUME, partial(consume_of, rows[0])  # costs less than a group of one
        else:
            query, params_of = CONSUME_MANY, partial(consume_many_of, rows, waits=queue is not None)
        call = _Call(query, takes, queue=queue)
        if queue is not None or query is CONSUME:
            query = self._impatient(query, QUEUE_WAIT_S if queue is not None else ALONE_WAIT_S)
        self._calls.add(call)
        self._names.ask(
            query,
            params_of,
            self._connections,
            deadline=max(take.deadline for take in takes),
            done=partial(self._came, call),
            since=takes[0].began,
        )
        return call

    def _impatient(self, query: Query, wait_s: float) -> Query:
        """*query*, whose wait for a lock ends after *wait_s*."""
        found = self._queries.get((query, wait_s))
        if found is None:
            wait = b"%dms" % max(1, 1000 * min(wait_s, self._lock_timeout_s))
            found = self._queries[query, wait_s] = Query(
                name=query.name + b"_" + wait,
                sql=query.sql + b", set_config('lock_timeout', '" + wait + b"', true)",
                repeatable=query.repeatable,
            )
        return found

    def _came(self, call: _Call, value: bytes | None, error: Exception | None, spoken: Spoken) -> None:
        self._calls.discard(call)
        waiting = [take for take in call.takes if take.waits]
        if not waiting:
            pass  # all were told at their deadlines
        elif isinstance(error, Refused):
            self._refused(call, waiting, error)
        elif error is not None:
            self._unknown(waiting, error)
        else:
            try:
                found = None if value is None else decoded(value)
                self._answered(call, found if call.is_plain else in_our_names(found, spoken))
            except SidecarError as refusal:
                _fail(waiting, refusal)
            except (KeyError, TypeError, ValueError, AttributeError) as wrong:
                _fail(waiting, misread(value, wrong))
        if call.queue is not None:
            self._queues.ended(call.queue)
        self._go_on_soon()

    def _answered(self, call: _Call, found: Any) -> None:  # noqa: ANN401 - JSON
        """Raises what is wrong with the answer; those who were told are not told again."""
        if call.query is CONSUME_MANY:
            locked = set(found["locked"])
            for take, used, number in zip(call.takes, found["used"], count(1), strict=False):
                if number in locked:
                    self._again(take, locked=True)
                else:
                    self._done(take, found["at"], used)
        elif call.query is CONSUME:
            at, used = found or (None, None)
            self._done(call.takes[0], at, used)
        else:
            take = call.takes[0]
            take.tell(take.read(found))

    def _done(self, take: Take, at: str | None, used: int | None) -> None:
        if used is None or take.charge is None:
            self._alone(take)
        else:
            take.tell(charged_in(take.charge, at, used))

    def _alone(self, take: Take) -> None:
        """Nothing was done: authz.take knows what to do."""
        take.row = None
        self._again(take)

    def _again(self, take: Take, *, locked: bool = False) -> None:
        if take.waits:
            self._queues.put(take, locked=locked)

    def _refused(self, call: _Call, waiting: list[Take], refused: Refused) -> None:
        """Nothing was done."""
        error: SidecarError = refused.outage()
        if refused.is_of_a_value and refused.sqlstate != _OVERFLOW:
            error = not_storable()
        if refused.sqlstate in _CONTENDED:
            error = UsageContended(f"PostgreSQL gave up ({refused.sqlstate}): {refused}")
        elif refused.sqlstate == UNTRUSTED:
            error = self._clock.refusal(str(refused))
        elif refused.sqlstate == SKEWED:
            error = self._clock.skewed(str(refused))
        if refused.sqlstate == _LOCKED and (call.queue is not None or call.query is CONSUME):
            now = monotonic()
            for take in waiting:
                if now < take.gives_up_at:
                    self._again(take, locked=True)
                else:
                    take.fail(error)
        elif call.is_plain and refused.sqlstate not in _TOO_SLOW:
            for take in waiting:  # one of them may be what is wrong with a group
                self._alone(take)
        else:
            _fail(waiting, error)

    def _unknown(self, waiting: list[Take], error: Exception) -> None:
        """It may have been done: what has a key is sent once more, and then is a replay."""
        now, silent = monotonic(), self._connections.silent
        for take in waiting:
            if take.row is None or not take.has_key or take.resent or silent or take.deadline <= now:
                take.fail(error)
            else:
                take.resent = True
                self.ask(take)

    def _look(self) -> bool:
        """At each tick: who is late."""
        now = monotonic()
        for call in self._calls:
            _fail([take for take in call.takes if take.deadline <= now], late("still waiting"))
        if any(take.deadline <= now for take in self._gathering):
            _fail(
                [take for take in self._gathering if take.deadline <= now], late("all connections were busy")
            )
            self._gathering = deque(take for take in self._gathering if take.waits)
        self._queues.expire(now)
        self._go_on()
        return bool(self._calls or self._gathering or self._queues)


def _fail(takes: Iterable[Take], error: Exception) -> None:
    for take in takes:
        take.fail(error)
