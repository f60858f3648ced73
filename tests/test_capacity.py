"""docs/operations/capacity.md: its tables are what benchmarks/capacity.py makes of what was measured."""

from __future__ import annotations

import psycopg
import pytest

from benchmarks import capacity, ledger_index
from benchmarks.sizes import measured
from benchmarks.world import fill
from tests.pages import blocks, run_block

RESULTS, SIZES = capacity.RESULTS.read_text(), capacity.SIZES.read_text()
HEAD = "| what | connections | who | req/s | CPU µs | PostgreSQL µs |"
SOME = {
    "cores": "\n".join(
        [HEAD, *(f"| {what} | {at} | ours | 9 | 1,000 | 500 |" for _, what, at, _ in capacity.LOADS)]
    ),
    "line": "| log: a line of 1000 bytes is made | CPU 5.1 µs |",
}


def test_the_tables_of_the_page_are_made_of_what_was_measured():
    page = capacity.PAGE.read_text()

    assert capacity.written(page, results=RESULTS, sizes=SIZES) == page


def test_a_thousand_questions_of_a_millisecond_need_a_core():
    [first, *_, batch, _, last] = capacity.costs(SOME["cores"])

    assert (first.sidecar_cores(1_000), last.database_cores(1_000)) == (1.0, 0.5)
    assert batch.sidecar_us == 1.0  # of a thousand in one request


def test_a_fleet_has_half_of_its_cores_left_and_ten_connections_a_worker():
    lines = capacity.fleets(capacity.costs(SOME["cores"]), line=capacity.line_bytes(SOME["line"]))

    assert lines[2] == "| 10,000 | checks, 16 at once | 20 | 200 | 10 | 864.0 GB |"


def test_a_month_of_a_thousand_consumes_a_second_is_what_each_leaves():
    lines = capacity.wall({"usage_keys": 500, "usage_ledger": 300})

    assert lines[-1] == "| both | 800 | 0.8 GB | 69.1 GB | 2.1 TB |"


def test_a_row_that_is_missing_is_named():
    with pytest.raises(ValueError, match="no row for checks, 16 at once"):
        capacity.costs(HEAD)


@pytest.mark.postgres
def test_what_a_consume_leaves_is_measured_by_real_consumes(fresh_database_url):
    fill(fresh_database_url, workspaces=1_000)

    found = measured(fresh_database_url, consumes=1_000)

    assert set(found) == set(capacity.consume_bytes(SIZES))
    with psycopg.connect(fresh_database_url) as connection:
        for table in found:
            count = connection.execute(f"SELECT count(*) FROM authz.{table}".encode()).fetchone()
            assert count is not None
            assert count[0] >= 1_000


@pytest.mark.postgres
def test_the_ledgers_index_is_compared_with_a_ledger_that_lacks_it(fresh_database_url):
    found = ledger_index.measured(fresh_database_url, rows=20_000)

    assert 0 < found.index_bytes < found.table_bytes / 20
    with psycopg.connect(fresh_database_url) as connection:
        defined = {
            table: {
                str(row[0]).partition(" USING ")[2].replace(table, "")
                for row in connection.execute(
                    "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass", (table,)
                )
            }
            for table in ("authz.usage_ledger", ledger_index.WITH, ledger_index.WITHOUT)
        }
    real, having, lacking = defined.values()
    assert having == real
    assert real - lacking == {"brin (at) WITH (autosummarize='on')"}
    assert lacking < real


@pytest.mark.postgres
@pytest.mark.parametrize("block", blocks("capacity.md"), ids=["connections", "bytes"])
def test_each_command_runs_and_prints_something(block, database_url, tmp_path):
    ran = run_block(block, {"OWNER_URL": database_url}, folder=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\n") > 2
