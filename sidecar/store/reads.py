"""Coalesced reads: questions that wait together are one query, and each is read after it was asked."""

from __future__ import annotations

from collections import deque
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from sidecar.errors import FactsMisread, FactsUnavailable, SidecarError
from sidecar.store.burst import Burst
from sidecar.store.groups import Group, Read
from sidecar.store.loop import closed, late
from sidecar.store.session import Refused
from sidecar.store.ticks import Ticks

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Sequence

    from sidecar.decisions.model import Facts
    from sidecar.store.asked import Query
    from sidecar.store.connections import Connections
    from sidecar.store.groups import Found, Members, Meters, Part
    from sidecar.store.names import Names, Spoken

MOST_PAIRS = 256  # in one query
MOST_WAITING = 4096  # pairs
MOST_AT_ONCE = 2  # queries: one whose connection is silent leaves the other
MOST_SUSPECTS = 64


class Reading(Protocol):
    """How facts are asked for, and read from what comes."""

    @property
    def query(self) -> Query: ...

    def params(self, members: Members, meters: Meters, spoken: Spoken) -> Sequence[bytes | None]: ...

    def rows(self, answer: bytes | None, meters: Meters, spoken: Spoken) -> list[Facts | SidecarError | None]:
        """A row for each of *meters*, with those, in our names; or why there is none.

        FactsMisread is raised if they cannot be told apart.
        """
        ...

    def meaning(self, error: Exception) -> Exception:
        """What to tell whoever asked, of FactsUnavailable or Refused."""
        ...


