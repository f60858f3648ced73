"""What breaks about a replica that checks read. It is synchronous, so whoever was removed is gone at once."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.parts import Fault, World
from tests.postgres_server import rows
from tests.serving.processes import stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.store.proxy import Proxy
    from tests.store.standby import Pair

SLOW_S = 0.15


@dataclass(frozen=True, kw_only=True)
class Replicated(World):
    """The sidecar reads the standby of *pair* through *replica*."""

    pair: Pair
    replica: Proxy


@contextmanager
def _silent(world: Replicated) -> Iterator[None]:
    world.replica.silent = True
    yield
    world.replica.silent = False
    world.replica.cut()  # of what was sent meanwhile nothing has arrived


@contextmanager
def _slow(world: Replicated) -> Iterator[None]:
    world.replica.lag_s = SLOW_S
    yield
    world.replica.lag_s = 0.0


@contextmanager
def _away(world: Replicated) -> Iterator[None]:
    world.replica.refuse()
    yield
    world.replica.accept()


@contextmanager
def _stopped(world: Replicated) -> Iterator[None]:
    with stopped(world.pair.standby_server.process_id):
        yield


@contextmanager
def _replays_nothing(world: Replicated) -> Iterator[None]:
    rows(world.pair.standby, "SELECT pg_wal_replay_pause()")
    yield
    rows(world.pair.standby, "SELECT pg_wal_replay_resume()")


@contextmanager
def _killed(world: Replicated) -> Iterator[None]:
    server = world.pair.standby_server
    os.kill(server.process_id, signal.SIGKILL)
    yield
    server.__exit__(None, None, None)
    server.__enter__()
    world.replica.lead_to(world.pair.standby)
    world.pair.catch_up()


# While the replica itself is away a removal does not return: there is no SQL of ours then.
FAULTS: dict[str, Fault[Replicated]] = {
    "silence between sidecar and read replica": Fault(breaks=_silent),
    "latency between sidecar and read replica": Fault(breaks=_slow),
    "nothing listens between sidecar and read replica": Fault(breaks=_away),
    "SIGSTOP of the read replica": Fault(breaks=_stopped, sql=False),
    "a read replica that replays nothing": Fault(breaks=_replays_nothing, sql=False),
    "kill -9 of the read replica": Fault(breaks=_killed, sql=False),
}
