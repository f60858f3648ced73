"""What breaks around the processes: disks, clocks, names, one of two hosts."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING

import psycopg

from sidecar.store.resolver import EVERY_S
from tests.chaos.parts import Fault, World
from tests.postgres_server import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.chaos.parts import Again
    from tests.chaos.surroundings import SurroundedPostgres, Surroundings
    from tests.serving.names import NameServer
    from tests.store.proxy import Proxy

BACK_WITHIN_S = 10.0
MINUTES, HOURS = 10 * 60, 2 * 60 * 60


@dataclass(frozen=True, kw_only=True)
class Surrounded(World):
    """The URL names two hosts, *first* and *second*, which lead to the same server."""

    around: Surroundings
    postgres: Again[SurroundedPostgres]
    disk: Path
    log: Path
    names: NameServer
    first: Proxy
    second: Proxy


@contextmanager
def _the_disk_of_the_database_full(world: Surrounded) -> Iterator[None]:
    with world.around.full(world.disk):
        yield
    _start_again(world)


@contextmanager
def _no_room_for_wal(world: Surrounded) -> Iterator[None]:
    """No new segment can be made: PostgreSQL ends by itself, and somebody has to start it again."""
    with world.around.full(world.disk):
        with suppress(psycopg.OperationalError):  # the server may end before it has answered
            rows(world.database(), "SELECT pg_switch_wal()")
        yield
    _start_again(world)


def _start_again(world: Surrounded) -> None:
    """As whoever looks after a PostgreSQL that has ended by itself, or is just ending."""
    ending = monotonic() + BACK_WITHIN_S
    while monotonic() < ending:
        if not world.postgres.it.running:
            world.postgres.again()
            for each in (world.first, world.second):
                each.lead_to(world.postgres.it.url)
            return
        with suppress(psycopg.OperationalError):
            rows(world.database(), "SELECT")
            return
        sleep(0.05)


@contextmanager
def _the_disk_of_the_log_full(world: Surrounded) -> Iterator[None]:
    with world.around.full(world.log):
        yield


def _clock_ahead(seconds: int) -> Callable[[Surrounded], AbstractContextManager[None]]:
    return lambda world: world.around.clock_ahead(seconds)


@contextmanager
def _no_name_server(world: Surrounded) -> Iterator[None]:
    """And connections are to be made anew: else nobody asks it."""
    world.names.silent = True
    sleep(EVERY_S + 0.1)  # what was resolved before counts no more
    for each in (world.first, world.second):
        each.cut()
    yield
    world.names.silent = False


@contextmanager
def _the_first_host_silent(world: Surrounded) -> Iterator[None]:
    world.first.silent = True
    yield
    world.first.silent = False
    world.first.cut()  # of what was sent meanwhile nothing has arrived


_SKEWED = frozenset({"clock_skew"})
FAULTS: dict[str, Fault[Surrounded]] = {
    "disk full of PostgreSQL": Fault(
        breaks=_the_disk_of_the_database_full, told=frozenset({"facts_unavailable"})
    ),
    "disk full of PostgreSQL, of WAL too": Fault(
        breaks=_no_room_for_wal, told=frozenset({"facts_unavailable"})
    ),
    "disk full of the decision log": Fault(
        breaks=_the_disk_of_the_log_full, told=frozenset({"log_unavailable"})
    ),
    "the sidecar's clock 10 minutes ahead": Fault(breaks=_clock_ahead(MINUTES)),
    "the sidecar's clock 10 minutes behind": Fault(breaks=_clock_ahead(-MINUTES)),
    "the sidecar's clock 2 hours ahead": Fault(breaks=_clock_ahead(HOURS), told=_SKEWED, refused=True),
    "the sidecar's clock 2 hours behind": Fault(breaks=_clock_ahead(-HOURS), told=_SKEWED, refused=True),
    "silent name server, and connections cut": Fault(breaks=_no_name_server),
    "silent first host of two": Fault(breaks=_the_first_host_silent),
}
