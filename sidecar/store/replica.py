"""One replica, and whether its facts are used: each answer proves how old they are."""

from __future__ import annotations

import logging
from functools import partial
from math import ceil, inf
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.decisions.model import Facts
from sidecar.errors import DatabaseNotMigrated, FactsMisread, FactsUnavailable, SidecarError
from sidecar.store.asked import Query
from sidecar.store.connections import Connections, array
from sidecar.store.loop import LATE
from sidecar.store.positions import UNASKED, Unproven, replayed_in
from sidecar.store.postgres import FactsReading, answered
from sidecar.store.reads import Reads
from sidecar.store.rows import rows_in

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from sidecar.store.clock import Clock
    from sidecar.store.connection_options import ConnectionOptions
    from sidecar.store.groups import Found, Members, Meters
    from sidecar.store.names import Names, Spoken
    from sidecar.store.positions import Positions

REPLAYED = Query(
    name=b"replayed_facts", sql=b"SELECT authz.replayed_facts($1, $2, $3, $4)"
)  # authz.read_as is called inside: it has to see the snapshot of the facts
_CONNECTIONS = 3  # two for reads, one for the look
_LOOKS_EVERY_S, _LOOKS_WITHIN_S = 1.0, 1.0
_LOOKS_AGAIN_S, _SOON_S = 0.25, 5.0  # so often at first while it is not used, and for how long
_MAY_PASS = frozenset({"behind", "late"})
_LEAST_AWAY_S, _MOST_AWAY_S = 0.5, 32.0
_UNPROVEN = FactsUnavailable("the facts of a replica do not count")  # never raised: the primary is asked
_OF_THE_REPLICA = (FactsUnavailable, FactsMisread, DatabaseNotMigrated)
_log = logging.getLogger("sidecar")


class _ReplayedReading(FactsReading):
    """What authz.replayed_facts is asked and answers. *unproven* is told why facts do not count."""

    query = REPLAYED

    def __init__(self, clock: Clock, positions: Positions, unproven: Callable[[Unproven], None]) -> None:
        super().__init__(clock)
        self._positions = positions
        self._unproven = unproven

    def rows(self, answer: bytes | None, meters: Meters, spoken: Spoken) -> list[Facts | SidecarError | None]:
        replayed = replayed_in(answer)
        try:
            age_s = self._positions.require_fresh(replayed, now=monotonic())
        except Unproven as why:
            self._unproven(why)
            return [_UNPROVEN] * len(meters)
        lag_ms = ceil(age_s * 1000)
        rows = self._clock.guard(rows_in(bytes(replayed.facts), meters=meters, spoken=spoken))
        for row in rows:
            if isinstance(row, Facts):
                object.__setattr__(row, "lag_ms", lag_ms)  # nobody else has it yet, and a copy costs more
        return rows


