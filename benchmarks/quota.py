"""What a consume costs: ours beside the guarded upsert that one would write, on one server, in one run.

    python -m benchmarks.quota [--seconds 2] [--rounds 5]

In turns, each for some seconds, so that whatever else the machine does hits all alike; medians are compared.
"""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from benchmarks import world
from benchmarks.load import wrk
from benchmarks.run import machine, product, say
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.quota.model import Charge, Charged, Consume, Counter
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.connections import Connections
from sidecar.store.facts_token import token_in
from sidecar.store.ledger import PostgresLedger
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sidecar.decisions.model import Facts
    from sidecar.rego.compile import Compiled

RESULTS = Path(__file__).with_name("QUOTA.md")
WORKSPACES = 1_000
CLIENTS = (1, 8)
LIMIT = 10**12
BODY = (
    '{"user": "u%d-%d", "workspace": "w%d", "action": "recording.start", "mode": "consume",'
    ' "idempotency_key": "%s"}'
)
SCHEMA = (
    """CREATE TABLE bare_usage (
        workspace_id uuid, meter text, period_start timestamptz, used bigint NOT NULL,
        PRIMARY KEY (workspace_id, meter, period_start)
    ) WITH (fillfactor = 70)""",
    "CREATE TABLE bare_keys (workspace_id uuid, key text, PRIMARY KEY (workspace_id, key))",
    """INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
    SELECT id, 'limit', 'minutes', 1000000000000 FROM authz.workspaces""",
)
UPSERT = """
    INSERT INTO bare_usage AS u (workspace_id, meter, period_start, used)
    SELECT %(id)s, 'minutes', date_trunc('month', now(), 'UTC'), 1 WHERE 1 <= %(limit)s
    ON CONFLICT (workspace_id, meter, period_start) DO UPDATE
    SET used = u.used + excluded.used WHERE u.used + excluded.used <= %(limit)s
    RETURNING used
"""
UPSERT_WITH_KEY = """
    WITH fresh AS (
        INSERT INTO bare_keys VALUES (%(id)s, %(key)s) ON CONFLICT DO NOTHING RETURNING 1
    )
    INSERT INTO bare_usage AS u (workspace_id, meter, period_start, used)
    SELECT %(id)s, 'minutes', date_trunc('month', now(), 'UTC'), 1 FROM fresh WHERE 1 <= %(limit)s
    ON CONFLICT (workspace_id, meter, period_start) DO UPDATE
    SET used = u.used + excluded.used WHERE u.used + excluded.used <= %(limit)s
    RETURNING used
"""


IDS = """
    SELECT id, facts_version FROM authz.workspaces WHERE slug ~ '^w[0-9]+$' ORDER BY slug <> 'w0'
"""


def upsert(url: str, query: str) -> Callable[[tuple[UUID, int]], None]:
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def take(workspace: tuple[UUID, int]) -> None:
        asked = {"id": workspace[0], "limit": LIMIT, "key": secrets.token_hex(16)}
        if connection.execute(query, asked).fetchone() is None:
            sys.exit("the upsert took nothing")

    return take


def facts_of_the_first(url: str, compiled: Compiled) -> Facts:
    """As each question reads them; here they are the same in all workspaces, but for the version."""
    facts = PostgresFacts(url, catalog=compiled.catalog, pool_size=1)
    facts.open()
    [first] = facts.workspaces_of("u0-0", after=None, limit=1, deadline=time.monotonic() + 10)
    facts.close()
    return first


