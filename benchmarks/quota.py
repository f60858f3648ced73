"""How fast quota is taken, beside the bare guarded upsert; and whether a racing crowd can oversell it.

python -m benchmarks.quota [--seconds 5] [--attempts 1000000]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg

from sidecar.catalog.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.embedded import EmbeddedPostgres
from sidecar.store.ledger import PostgresLedger
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts
from sidecar.taking import NoRoom, Taken, Taking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.catalog.catalog import Catalog

THREADS = 16
PROCESSES = 4
MANY = 1_000
LIMIT = 10**9
FOREVER = float("inf")
WORKSPACES = """
    INSERT INTO authz.workspaces (slug, name, plan_tier)
    SELECT 'w' || n, 'w' || n, 'team' FROM generate_series(1, %s) AS n
"""
MEMBERS = """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT id, 'u', 'owner' FROM authz.workspaces
"""
IDS = "SELECT id, facts_version FROM authz.workspaces ORDER BY slug LIMIT %s"
BARE_TABLE = """
    CREATE TABLE bare (workspace_id uuid, meter text, used bigint NOT NULL, PRIMARY KEY (workspace_id, meter))
    WITH (fillfactor = 70)
"""
# The room is guarded in both arms; nothing else is kept: no key, no ledger, no period, no version.
BARE = """
    INSERT INTO bare AS b (workspace_id, meter, used) SELECT %(id)s, 'minutes', 1 WHERE 1 <= %(limit)s
    ON CONFLICT (workspace_id, meter) DO UPDATE SET used = b.used + 1 WHERE b.used + 1 <= %(limit)s
    RETURNING used