class Replica:
    """The replica of this *number*, from 1. *is_new* says whether a line about it would say something new.

    Whoever asks is told of any failure, to ask the primary. Then, or when a look each second finds a reason,
    it is not used until a look finds none; one that comes and goes stays away for longer each time. One
    answer that is late or too old is no reason yet: a busy machine has those.
    """

    def __init__(
        self,
        number: int,
        url: str,
        *,
        names: Names,
        clock: Clock,
        positions: Positions,
        options: ConnectionOptions,
        is_new: Callable[[str, str], bool],
    ) -> None:
        self.number = number
        self.is_used = False
        self.lag_s: float | None = None  # when last looked at; None: not known
        self._names = names
        self._positions = positions
        self._is_new = is_new
        self._away_s = _LEAST_AWAY_S
        self._not_before = 0.0
        self._changed_at = monotonic()  # whether it is used
        self._timer: TimerHandle | None = None
        self._is_open = False
        self.connections = Connections(url, size=_CONNECTIONS, statement_timeout_s=1.0, options=options)
        self._doubted_at = inf
        self._why = Unproven(UNASKED, "")
        reading = _ReplayedReading(clock, positions, self._note)
        self._reads = Reads(self.connections, reading, names=names)

    def open(self, loop: AbstractEventLoop) -> None:
        self._loop = self.connections.open(loop)
        self._reads.open(loop)
        self._is_open = True
        loop.call_soon_threadsafe(self._look)

    def end(self) -> None:
        """On the loop: those that wait are told."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        self._reads.end()

    def ask(self, members: Members, meters: Meters, /, *, deadline: float, done: Found) -> None:
        """As PostgresFacts, with `lag_ms` in each of the facts; the error may be any."""
        told = partial(self._answered, done, monotonic())
        self._reads.ask(members, meters, deadline=deadline, done=told)

    @property
    def can_be_asked(self) -> bool:
        return self.is_used and not self.connections.silent

    def _answered(
        self, done: Found, asked_at: float, found: list[Facts | None] | None, error: Exception | None
    ) -> None:
        if error is None:
            self._doubted_at = inf
        elif error is _UNPROVEN:
            self._doubt(self._why, asked_at)
        elif isinstance(error, _OF_THE_REPLICA) and self._is_open:
            self._fails(error, asked_at)
        done(found, error)

    def _doubt(self, why: Unproven, asked_at: float) -> None:
        """*why* ends its use if it is true of what was asked after it was first so."""
        if why.code == UNASKED:  # which says nothing of the replica
            return
        if why.code not in _MAY_PASS or asked_at > self._doubted_at:
            self._goes(why.code, str(why))
        else:
            self._doubted_at = min(self._doubted_at, monotonic())

    def _look(self) -> None:
        """Ask it about nobody: that proves as much."""
        if not self._is_open:
            return
        nobody = [array([])] * 3
        now = monotonic()
        is_new = not self.is_used and now - self._changed_at < _SOON_S
        self._timer = self._loop.call_later(_LOOKS_AGAIN_S if is_new else _LOOKS_EVERY_S, self._look)
        self._names.ask(
            REPLAYED,
            lambda _: nobody,
            self.connections,
            deadline=now + _LOOKS_WITHIN_S,
            done=partial(self._looked, now),
        )

    def _looked(self, asked_at: float, answer: bytes | None, error: Exception | None, _: Spoken) -> None:
        if not self._is_open:
            return
        now = monotonic()
        try:
            replayed = replayed_in(answered(answer, error))
            self.lag_s = None
            self.lag_s = self._positions.age_of(replayed, now=now)
            self._positions.require_fresh(replayed, now=now)
        except Unproven as why:
            self._doubt(why, asked_at)
        except Exception as failure:  # noqa: BLE001 - the border of the loop: whatever it says, it is not used
            self._fails(failure, asked_at)
        else:
            self._fits(now)

    def _fits(self, now: float) -> None:
        self._doubted_at = inf
        if self.is_used:
            if now - self._changed_at > _MOST_AWAY_S:
                self._away_s = _LEAST_AWAY_S
        elif now >= self._not_before:
            self.is_used, self._changed_at = True, now
            if self._is_new(self._name, ""):
                _log.info("facts are read from replica %d again", self.number)

    def _fails(self, error: Exception, asked_at: float) -> None:
        self.lag_s = None
        said = getattr(error, "detail", "") or repr(error)
        if isinstance(error, DatabaseNotMigrated):
            self._goes("not_migrated", f"it has not replayed what this version needs ({said})")
        else:
            self._doubt(Unproven("late" if said.startswith(LATE) else "away", said), asked_at)

    def _note(self, why: Unproven) -> None:
        """Of the answer that is read: those who have asked are told next."""
        self._why = why

    def _goes(self, code: str, said: str) -> None:
        if self.is_used:
            self.is_used, self._changed_at = False, monotonic()
            self._not_before = self._changed_at + self._away_s
            self._away_s = min(2 * self._away_s, _MOST_AWAY_S)
        if self._is_new(self._name, "away" if code == "late" else code):
            _log.warning(
                "no facts are read from replica %d of SIDECAR_FACTS_URLS: %s; the primary is asked",
                self.number,
                said,
            )

    @property
    def _name(self) -> str:
        return f"replica-{self.number}"
