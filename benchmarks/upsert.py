"""The rival of a consume: the guarded upsert that one would write by hand, with a key, by psycopg."""

from __future__ import annotations

import random
import secrets
import sys
import time
from multiprocessing import get_context
from typing import TYPE_CHECKING

import psycopg

from benchmarks.load import Figures

if TYPE_CHECKING:
    from uuid import UUID

CLIENTS = 8
LIMIT = 10**12
_SLOWEST_S = 30
TABLES = (
    """CREATE TABLE bare_usage (
        workspace_id uuid, meter text, period_start timestamptz, used bigint NOT NULL,
        PRIMARY KEY (workspace_id, meter, period_start)
    ) WITH (fillfactor = 70)""",
    "CREATE TABLE bare_keys (workspace_id uuid, key text, PRIMARY KEY (workspace_id, key))",
)
QUERY = """
    WITH fresh AS (
        INSERT INTO bare_keys VALUES (%(id)s, %(key)s) ON CONFLICT DO NOTHING RETURNING 1
    )
    INSERT INTO bare_usage AS u (workspace_id, meter, period_start, used)
    SELECT %(id)s, 'minutes', date_trunc('month', now(), 'UTC'), 1 FROM fresh WHERE 1 <= %(limit)s
    ON CONFLICT (workspace_id, meter, period_start) DO UPDATE
    SET used = u.used + excluded.used WHERE u.used + excluded.used <= %(limit)s
    RETURNING used
"""


def upserts(url: str, workspaces: list[UUID], *, seconds: int) -> Figures:
    """By CLIENTS processes together, each with its own connection."""
    context = get_context("fork")
    gate, told = context.Barrier(CLIENTS, timeout=_SLOWEST_S), context.SimpleQueue()

    def run() -> None:
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
            taken: list[float] = []
            gate.wait()
            asked = time.perf_counter()
            ending = asked + seconds
            while asked < ending:
                chosen = random.choice(workspaces)  # noqa: S311 - any
                values = {"id": chosen, "limit": LIMIT, "key": secrets.token_hex(8)}
                if connection.execute(QUERY, values).fetchone() is None:
                    sys.exit("the upsert took nothing")
                answered = time.perf_counter()
                taken.append(answered - asked)
                asked = answered
        told.put(taken)

    clients = [context.Process(target=run) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    taken = []
    for _ in clients:
        while told.empty():
            if any(client.exitcode for client in clients):
                sys.exit("a client of the upsert failed")
            time.sleep(0.05)
        taken += told.get()
    for client in clients:
        client.join()
    return Figures.of(taken, seconds=seconds)
