"""What breaks on the way to the database: the primary itself, and a pooler."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.parts import Fault, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.parts import Again
    from tests.serving.names import NameServer
    from tests.store.standby import Pair

FOUND_WITHIN_S = 3.0  # as docs/operations/failover.md promises, once the name is right
BUSY_S = 2.0  # on a machine with other tests


@dataclass(frozen=True, kw_only=True)
class Paired(World):
    """The URL has one name, `db.example`, which is at *first* as long as the primary of *pair* lives."""

    pair: Pair
    names: NameServer
    second: str
    moved: list[bool] = field(default_factory=list)


@contextmanager
def _failover(world: Paired) -> Iterator[None]:
    os.kill(world.pair.primary_server.process_id, signal.SIGKILL)
    world.moved.append(True)  # our own SQL waits for the other one
    yield
    world.pair.promote()
    world.names.addresses["db"] = world.second


@dataclass(frozen=True, kw_only=True)
class Pooled(World):
    pooler: Again[str]


@contextmanager
def _pooler_restarted(world: Pooled) -> Iterator[None]:
    """By kill -9, and at once."""
    world.pooler.again()
    yield


@contextmanager
def _pooler_killed(world: Pooled) -> Iterator[None]:
    world.pooler.end()
    yield
    world.pooler.again()


_NO_FACTS = frozenset({"facts_unavailable"})
OF_A_PAIR: dict[str, Fault[Paired]] = {
    "kill -9 of the primary, then the standby is promoted and the name moves": Fault(
        breaks=_failover, told=_NO_FACTS, refused=True, recovers_s=FOUND_WITHIN_S + BUSY_S
    )
}
OF_A_POOLER: dict[str, Fault[Pooled]] = {
    "kill -9 of PgBouncer, and a new one at once": Fault(breaks=_pooler_restarted),
    "kill -9 of PgBouncer": Fault(breaks=_pooler_killed, told=_NO_FACTS),
}