def ours(url: str, compiled: Compiled, facts: Facts) -> Callable[[tuple[UUID, int]], None]:
    connections = Connections(url, size=1, statement_timeout_s=10, lock_timeout_s=10)
    connections.open()
    ledger = PostgresLedger(connections, catalog=compiled.catalog)
    token = token_in(facts.token)
    counter = Counter(limit=LIMIT, resets_at=facts.usage["minutes"].resets_at)

    def take(workspace: tuple[UUID, int]) -> None:
        charge = Charge(
            workspace_id=workspace[0],
            token=replace(token, version=workspace[1]),
            user="u",
            action="recording.start",
            amounts={"minutes": 1},
            limits={"minutes": 1_000},
            resource=None,
            key=secrets.token_hex(16),
            fingerprint="f" * 64,
            purpose=Consume(),
            decision_id=secrets.token_hex(16),
            revision=compiled.revision,
            role="member",
            plan="team",
            message="Member may perform recording.start.",
            counter=counter,
        )
        if not isinstance(ledger.charge(charge, deadline=time.monotonic() + 10), Charged):
            sys.exit("the ledger took nothing")

    return take


def per_second(
    begin: Callable[[], Callable[[tuple[UUID, int]], None]],
    workspaces: list[tuple[UUID, int]],
    *,
    clients: int,
    seconds: float,
) -> float:
    """By *clients* processes together, each with its own connection."""
    context = get_context("fork")
    gate, counts = context.Barrier(clients), context.SimpleQueue()

    def run() -> None:
        take, count = begin(), 0
        take(random.choice(workspaces))  # noqa: S311 - any
        gate.wait()
        ending = time.perf_counter() + seconds
        while time.perf_counter() < ending:
            take(random.choice(workspaces))  # noqa: S311 - any
            count += 1
        counts.put(count)

    processes = [context.Process(target=run) for _ in range(clients)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sum(counts.get() for _ in processes) / seconds


def over_http(url: str, compiled: Compiled, *, workspaces: int, clients: int, seconds: int) -> float:
    with product("embedded", url, "") as each:
        load = {"connections": clients, "body": BODY, "workspaces": workspaces}
        wrk(each.url, seconds=1, **load)
        figures = wrk(each.url, seconds=seconds, **load)
    if figures.not_2xx or figures.broken:
        say(f"not every consume was answered: {figures}")
    return figures.per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=int, default=2, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    lines = [
        "# Consumes a second",
        "",
        (
            f"Written by `python -m benchmarks.quota` on {machine()}; medians of {options.rounds} turns of"
            f" {options.seconds} s each, one process a client, with an idempotency key but for the first."
        ),
        "",
        "| counters | clients | upsert | with a key | PostgresLedger | of the first | of the second | HTTP |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        url = stack.enter_context(EmbeddedPostgres(folder / "postgres")).url
        migrate(url, catalog=compiled.catalog, revision=compiled.revision)
        world.fill(url, workspaces=WORKSPACES)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in (*SCHEMA, "VACUUM ANALYZE"):
                connection.execute(statement.encode())
            all_ids = connection.execute(IDS).fetchall()
        facts = facts_of_the_first(url, compiled)
        contenders = {
            "upsert": lambda: upsert(url, UPSERT),
            "with key": lambda: upsert(url, UPSERT_WITH_KEY),
            "ours": lambda: ours(url, compiled, facts),
        }
        for name, ids in (("one", all_ids[:1]), (f"{WORKSPACES:,}", all_ids)):
            for begin in contenders.values():
                take = begin()
                for workspace in ids:  # the first use makes a row, ours and theirs
                    take(workspace)
            for clients in CLIENTS:
                turns: dict[str, list[float]] = {contender: [] for contender in contenders}
                for _ in range(options.rounds):
                    for contender, begin in contenders.items():
                        turns[contender].append(
                            per_second(begin, ids, clients=clients, seconds=options.seconds)
                        )
                bare, keyed, taken = (statistics.median(each) for each in turns.values())
                http = over_http(url, compiled, workspaces=len(ids), clients=clients, seconds=options.seconds)
                lines.append(
                    f"| {name} | {clients} | {bare:,.0f} | {keyed:,.0f} | {taken:,.0f} |"
                    f" {taken / bare:.2f} | {taken / keyed:.2f} | {http:,.0f} |"
                )
                say(lines[-1])
    options.output.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
