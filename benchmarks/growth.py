"""What growth costs: reads of the database with a thousand, a hundred thousand, ten million memberships."""

from __future__ import annotations

import argparse
import statistics
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
CALLS = 300
SAYS = (
    f"Each read {CALLS} times by one caller, in a database of so many memberships; a tenth of all are in one"
    f" workspace, and one user has {BUSY:,} workspaces besides, of which a page from the middle is read."
    " No read looks at the whole table."
)

# Without the triggers, which keep counts and an audit trail of each row: what is read is the same.
FILL = (
    "SET session_replication_role = replica",
    "DELETE FROM authz.workspace_memberships",
    "DELETE FROM authz.workspaces",
    """
    INSERT INTO authz.workspaces (slug, name, plan_tier, member_count)
    SELECT 'w' || n, 'Workspace ' || n, (ARRAY['starter', 'pro', 'team'])[1 + n %% 3], %(members)s
    FROM generate_series(0, greatest(%(workspaces)s - 1, %(busy)s)) AS n
    """,
    """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'u' || substr(w.slug, 2) || '-' || m, CASE m WHEN 0 THEN 'owner' ELSE 'member' END
    FROM authz.workspaces AS w, generate_series(0, %(members)s - 1) AS m
    WHERE substr(w.slug, 2)::integer < %(workspaces)s
    """,
    """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'crowd-' || m, 'member'
    FROM authz.workspaces AS w, generate_series(1, %(crowd)s) AS m
    WHERE w.slug = 'w0'
    """,
    """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'busy', 'member' FROM authz.workspaces AS w WHERE w.slug <> 'w0' ORDER BY md5(w.slug)
    LIMIT %(busy)s
    """,
    "SET session_replication_role = origin",
    "VACUUM ANALYZE",
)
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


def rows(url: str, *, sizes: tuple[int, ...]) -> Iterator[Row]:
    for size in sizes:
        workspaces = max(1, size * 9 // (10 * MEMBERS))
        with psycopg.connect(url, autocommit=True) as connection:
            values = {"workspaces": workspaces, "members": MEMBERS, "crowd": size // 10, "busy": BUSY}
            for statement in FILL:
                connection.execute(statement.encode(), values if "%(" in statement else None)
            (middle,) = connection.execute(MIDDLE.encode(), (BUSY // 2,)).fetchone() or ("",)
        for read, query in READS.items():
            before = _seq_scans(url)
            with psycopg.connect(url, autocommit=True) as connection:
                taken = sorted(_timed(connection, query.replace("{middle}", middle), workspaces))
            yield Row(
                read=read,
                memberships=size,
                p50_ms=statistics.median(taken),
                p99_ms=taken[len(taken) * 99 // 100],
                seq_scans=_seq_scans(url) - before,
            )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES, help="memberships")
    sizes = tuple(parser.parse_args().sizes)
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        database = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        migrate(database.url, catalog=compiled.catalog, revision=compiled.revision)
        lines = ["# Growth", "", SAYS, "", *table(list(rows(database.url, sizes=sizes))), ""]
    if sizes == SIZES:
        RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
