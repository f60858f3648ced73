"""One replica, and whether its facts are used: each answer proves how old they are."""

from __future__ import annotations

import logging
from functools import partial
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.decisions.model import Facts
from sidecar.errors import DatabaseNotMigrated, FactsMisread, FactsUnavailable, SidecarError
from sidecar.store.asked import Query
from sidecar.store.connections import Connections, array
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
_LOOKS_EVERY_S, _LOOKS_AGAIN_S, _LOOKS_WITHIN_S = 1.0, 0.25, 1.0
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
    it is not used until a look finds none; one that comes and goes stays away for longer each time.
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
        self._used_since = 0.0
        self._timer: TimerHandle | None = None
        self._is_open = False
        self.connections = Connections(url, size=_CONNECTIONS, statement_timeout_s=1.0, options=options)
        reading = _ReplayedReading(clock, positions, self._unproven)
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
        self._reads.ask(members, meters, deadline=deadline, done=partial(self._answered, done))

    def _answered(self, done: Found, found: list[Facts | None] | None, error: Exception | None) -> None:
        if error is not _UNPROVEN and isinstance(error, _OF_THE_REPLICA) and self._is_open:
            self._fails(error)
        done(found, error)

    def _look(self) -> None:
        """Ask it about nobody: that proves as much."""
        if not self._is_open:
            return
        self._timer = self._loop.call_later(_LOOKS_EVERY_S if self.is_used else _LOOKS_AGAIN_S, self._look)
        nobody = [array([])] * 3
        deadline = monotonic() + _LOOKS_WITHIN_S
        self._names.ask(REPLAYED, lambda _: nobody, self.connections, deadline=deadline, done=self._looked)

    def _looked(self, answer: bytes | None, error: Exception | None, _: Spoken) -> None:
        if not self._is_open:
            return
        now = monotonic()
        try:
            replayed = replayed_in(answered(answer, error))
            self.lag_s = None
            self.lag_s = self._positions.age_of(replayed, now=now)
            self._positions.require_fresh(replayed, now=now)
        except Unproven as why:
            self._unproven(why)
        except Exception as failure:  # noqa: BLE001 - the border of the loop: whatever it says, it is not used
            self._fails(failure)
        else:
            self._fits(now)

    def _fits(self, now: float) -> None:
        if self.is_used:
            if now - self._used_since > _MOST_AWAY_S:
                self._away_s = _LEAST_AWAY_S
        elif now >= self._not_before:
            self.is_used, self._used_since = True, now
            if self._is_new(self._name, ""):
                _log.info("facts are read from replica %d again", self.number)

    def _fails(self, error: Exception) -> None:
        self.lag_s = None
        if isinstance(error, DatabaseNotMigrated):
            self._goes("not_migrated", f"it has not replayed what this version needs ({error.detail})")
        else:
            self._goes("away", getattr(error, "detail", "") or repr(error))

    def _unproven(self, why: Unproven) -> None:
        if why.code != UNASKED:  # which says nothing of the replica
            self._goes(why.code, str(why))

    def _goes(self, code: str, said: str) -> None:
        if self.is_used:
            self.is_used = False
            self._not_before = monotonic() + self._away_s
            self._away_s = min(2 * self._away_s, _MOST_AWAY_S)
        if self._is_new(self._name, code):
            _log.warning(
                "no facts are read from replica %d of SIDECAR_FACTS_URLS: %s; the primary is asked",
                self.number,
                said,
            )

    @property
    def _name(self) -> str:
        return f"replica-{self.number}"
