"""Coalesced reads: questions that wait together are one query, and each is read after it was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sidecar.decisions.model import Facts
from sidecar.errors import FactsMisread, FactsUnavailable
from sidecar.store.loop import closed, late
from sidecar.store.session import Refused
from sidecar.store.ticks import Ticks

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from sidecar.store.asked import Query
    from sidecar.store.connections import Connections

MOST_PAIRS = 256  # in one query
MOST_WAITING = 4096  # pairs
MOST_AT_ONCE = 2  # queries: one whose connection is silent leaves the other

Members: TypeAlias = Sequence[tuple[str, str]]
Meters: TypeAlias = Sequence[tuple[str, ...]]
Found: TypeAlias = Callable[[list[Facts | None] | None, Exception | None], None]


class Reading(Protocol):
    """How facts are asked for, and read from what comes."""

    @property
    def query(self) -> Query: ...

    def params(self, members: Members, meters: Meters) -> Sequence[bytes | None]: ...

    def rows(self, answer: bytes | None, meters: Meters) -> list[Facts | FactsMisread | None]:
        """A row for each of *meters*, with those; FactsMisread is raised if they cannot be told apart."""
        ...

    def meaning(self, error: Exception) -> Exception:
        """What to tell whoever asked, of FactsUnavailable or Refused."""
        ...


class _Read:
    """One question; *missing* is how many of its facts are still to come."""

    __slots__ = ("deadline", "done", "ended", "found", "members", "meters", "missing", "since")

    def __init__(self, members: Members, meters: Meters, deadline: float, done: Found) -> None:
        self.members = members
        self.meters = meters
        self.deadline = deadline
        self.done = done
        self.since = monotonic()
        self.ended = False
        self.missing = len(members)
        self.found: list[Facts | None] = []  # filled only where the facts come in parts


_Part: TypeAlias = tuple[_Read, int, int]  # the pairs of a question from start to stop: mostly all


class _Group:
    """Parts that are one query, which ends by the latest deadline of theirs; *members* are all of them."""

    __slots__ = ("deadline", "members", "meters", "parts")

    def __init__(self, parts: list[_Part]) -> None:
        self.parts = parts
        self.members: list[tuple[str, str]] = []
        self.meters: list[tuple[str, ...]] = []
        self.deadline = 0.0
        for read, start, stop in parts:
            self.members += read.members[start:stop]
            self.meters += read.meters[start:stop]
            self.deadline = max(self.deadline, read.deadline)


class Reads:
    """A question goes out at the end of the loop's turn if a query is free, else with all others once one is.

    So nobody waits for company, and no answer is from a query that was sent before its question came. A row
    that cannot be read, or a question that PostgreSQL refuses, fails that question alone.
    """

    def __init__(self, connections: Connections, reading: Reading) -> None:
        self._connections = connections
        self._reading = reading
        self._most_at_once = min(MOST_AT_ONCE, connections.size)
        self._waiting: deque[_Part] = deque()
        self._pairs = 0  # of those that wait
        self._alone: deque[_Part] = deque()  # once refused together with others
        self._asked: set[_Group] = set()
        self._earliest = inf  # no deadline of a question is before
        self._is_due = False

    def open(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._ticks = Ticks(loop, self._look)

    def end(self) -> None:
        """On the loop: those that wait are told that it is closed; the others are told by the connections."""
        self._ticks.stop()
        waiting = [*self._alone, *self._waiting]
        self._alone.clear()
        self._waiting.clear()
        self._pairs = 0
        for read, _, _ in waiting:
            self._tell(read, None, closed())

    def ask(self, members: Members, meters: Meters, *, deadline: float, done: Found) -> None:
        """On the loop: *done* gets the facts of each, or the error; once, and never from here."""
        read = _Read(members, meters, deadline, done)
        pairs = len(members)
        if not pairs:
            self._loop.call_soon(self._tell, read, [], None)
            return
        if self._pairs and self._pairs + pairs > MOST_WAITING:
            too_many = FactsUnavailable("too many questions wait for PostgreSQL")
            self._loop.call_soon(self._tell, read, None, too_many)
            return
        if pairs <= MOST_PAIRS:
            self._waiting.append((read, 0, pairs))
        else:
            for start in range(0, pairs, MOST_PAIRS):
                self._waiting.append((read, start, min(start + MOST_PAIRS, pairs)))
        self._pairs += pairs
        if deadline < self._earliest:
            self._earliest = deadline
            self._ticks.go_on()
        if not self._is_due and len(self._asked) < self._most_at_once:
            self._is_due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        while len(self._asked) < self._most_at_once and (parts := self._next_parts()):
            group = _Group(parts)
            self._asked.add(group)
            self._connections.ask(
                self._reading.query,
                self._reading.params(group.members, group.meters),
                deadline=group.deadline,
                done=partial(self._came, group),
                since=parts[0][0].since,
            )

    def _next_parts(self) -> list[_Part]:
        """Those that go together. Only one tries a silent server: others would wait with it."""
        if self._alone:
            return [self._alone.popleft()]
        parts: list[_Part] = []
        if self._pairs <= MOST_PAIRS and not self._connections.silent:
            parts = [part for part in self._waiting if not part[0].ended]
            self._waiting.clear()
            self._pairs = 0
            return parts
        most = 1 if self._connections.silent else MOST_PAIRS
        pairs = 0
        while self._waiting and pairs < most:
            read, start, stop = part = self._waiting[0]
            if parts and pairs + stop - start > most:
                break
            self._waiting.popleft()
            self._pairs -= stop - start
            if not read.ended:
                parts.append(part)
                pairs += stop - start
        return parts

    def _came(self, group: _Group, answer: bytes | None, error: Exception | None) -> None:
        self._asked.remove(group)
        if isinstance(error, Refused) and len(group.parts) > 1:
            self._alone.extend(part for part in group.parts if not part[0].ended)
            self._send()
            return
        self._send()  # first, so that the server has work while we read
        if error is None:
            try:
                rows = self._reading.rows(answer, group.meters)
            except FactsMisread as misread:
                error = misread
            else:
                self._hand_out(group, rows)
                return
        for read, _, _ in group.parts:
            self._tell(read, None, self._reading.meaning(error))

    def _hand_out(self, group: _Group, rows: list[Facts | FactsMisread | None]) -> None:
        at = 0
        for read, start, stop in group.parts:
            if len(read.members) == 1 and not isinstance(row := rows[at], FactsMisread):  # as mostly
                self._tell(read, [row], None)
                at += 1
                continue
            facts: list[Facts | None] = []
            for row in rows[at : at + stop - start]:
                if isinstance(row, FactsMisread):
                    self._tell(read, None, row)
                    break
                facts.append(row)
            else:
                self._take(read, start, facts)
            at += stop - start

    def _take(self, read: _Read, start: int, facts: list[Facts | None]) -> None:
        read.missing -= len(facts)
        if len(facts) < len(read.members):
            read.found = read.found or [None] * len(read.members)
            read.found[start : start + len(facts)] = facts
            facts = read.found
        if not read.missing:
            self._tell(read, facts, None)

    def _tell(self, read: _Read, facts: list[Facts | None] | None, error: Exception | None) -> None:
        if read.ended:
            return
        read.ended = True
        try:
            read.done(facts, error)
        except Exception as defect:  # noqa: BLE001 - the border of the loop: the others of the group are told too
            context = {"message": "a question's answer was not taken", "exception": defect}
            self._loop.call_exception_handler(context)

    def _look(self) -> bool:
        """At each tick. Whoever has the deadline of the query is told by the connections, which know why."""
        now = monotonic()
        if now >= self._earliest:
            for group in tuple(self._asked):
                for read, _, _ in group.parts:
                    if read.deadline <= now and read.deadline < group.deadline:
                        self._tell(read, None, late("still waiting"))
            for read, _, _ in (*self._alone, *self._waiting):
                if read.deadline <= now:
                    self._tell(read, None, late(f"all {self._most_at_once} connections were busy"))
            self._waiting = deque(part for part in self._waiting if not part[0].ended)
            self._pairs = sum(stop - start for _, start, stop in self._waiting)
            self._alone = deque(part for part in self._alone if not part[0].ended)
            in_groups = (part for group in self._asked for part in group.parts)
            there = (*self._alone, *self._waiting, *in_groups)
            self._earliest = min((read.deadline for read, _, _ in there if not read.ended), default=inf)
        if self._asked or self._waiting or self._alone:
            return True
        self._earliest = inf
        return False
