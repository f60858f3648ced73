"""Facts for checks: from a replica that proves that they are fresh, else from the primary."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Literal

from sidecar.store.connection_options import DEFAULT_OPTIONS
from sidecar.store.names import Names
from sidecar.store.positions import Positions
from sidecar.store.primary_watch import PrimaryWatch
from sidecar.store.replica import Replica

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence

    from sidecar.decisions.model import Facts
    from sidecar.decisions.ports import PlainFacts, PlainFound
    from sidecar.store.clock import Clock
    from sidecar.store.connection_options import ConnectionOptions
    from sidecar.store.groups import Found, Members, Meters
    from sidecar.store.postgres import FoundPlainly, PlainlyDone, PostgresFacts

By = Literal["replica", "primary"]

_SHARE = 0.5  # of the time that is left: the primary has to answer in the rest
_MOST_S = 0.25
_log = logging.getLogger("sidecar")


class ReplicatedFacts:
    """What PostgresFacts says of members, for whoever takes nothing. *urls* are of the replicas of *primary*.

    No facts are used that lack what was committed more than *most_lag_s* before they came. Whoever is no
    member there may have become one: the primary says so. *observe* is told who answered, once a question.
    """

    def __init__(  # noqa: PLR0913 - what a worker joins
        self,
        primary: PostgresFacts,
        url: str,
        urls: Sequence[str],
        *,
        most_lag_s: float,
        clock: Clock,
        revision: str | None = None,
        options: ConnectionOptions = DEFAULT_OPTIONS,
        replica_options: ConnectionOptions,
        observe: Callable[[By], None] = lambda _: None,
        is_new: Callable[[str, str], bool],
    ) -> None:
        self._primary = primary
        self._observe = observe
        self._is_new = is_new
        self._fault: str | None = None
        positions = Positions(most_lag_s=most_lag_s)
        self._watch = PrimaryWatch(url, positions=positions, options=options, observe=self._observe_watch)
        self.replicas = [
            Replica(
                number,
                each,
                names=Names(revision),  # it may know the names of another generation than the primary
                clock=clock,
                positions=positions,
                options=replica_options,
                is_new=is_new,
            )
            for number, each in enumerate(urls, start=1)
        ]
        self._turn = 0

    def open(self, loop: AbstractEventLoop) -> None:
        """After the primary's, on the same *loop*."""
        self._watch.open(loop)
        for replica in self.replicas:
            replica.open(loop)

    def close(self) -> None:
        """From any thread, before the primary's; whoever waits is told."""
        self._primary.connections.loop.run(self._end)
        for connections in (self._watch.connections, *(replica.connections for replica in self.replicas)):
            connections.close()

    def facts(
        self, members: Members, meters: Meters | None = None, /, *, deadline: float
    ) -> list[Facts | None]:
        def ask(done: Found) -> None:
            self.ask(members, meters, deadline=deadline, done=done)

        return self._primary.connections.loop.answer(ask, deadline=deadline)

    def ask(self, members: Members, meters: Meters | None, /, *, deadline: float, done: Found) -> None:
        """As `facts`, on the loop: *done* is called once, later, with the facts or the error."""
        replica = self._next(monotonic())
        if replica is None:
            self._observe("primary")
            self._primary.ask(members, meters, deadline=deadline, done=done)
        else:
            needed = self._primary.meters_of(members, meters)
            self._ask(replica, members, needed, deadline=deadline, done=done)

    def _ask(
        self, replica: Replica, members: Members, meters: Meters, *, deadline: float, done: Found
    ) -> None:
        now = monotonic()
        replica.ask(
            members,
            meters,
            deadline=now + min((deadline - now) * _SHARE, _MOST_S),
            done=partial(self._came, members, meters, deadline, done),
        )

    def _next(self, now: float) -> Replica | None:
        if not self._watch.allows_reads(now):
            return None
        for _ in self.replicas:
            self._turn = (self._turn + 1) % len(self.replicas)
            if (replica := self.replicas[self._turn]).can_be_asked:
                return replica
        return None

    def _came(
        self,
        members: Members,
        meters: Meters,
        deadline: float,
        done: Found,
        found: list[Facts | None] | None,
        error: Exception | None,
    ) -> None:
        if found is None or error is not None:
            self._observe("primary")
            self._primary.ask(members, meters, deadline=deadline, done=done)
            return
        strangers = [place for place, facts in enumerate(found) if facts is None]
        if not strangers:
            self._observe("replica")
            done(found, None)
            return
        self._observe("primary")
        self._primary.ask(
            [members[place] for place in strangers],
            [meters[place] for place in strangers],
            deadline=deadline,
            done=partial(_put, found, strangers, done),
        )

    def plain_facts(self, members: Members, /, *, deadline: float) -> list[PlainFound]:
        def ask(done: FoundPlainly) -> None:
            self.ask_plain_facts(members, deadline=deadline, done=done)

        return self._primary.connections.loop.answer(ask, deadline=deadline)

    def ask_plain_facts(self, members: Members, /, *, deadline: float, done: FoundPlainly) -> None:
        """As PostgresFacts; each of what a replica says has its own time."""
        replica = self._next(monotonic())
        if replica is None:
            self._observe("primary")
            self._primary.ask_plain_facts(members, deadline=deadline, done=done)
            return

        def came(found: list[Facts | None] | None, error: Exception | None) -> None:
            if found is None:
                done(None, error)
            else:
                done([None if facts is None else (PlainOf(facts), facts.at) for facts in found], None)

        self._ask(replica, members, [()] * len(members), deadline=deadline, done=came)

    def ask_plainly(
        self,
        users: Sequence[str],
        workspaces: Sequence[str],
        /,
        *,
        deadline: float,
        since: float,
        done: PlainlyDone,
    ) -> None:
        """As PostgresFacts."""
        replica = self._next(monotonic())
        if replica is None:
            self._observe("primary")
            self._primary.ask_plainly(users, workspaces, deadline=deadline, since=since, done=done)
            return

        def came(found: list[Facts | None] | None, error: Exception | None) -> None:
            if found is None:
                done(None, error)
            else:
                rows: list[PlainFacts | None] = [None if facts is None else PlainOf(facts) for facts in found]
                done((rows, datetime.now(UTC)), None)

        members = list(zip(users, workspaces, strict=True))
        self._ask(replica, members, [()] * len(users), deadline=deadline, done=came)

    @property
    def silent(self) -> bool:
        """Of the primary: a replica that is silent is not used."""
        return self._primary.silent

    def meaning(self, error: Exception) -> Exception:
        """As PostgresFacts: whatever fails, the primary has said so."""
        return self._primary.meaning(error)

    def _observe_watch(self, fault: str | None) -> None:
        """One line when the primary cannot be asked what it has written, and one when it can again."""
        if (fault is None) == (self._fault is None):
            return
        self._fault = fault
        if not self._is_new("replicas", "" if fault is None else "fault"):
            return
        if fault is None:
            _log.info("the primary says again what it has written: facts may be read from replicas")
        else:
            _log.warning(
                "no facts are read from any replica: the primary cannot be asked what it has written: %s",
                fault,
            )

    def _end(self) -> None:
        self._watch.end()
        for replica in self.replicas:
            replica.end()


class PlainOf:
    """PlainFacts of *facts*, each of which may be true of another time."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.workspace_id = str(facts.workspace_id)
        self.slug = facts.slug
        self.role = facts.role
        self.plan = facts.plan
        self.status = facts.status
        self.overrides = facts.feature_overrides
        self.version = facts.version
        self.at = facts.at
        self.lag_ms = facts.lag_ms

    def facts(self, at: datetime) -> Facts:  # noqa: ARG002 - it has its own
        return self._facts


def _put(
    found: list[Facts | None],
    places: list[int],
    done: Found,
    of_strangers: list[Facts | None] | None,
    error: Exception | None,
) -> None:
    if of_strangers is None or error is not None:
        done(None, error)
        return
    for place, facts in zip(places, of_strangers, strict=True):
        found[place] = facts
    done(found, None)
