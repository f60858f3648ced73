"""What growth costs: reads of the database with a thousand, a hundred thousand, ten million memberships."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).with_name("GROWTH.md")
SIZES = (1_000, 100_000, 10_000_000)
MEMBERS = 10  # of a workspace; the first one has a tenth of all
BUSY = 1_000  # workspaces of one user, whatever the size
CALLS, ROUNDS = 300, 3
ROWS_AT_ONCE = 250_000  # are written in one step, of some seconds
SAYS = (
    f"Each read {CALLS} times by one caller, in a database of so many memberships; a tenth of all are in one"
    f" workspace, and one user has {BUSY:,} workspaces besides, of which a page from the middle is read."
    f" The quickest of {ROUNDS} rounds."
)

# Without the triggers, which keep counts and an audit trail of each row: what is read is the same.
BEGIN = (
    "SET session_replication_role = replica",
    "DELETE FROM authz.workspace_memberships",
    "DELETE FROM authz.workspaces",
)
WORKSPACES = """
    INSERT INTO authz.workspaces (slug, name, plan_tier, member_count)
    SELECT 'w' || n, 'Workspace ' || n, (ARRAY['starter', 'pro', 'team'])[1 + n %% 3], %(members)s
    FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
"""
MEMBERSHIPS = """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'u' || n || '-' || m, CASE m WHEN 0 THEN 'owner' ELSE 'member' END
    FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
    JOIN authz.workspaces AS w ON w.slug = 'w' || n, generate_series(0, %(members)s::integer - 1) AS m
"""
CROWD = """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'crowd-' || m, 'member'
    FROM authz.workspaces AS w, generate_series(%(first)s::integer, %(last)s::integer) AS m
    WHERE w.slug = 'w0'
"""
BUSY_ONE = """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'busy', 'member' FROM authz.workspaces AS w WHERE w.slug <> 'w0' ORDER BY md5(w.slug)
    LIMIT %(busy)s
"""
END = ("SET session_replication_role = origin", "VACUUM ANALYZE")
DISK = """
    SELECT pg_total_relation_size('authz.workspace_memberships'), pg_total_relation_size('authz.workspaces')
"""
SEQ_SCANS = """
    SELECT pg_stat_get_numscans('authz.workspace_memberships'::regclass)
    FROM (SELECT pg_stat_clear_snapshot()) AS fresh
"""
MIDDLE = """
    SELECT w.slug FROM authz.workspace_memberships AS m JOIN authz.workspaces AS w ON w.id = m.workspace_id
    WHERE m.user_id = 'busy' ORDER BY w.slug LIMIT 1 OFFSET %s