"""
USED = "SELECT used FROM authz.workspace_usage WHERE workspace_id = %s"
LEDGER = "SELECT sum(amount), count(*) FROM authz.usage_ledger WHERE workspace_id = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    what: str
    workspaces: int
    per_second: float
    of_bare: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    attempts: int
    limit: int
    allowed: int
    used: int
    in_ledger: int
    seconds: float

    @property
    def oversold(self) -> int:
        return max(0, self.used - self.limit)


def taking(workspace: tuple[UUID, int], *, key: str | None, limit: int = LIMIT) -> Taking:
    return Taking(
        workspace_id=workspace[0],
        facts_version=workspace[1],
        user="u",
        action="recording.start",
        amounts={"minutes": 1},
        limits={"minutes": limit},
        resource=None,
        key=key,
        fingerprint="f" * 64,
        ttl_s=None,
        reservation=None,
        decision_id="d" * 32,
        revision="r" * 32,
        role="owner",
        plan="team",
        message="Owner may perform recording.start.",
    )


def rates(url: str, catalog: Catalog, *, seconds: float) -> Iterator[Rate]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(WORKSPACES.encode(), (MANY,))
        connection.execute(MEMBERS.encode())
        connection.execute(BARE_TABLE.encode())
    for count in (1, MANY):
        with psycopg.connect(url) as connection:
            workspaces = connection.execute(IDS.encode(), (count,)).fetchall()
        bare = _a_second(partial(_bare, url, workspaces), seconds)
        yield Rate(what="bare guarded upsert, psycopg", workspaces=count, per_second=bare, of_bare=1)
        store = PostgresFacts(url, catalog=catalog, pool_size=THREADS, lock_timeout_s=5)
        store.open()
        ledger = PostgresLedger(store.connections, catalog=catalog)
        for what, keyed in (("consume with an idempotency key", True), ("consume without a key", False)):
            found = _a_second(partial(_ours, ledger, workspaces, keyed=keyed), seconds)
            yield Rate(what=what, workspaces=count, per_second=found, of_bare=found / bare)
        store.close()


def _bare(url: str, workspaces: list[tuple[UUID, int]]) -> Callable[[int], None]:
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=1)

    def once(number: int) -> None:
        id_ = workspaces[number % len(workspaces)][0]
        connection.execute(BARE.encode(), {"id": id_, "limit": LIMIT}).fetchone()

    return once


def _ours(
    ledger: PostgresLedger, workspaces: list[tuple[UUID, int]], *, keyed: bool
) -> Callable[[int], None]:
    run = uuid4().hex

    def once(number: int) -> None:
        workspace = workspaces[number % len(workspaces)]
        key = f"{run}-{number}" if keyed else None
        outcome = ledger.take(taking(workspace, key=key), deadline=FOREVER)
        if not isinstance(outcome, Taken):
            raise TypeError(f"nothing was taken: {outcome}")

    return once


def _a_second(caller: Callable[[], Callable[[int], None]], seconds: float) -> float:
    """How often a second, of as many callers as there are threads, each with what *caller* makes."""
    done = [0] * THREADS
    ending = time.perf_counter() + seconds

    def ask(place: int) -> None:
        once, number = caller(), place * 7_919
        while time.perf_counter() < ending:
            once(number)
            number += 1
            done[place] += 1

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def race(url: str, catalog: Catalog, *, attempts: int) -> Race:
    """Processes that all want the same room, half as much as they ask for."""
    limit = attempts // 2
    with psycopg.connect(url, autocommit=True) as connection:
        [workspace] = connection.execute(IDS.encode(), (1,)).fetchall()
        connection.execute(b"SELECT authz.set_usage(%s, '{}', '{}')", (workspace[0],))
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        each = [(url, workspace, limit, attempts // PROCESSES)] * PROCESSES
        allowed = sum(pool.starmap(_attempts, each))
    seconds = time.perf_counter() - began
    with psycopg.connect(url) as connection:
        (used,) = connection.execute(USED.encode(), (workspace[0],)).fetchone() or (0,)
        in_ledger, _ = connection.execute(LEDGER.encode(), (workspace[0],)).fetchone() or (0, 0)
    return Race(
        attempts=attempts, limit=limit, allowed=allowed, used=used, in_ledger=int(in_ledger), seconds=seconds
    )


def _attempts(url: str, workspace: tuple[UUID, int], limit: int, attempts: int) -> int:
    catalog = compiled_at(shipped("plans.yaml"), shipped("policies")).catalog
    store = PostgresFacts(url, catalog=catalog, pool_size=1, lock_timeout_s=60, statement_timeout_s=60)
    store.open()
    ledger = PostgresLedger(store.connections, catalog=catalog)
    wanted = taking(workspace, key=None, limit=limit)
    allowed = 0
    for number in range(attempts):
        outcome = ledger.take(replace(wanted, decision_id=f"{number:032}"), deadline=FOREVER)
        if not isinstance(outcome, Taken | NoRoom):
            raise TypeError(f"neither yes nor no: {outcome}")
        allowed += isinstance(outcome, Taken)
    store.close()
    return allowed


def table(found: list[Rate]) -> list[str]:
    return [
        "| what | workspaces | a second | of the bare upsert |",
        "|---|---:|---:|---:|",
        *(
            f"| {each.what} | {each.workspaces:,} | {each.per_second:,.0f} | {each.of_bare:.2f} |"
            for each in found
        ),
    ]


def sentence(found: Race) -> str:
    return (
        f"{found.attempts:,} attempts of {PROCESSES} processes at room for {found.limit:,}, in"
        f" {found.seconds:.0f} s: {found.allowed:,} allowed, {found.used:,} used, {found.in_ledger:,} in the"
        f" ledger, **{found.oversold} oversold**."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each rate")
    parser.add_argument("--attempts", type=int, default=1_000_000, help="of the race; 0: none")
    options = parser.parse_args()
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        database = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        migrate(database.url, catalog=compiled.catalog, revision=compiled.revision)
        print("\n".join(table(list(rates(database.url, compiled.catalog, seconds=options.seconds)))))
        if options.attempts:
            print(sentence(race(database.url, compiled.catalog, attempts=options.attempts)))


if __name__ == "__main__":
    main()
