"""What the BRIN index on usage_ledger.at costs and saves: the ledger copied with it, and without it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, ROUNDS, SCANS = 1_000_000, 20, 15
OLD = 20  # one row in so many is old

# All that the two differ by is the index.
WITH, WITHOUT = "bench.with_index", "bench.without_index"
TABLES = (
    "CREATE SCHEMA bench",
    "CREATE TABLE bench.places AS SELECT gen_random_uuid() AS id FROM generate_series(1, 1000)",
    f"CREATE TABLE {WITH} (LIKE authz.usage_ledger INCLUDING ALL)",
    f"CREATE TABLE {WITHOUT} (LIKE authz.usage_ledger INCLUDING ALL EXCLUDING INDEXES)",
    f"ALTER TABLE {WITHOUT} ADD PRIMARY KEY (workspace_id, id)",
    f"CREATE INDEX ON {WITHOUT} (workspace_id, meter, period_start) WHERE kind = 'carried'",
)
# A statement for each row, as consumes do it, a minute after the last one.
INSERT = """
    DO $$
    DECLARE
        places CONSTANT uuid[] := ARRAY(SELECT id FROM bench.places);
        moment timestamptz;
    BEGIN
        FOR n IN {first}..{last} LOOP
            moment := '2024-01-01'::timestamptz + n * interval '1 minute';
            INSERT INTO {table}
                (workspace_id, at, meter, period_start, amount, kind, user_id, action, decision_id)
            VALUES (
                places[1 + n % 1000], moment, 'minutes', date_trunc('month', moment), 1, 'consume',
                'u' || n % 1000 || '-0', 'recording.start', gen_random_uuid()::text
            );
        END LOOP;
    END $$
"""
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'"
FIND = "SELECT count(*) FROM {table} WHERE at < '2024-01-01'::timestamptz + {old} * interval '1 minute'"
INDEX = """
    SELECT pg_relation_size(i.indexrelid), pg_relation_size(i.indrelid)
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
    WHERE i.indrelid = %s::regclass AND a.amname = 'brin'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians; *insert_us* and *wal_bytes* are of one row, *find_ms* of a search."""

    table: str
    insert_us: float
    wal_bytes: float
    find_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    rows: int
    index_bytes: int
    table_bytes: int  # without its indexes
    costs: tuple[Cost, ...]  # with the index, without it


def measured(url: str, /, *, rows: int = ROWS) -> Measured:
    """In the database at *url*, which is migrated: one row after the other, the two tables in turn."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in TABLES:
            connection.execute(statement.encode())
        rounds = [
            (table, *_inserted(connection, table, part, rows // ROUNDS))
            for part in range(ROUNDS)
            for table in (WITH, WITHOUT)
        ]
        connection.execute(f"VACUUM ANALYZE {WITH}, {WITHOUT}".encode())
        costs = tuple(
            Cost(
                table=table,
                insert_us=statistics.median(us for of, us, _ in rounds if of == table),
                wal_bytes=statistics.median(wal for of, _, wal in rounds if of == table),
                find_ms=statistics.median(_found(connection, table, rows // OLD)),
            )
            for table in (WITH, WITHOUT)
        )
        index_bytes, table_bytes = connection.execute(INDEX, (WITH,)).fetchone() or (0, 0)
    return Measured(rows=rows, index_bytes=index_bytes, table_bytes=table_bytes, costs=costs)


def _inserted(connection: psycopg.Connection, table: str, part: int, rows: int) -> tuple[float, float]:
    """Microseconds and bytes of WAL of a row."""
    text = INSERT.format(table=table, first=part * rows + 1, last=(part + 1) * rows)
    (before,) = connection.execute(WAL).fetchone() or (0,)
    began = time.perf_counter()
    connection.execute(text.encode())
    seconds = time.perf_counter() - began
    (after,) = connection.execute(WAL).fetchone() or (0,)
    return seconds * 1e6 / rows, float(after - before) / rows


def _found(connection: psycopg.Connection, table: str, old: int) -> Iterator[float]:
    for _ in range(SCANS):
        began = time.perf_counter()
        connection.execute(FIND.format(table=table, old=old).encode())
        yield (time.perf_counter() - began) * 1_000


def section(found: Measured) -> list[str]:
    """Lines of Markdown."""
    having, lacking = found.costs
    says = (
        f"The BRIN index on `usage_ledger.at`, in copies of the table with {found.rows:,} rows each,"
        f" which were inserted one by one: it has {found.index_bytes:,} bytes beside"
        f" {found.table_bytes / 1e6:.0f} MB of rows. Medians of {ROUNDS} rounds in turn, and of"
        f" {SCANS} searches for the oldest of {OLD} parts."
    )
    return [
        says,
        "",
        "| for each row | with the index | without it |",
        "|---|---:|---:|",
        f"| inserting it, µs | {having.insert_us:.1f} | {lacking.insert_us:.1f} |",
        f"| write-ahead log, bytes | {having.wal_bytes:.0f} | {lacking.wal_bytes:.0f} |",
        f"| finding the old ones, ms for all | {having.find_ms:.1f} | {lacking.find_ms:.1f} |",
    ]
