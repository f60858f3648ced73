"""One fault, with clients who ask all the time: what they were told, and how soon all was well again."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from tests.chaos.asked import Clients
from tests.serving.processes import children_of, resident_kib

if TYPE_CHECKING:
    from tests.chaos.parts import Fault, W
    from tests.chaos.table import Table

LASTS_S = float(os.environ.get("CHAOS_S", "1"))
MINUTES_A_SECOND = 150  # to take: so few that the clients come to their end
MAY_GROW_KIB = 24 * 1024


@dataclass(frozen=True, kw_only=True)
class Measured:
    """*granted* while it lasted; *grown*: the worker that grew most, of those that live on, in KiB."""

    clients: Clients
    granted: int
    recovery_s: float
    grown: int


def measured(world: W, fault: Fault[W]) -> Measured:
    workers = children_of(world.sidecar.it.process.pid)
    before = {pid: resident_kib(pid) for pid in workers}
    clients = Clients(world.port, world.database, minutes=int(MINUTES_A_SECOND * (LASTS_S + 1)))
    with clients:
        sleep(0.3)
        with fault.breaks(world):
            sleep(0.1)  # who was answered before has heard it
            so_far, ends = clients.granted, monotonic() + LASTS_S
            while monotonic() < ends:
                if fault.sql:
                    clients.remove_and_put_back()
                else:
                    sleep(0.1)  # ours would wait too
            granted = clients.granted - so_far
        ended = monotonic()
        recovery_s = clients.recovery_s(since=ended, within_s=fault.recovers_s + 1)
        clients.remove_and_put_back()
    clients.settle()
    grown = {pid: resident_kib(pid) - before[pid] for pid in workers if Path(f"/proc/{pid}/status").exists()}
    return Measured(
        clients=clients, granted=granted, recovery_s=recovery_s, grown=max(grown.values(), default=0)
    )


def assert_harmless(world: W, name: str, fault: Fault[W], table: Table) -> Measured:
    """Measure it and write its row: no answer was wrong, and it was over soon after it ended."""
    found = measured(world, fault)
    clients, told = found.clients, found.clients.told
    row = table.write(
        name,
        f"{LASTS_S:g} s",
        str(told.heard["answered"]),
        str(clients.outages),
        str(len(told.wrong)),
        f"{found.recovery_s:.1f} s",
        f"{found.grown / 1024:+.1f} MiB",
    )
    sys.stderr.write(f"{row} {dict(told.heard)} {dict(told.sql)}\n")

    assert told.wrong == []
    assert found.recovery_s < fault.recovers_s
    assert told.heard["answered"] > 0
    assert not fault.told or fault.told & set(told.heard), "the fault broke nothing"
    assert not fault.refused or found.granted == 0
    assert found.grown < MAY_GROW_KIB
    return found