class Reads:
    """A question goes out at the end of its burst if a query is free, else with all others once one is.

    So nobody waits for company, and no answer is from a query that was sent before its question came. A row
    that cannot be read, or a question that PostgreSQL refuses, fails that question alone: a group that is
    refused is asked once more in halves, and who was found to be the reason goes alone from then on.
    """

    def __init__(self, connections: Connections, reading: Reading, *, names: Names) -> None:
        self._connections = connections
        self._names = names
        self._reading = reading
        self._most_at_once = min(MOST_AT_ONCE, connections.size)
        self._waiting: deque[Part] = deque()
        self._pairs = 0  # of those that wait
        self._halves: deque[list[Part]] = deque()  # of groups that were refused
        self._suspects: set[tuple[str, str]] = set()  # of whom the last answer was a refusal
        self._alone: deque[Part] = deque()  # about suspects
        self._last_alone: Group | None = None
        self._asked: set[Group] = set()
        self._earliest = inf  # no deadline of a question is before
        self._burst = Burst(lambda: self._pairs, self._send, enough=MOST_PAIRS)
        self._others_turn = False

    def open(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._ticks = Ticks(loop, self._look)

    def end(self) -> None:
        """On the loop: those that wait are told that it is closed; the others are told by the connections."""
        self._ticks.stop()
        waiting = self._all_waiting()
        self._halves.clear()
        self._alone.clear()
        self._waiting.clear()
        self._pairs = 0
        for read, _, _ in waiting:
            self._tell(read, None, closed())

    def ask(self, members: Members, meters: Meters, *, deadline: float, done: Found) -> None:
        """On the loop: *done* gets the facts of each, or the error; once, and never from here."""
        read = Read(members, meters, deadline, done)
        pairs = len(members)
        if not pairs:
            self._loop.call_soon(self._tell, read, [], None)
            return
        waiting = self._pairs + len(self._alone)
        if waiting and waiting + pairs > MOST_WAITING:
            too_many = FactsUnavailable("too many questions wait for PostgreSQL")
            self._loop.call_soon(self._tell, read, None, too_many)
            return
        if self._suspects and pairs == 1 and members[0] in self._suspects:
            self._alone.append((read, 0, pairs))
        else:
            for start in range(0, pairs, MOST_PAIRS):
                self._waiting.append((read, start, min(start + MOST_PAIRS, pairs)))
            self._pairs += pairs
        if deadline < self._earliest:
            self._earliest = deadline
            self._ticks.go_on()
        if len(self._asked) < self._most_at_once:
            self._burst.begin(self._loop)

    def _send(self) -> None:
        while len(self._asked) < self._most_at_once and (group := self._next_group()):
            self._asked.add(group)
            self._names.ask(
                self._reading.query,
                partial(self._reading.params, group.members, group.meters),
                self._connections,
                deadline=group.deadline,
                done=partial(self._came, group),
                since=group.parts[0][0].since,
            )

    def _next_group(self) -> Group | None:
        """Suspects have at most one query at a time, and never two turns together while others wait."""
        parts = self._next_half()
        if not parts and self._others_turn:
            parts = self._next_parts()
        self._others_turn = False
        if not parts and self._alone and self._last_alone not in self._asked:
            self._others_turn = True
            self._last_alone = group = Group([self._alone.popleft()])
            return group
        parts = parts or self._next_parts()
        return Group(parts) if parts else None

    def _next_half(self) -> list[Part]:
        while self._halves:
            if parts := [part for part in self._halves.popleft() if not part[0].ended]:
                return parts
        return []

    def _next_parts(self) -> list[Part]:
        """Those that go together. Only one tries a silent server: others would wait with it."""
        parts: list[Part] = []
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

    def _came(self, group: Group, answer: bytes | None, error: Exception | None, spoken: Spoken) -> None:
        self._asked.remove(group)
        if isinstance(error, Refused) and len(group.parts) > 1:
            half = len(group.parts) // 2
            self._halves += group.parts[:half], group.parts[half:]
            self._send()
            return
        if len(group.members) == 1:
            self._suspect(group.members[0], error)
        self._send()  # first, so that the server has work while we read
        if error is None:
            try:
                rows = self._reading.rows(answer, group.meters, spoken)
            except FactsMisread as misread:
                error = misread
            else:
                self._hand_out(group, rows)
                return
        for read, _, _ in group.parts:
            self._tell(read, None, self._reading.meaning(error))

    def _suspect(self, member: tuple[str, str], error: Exception | None) -> None:
        if isinstance(error, Refused):
            if len(self._suspects) >= MOST_SUSPECTS:
                self._suspects.clear()
            self._suspects.add(member)
        elif error is None and self._suspects:
            self._suspects.discard(member)

    def _hand_out(self, group: Group, rows: list[Facts | SidecarError | None]) -> None:
        at = 0
        for read, start, stop in group.parts:
            if len(read.members) == 1 and not isinstance(row := rows[at], SidecarError):  # as mostly
                self._tell(read, [row], None)
                at += 1
                continue
            facts: list[Facts | None] = []
            for row in rows[at : at + stop - start]:
                if isinstance(row, SidecarError):
                    self._tell(read, None, row)
                    break
                facts.append(row)
            else:
                self._take(read, start, facts)
            at += stop - start

    def _take(self, read: Read, start: int, facts: list[Facts | None]) -> None:
        read.missing -= len(facts)
        if len(facts) < len(read.members):
            read.found = read.found or [None] * len(read.members)
            read.found[start : start + len(facts)] = facts
            facts = read.found
        if not read.missing:
            self._tell(read, facts, None)

    def _tell(self, read: Read, facts: list[Facts | None] | None, error: Exception | None) -> None:
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
            for read, _, _ in self._all_waiting():
                if read.deadline <= now:
                    self._tell(read, None, late(f"all {self._most_at_once} connections were busy"))
            self._waiting = deque(part for part in self._waiting if not part[0].ended)
            self._pairs = sum(stop - start for _, start, stop in self._waiting)
            self._alone = deque(part for part in self._alone if not part[0].ended)
            in_groups = (part for group in self._asked for part in group.parts)
            there = (*self._all_waiting(), *in_groups)
            self._earliest = min((read.deadline for read, _, _ in there if not read.ended), default=inf)
        if self._asked or self._waiting or self._alone or self._halves:
            return True
        self._earliest = inf
        return False

    def _all_waiting(self) -> list[Part]:
        return [*(part for half in self._halves for part in half), *self._alone, *self._waiting]
