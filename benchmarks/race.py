"""A million racing attempts, and how many of them were sold what was not there.

    python -m benchmarks.race [--attempts 1000000] [--batch 50000] [--processes 8]

In batches: a new workspace with a limit of about half of what will be asked for, and processes of sixteen
threads that all want it at once, so that they ask in groups, in amounts from 1 to 7, a fifth of them under a
key that others use too. Then everything is added up. The exit code is 1 if anything was oversold, or sold
twice.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter as Counts
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.quota.model import Charge, Charged, Consume, Counter, NoCapacity, Replayed
from sidecar.rego.load import catalog_at
from sidecar.settings import shipped
from sidecar.store.connections import Connections
from sidecar.store.ledger import PostgresLedger
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts

LARGEST = 7
THREADS = 16
SHARED = 5  # one in so many asks under a key that others ask under too
NEW_WORKSPACE = """
    WITH w AS (
        INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'Race', 'team') RETURNING id
    ), m AS (
        INSERT INTO authz.workspace_memberships SELECT id, 'racer', 'owner' FROM w RETURNING workspace_id
    )
    SELECT workspace_id FROM m
"""
ADD_UP = """
    SELECT
        COALESCE((SELECT used FROM authz.workspace_usage WHERE workspace_id = w.id), 0),
        (SELECT COALESCE(sum(amount), 0)::bigint FROM authz.usage_ledger WHERE workspace_id = w.id),
        (SELECT count(*) FROM authz.usage_ledger WHERE workspace_id = w.id),
        (SELECT count(*) FROM authz.miscounts(w.id))
    FROM authz.workspaces AS w WHERE w.id = %s
"""


@dataclass(slots=True)
class Sums:
    attempts: int = 0
    taken: int = 0
    repeated: int = 0
    refused: int = 0
    oversold: int = 0  # units above the limit
    doubled: int = 0  # lines of the ledger that no answer stands for
    miscounted: int = 0

    @property
    def sound(self) -> bool:
        return not (self.oversold or self.doubled or self.miscounted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prize:
    url: str
    catalog: Catalog
    facts: Facts
    limit: int
    tries: int


def race(prize: Prize, seed: int, gate: Barrier, told: SimpleQueue[tuple[int, int, int]]) -> None:
    connections = Connections(prize.url, size=2, statement_timeout_s=60, lock_timeout_s=60)
    connections.open()
    ledger = PostgresLedger(connections, catalog=prize.catalog)
    chance = random.Random(seed)  # noqa: S311 - the same each time
    amounts = [chance.randint(1, LARGEST) for _ in range(prize.tries)]
    counter = Counter(limit=prize.limit, resets_at=prize.facts.usage["minutes"].resets_at)

    def attempt(number: int) -> type:
        shared = number % SHARED == 0
        amount = 1 + number % LARGEST if shared else amounts[number]
        charge = Charge(
            workspace_id=prize.facts.workspace_id,
            token=prize.facts.token,
            user="racer",
            action="recording.start",
            amounts={"minutes": amount},
            limits={"minutes": prize.limit},
            resource=None,
            key=f"shared-{number}" if shared else f"{seed}-{number}",
            fingerprint=str(amount),
            purpose=Consume(),
            decision_id=f"{seed}-{number}",
            revision="race",
            role="owner",
            plan="team",
            message="",
            counter=counter,
        )
        return type(ledger.charge(charge, deadline=time.monotonic() + 120))

    gate.wait()
    with ThreadPoolExecutor(THREADS) as pool:
        heard = Counts(pool.map(attempt, range(prize.tries)))
    charged, replayed, refused = heard[Charged], heard[Replayed], heard[NoCapacity]
    if charged + replayed + refused != prize.tries:
        sys.exit(f"the race met {heard}")
    told.put((charged, replayed, refused))


def run_batch(
    url: str,
    store: PostgresFacts,
    catalog: Catalog,
    sums: Sums,
    *,
    number: int,
    attempts: int,
    processes: int,
) -> None:
    tries = attempts // processes
    limit = processes * tries * (1 + LARGEST) // 4
    with psycopg.connect(url, autocommit=True) as connection:
        (workspace,) = connection.execute(NEW_WORKSPACE, (f"race-{number}",)).fetchone() or (UUID(int=0),)
        [facts] = store.facts([("racer", str(workspace))], deadline=time.monotonic() + 60)
        if facts is None:
            sys.exit("the racer is no member")
        context = get_context("fork")
        gate, told = context.Barrier(processes), context.SimpleQueue()
        prize = Prize(url=url, catalog=catalog, facts=facts, limit=limit, tries=tries)
        racers = [
            context.Process(target=race, args=(prize, number * processes + n, gate, told))
            for n in range(processes)
        ]
        for racer in racers:
            racer.start()
        heard = [told.get() for _ in racers]
        for racer in racers:
            racer.join()
        used, in_ledger, lines, miscounts = connection.execute(ADD_UP, (workspace,)).fetchone() or (0,) * 4
    taken, repeated, refused = map(sum, zip(*heard, strict=True))
    sums.attempts += tries * processes
    sums.taken += taken
    sums.repeated += repeated
    sums.refused += refused
    sums.oversold += max(0, used - limit, in_ledger - limit)
    sums.doubled += abs(lines - taken)
    sums.miscounted += miscounts


def main() -> None:
    parser = argparse.ArgumentParser(description="Attempts that race for the same quota.")
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=50_000)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()

    catalog = catalog_at(shipped("plans.yaml"))
    sums, began = Sums(), time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="race-")))
        url = stack.enter_context(EmbeddedPostgres(folder / "postgres")).url
        migrate(url, catalog=catalog, revision="race")
        store = PostgresFacts(url, catalog=catalog, pool_size=1)
        stack.callback(store.close)
        store.open()
        number = 0
        while sums.attempts < options.attempts:
            batch = min(options.batch, options.attempts - sums.attempts)
            run_batch(
                url,
                store,
                catalog,
                sums,
                number=number,
                attempts=max(batch, options.processes),
                processes=options.processes,
            )
            number += 1
            print(f"{sums.attempts:>9,} attempts, {sums.oversold} oversold", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(
        f"{sums.attempts:,} attempts by {options.processes} processes in {seconds:,.0f} s:"
        f" {sums.taken:,} taken, {sums.repeated:,} repeats, {sums.refused:,} refused;"
        f" {sums.oversold} oversold, {sums.doubled} doubled, {sums.miscounted} miscounted"
    )
    sys.exit(0 if sums.sound else 1)


if __name__ == "__main__":
    main()