"""
READS = {
    "facts of a question": "SELECT authz.facts(ARRAY['u{n}-1'], ARRAY['w{n}'])",
    "facts in the workspace with a tenth of all": "SELECT authz.facts(ARRAY['crowd-1'], ARRAY['w0'])",
    "100 workspaces of a user of 1,000": "SELECT authz.workspaces_of('busy', '{middle}', 100)",
    "100 members of the largest workspace": (
        "SELECT authz.people_of((SELECT id FROM authz.workspaces WHERE slug = 'w0'), 'crowd-5', 100)"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    read: str
    memberships: int
    p50_ms: float
    p99_ms: float
    seq_scans: int  # of the table of memberships


def fill(url: str, /, *, size: int) -> Iterator[str]:
    """Replace what is in the database by *size* memberships, in steps; each yields what it has done."""
    workspaces = _workspaces(size)
    values = {"members": MEMBERS, "busy": BUSY}
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in BEGIN:
            connection.execute(statement)
        for what, statement, first, last, at_once in (
            ("workspaces", WORKSPACES, 0, max(workspaces - 1, BUSY), ROWS_AT_ONCE),
            ("workspaces with members", MEMBERSHIPS, 0, workspaces - 1, ROWS_AT_ONCE // MEMBERS),
            ("members of the largest", CROWD, 1, size // 10, ROWS_AT_ONCE),
        ):
            for begin in range(first, last + 1, at_once):
                end = min(begin + at_once - 1, last)
                connection.execute(statement.encode(), {**values, "first": begin, "last": end})
                yield f"{size:,}: {end - first + 1:,} {what}"
        connection.execute(BUSY_ONE, values)
        for statement in END:
            connection.execute(statement)
        yield f"{size:,}: vacuumed and analyzed"


def quickest(url: str, /, *, size: int) -> list[Row]:
    """Each read, of the round in which the medians of all are the least: others use the machine too."""
    rounds = (list(read(url, size=size)) for _ in range(ROUNDS))
    return min(rounds, key=lambda rows: sum(row.p50_ms for row in rows))


def read(url: str, /, *, size: int) -> Iterator[Row]:
    """Time each read in a database that has been filled with *size* memberships."""
    with psycopg.connect(url, autocommit=True) as connection:
        (middle,) = connection.execute(MIDDLE, (BUSY // 2,)).fetchone() or ("",)
    for name, query in READS.items():
        before = _seq_scans(url)
        with psycopg.connect(url, autocommit=True) as connection:
            taken = sorted(_timed(connection, query.replace("{middle}", middle), _workspaces(size)))
        yield Row(
            read=name,
            memberships=size,
            p50_ms=statistics.median(taken),
            p99_ms=taken[len(taken) * 99 // 100],
            seq_scans=_seq_scans(url) - before,
        )


def disk(url: str, /, *, size: int) -> str:
    """What *size* memberships take on the disk, in a sentence."""
    with psycopg.connect(url, autocommit=True) as connection:
        memberships, workspaces = connection.execute(DISK).fetchone() or (0, 0)
    return (
        f"{size:,} memberships take {memberships / 1e9:.1f} GB on the disk, and their"
        f" {max(_workspaces(size), BUSY + 1):,} workspaces {workspaces / 1e9:.1f} GB, indexes included."
    )


def _workspaces(size: int) -> int:
    return max(1, size * 9 // (10 * MEMBERS))


def _timed(connection: psycopg.Connection, query: str, workspaces: int) -> Iterator[float]:
    for call in range(CALLS):
        began = time.perf_counter()
        connection.execute(query.format(n=call * 7_919 % workspaces).encode())
        yield (time.perf_counter() - began) * 1_000


def _seq_scans(url: str) -> int:
    time.sleep(1)  # a session reports what it has done when it ends, not at once
    with psycopg.connect(url, autocommit=True) as connection:
        (count,) = connection.execute(SEQ_SCANS.encode()).fetchone() or (0,)
    return int(count)


def table(found: list[Row]) -> list[str]:
    lines = [
        "| read | memberships | p50 ms | p99 ms | of the smallest | scans of the whole table |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(found, key=lambda each: (list(READS).index(each.read), each.memberships)):
        smallest = min((each for each in found if each.read == row.read), key=lambda each: each.memberships)
        lines.append(
            f"| {row.read} | {row.memberships:,} | {row.p50_ms:.2f} | {row.p99_ms:.2f} |"
            f" {row.p50_ms / smallest.p50_ms:.1f} | {row.seq_scans} |"
        )
    return lines


def page(found: list[Row], *, on_disk: str) -> str:
    return "\n".join(["# Growth", "", f"{SAYS} {on_disk}", "", *table(found), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES, help="memberships")
    sizes = tuple(parser.parse_args().sizes)
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        database = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        migrate(database.url, catalog=compiled.catalog, revision=compiled.revision)
        found: list[Row] = []
        for size in sizes:
            for done in fill(database.url, size=size):
                print(done, file=sys.stderr)
            found += quickest(database.url, size=size)
        text = page(found, on_disk=disk(database.url, size=sizes[-1]))
    if sizes == SIZES:
        RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
