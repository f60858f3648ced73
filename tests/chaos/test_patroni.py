"""A primary that is killed together with its Patroni: `make chaos` runs docs/operations/failover.md."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.measured import assert_harmless
from tests.chaos.parts import Fault, World, a_sidecar, with_the_demo_world
from tests.chaos.patroni import PAGE, PASSWORD, Member, a_cluster
from tests.serving.serving import policies_that_read_ip

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "kill -9 of the primary and of its Patroni"
TTL_S = 20.0  # as in deploy/patroni/patroni.yaml
FIGURES = re.compile(r"(?<=`make chaos` measured: ).*")


@dataclass(frozen=True, kw_only=True)
class Clustered(World):
    members: list[Member]
    killed_at: list[float] = field(default_factory=list)


@contextmanager
def _the_primary_killed(world: Clustered) -> Iterator[None]:
    first, second = world.members
    first.kill()
    world.killed_at.append(monotonic())
    yield
    ending = monotonic() + 3 * TTL_S
    while not second.is_a("primary"):
        assert monotonic() < ending, "nobody was promoted"
        sleep(0.05)


FAULT = Fault(
    breaks=_the_primary_killed,
    sql=False,
    told=frozenset({"facts_unavailable"}),
    recovers_s=5.0,
)


@pytest.mark.postgres
@pytest.mark.skipif("CHAOS_TABLE" not in os.environ, reason="`make chaos` has it: it takes a minute")
def test_a_synchronous_standby_takes_over_and_nothing_is_lost(tmp_path, table):
    policies = policies_that_read_ip(tmp_path / "policies")
    with a_cluster() as members:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in members)
        url = f"postgresql://postgres:{PASSWORD}@{hosts}/postgres?target_session_attrs=read-write"
        with_the_demo_world(url, policies)
        with a_sidecar(tmp_path, database_url=url) as sidecar:
            assert sidecar.it.until(sidecar.it.is_ready), sidecar.it.said
            world = Clustered(
                port=sidecar.it.port,
                database=lambda: f"{url}&connect_timeout=2",
                sidecar=sidecar,
                members=members,
            )
            found = assert_harmless(world, NAME, FAULT, table)
    told = found.clients.told
    outage_s = told.failed - world.killed_at[0]
    granted, wrong = found.clients.granted, len(told.wrong)
    figures = f"{outage_s:.1f} s of 503, {granted} consumes granted, {wrong} lost or doubled."
    sys.stderr.write(f"{figures}\n")
    if Path(os.environ["CHAOS_TABLE"]).resolve().parent == PAGE.parent:
        PAGE.write_text(FIGURES.sub(figures, PAGE.read_text()))
    assert TTL_S / 2 < outage_s < TTL_S + 10
