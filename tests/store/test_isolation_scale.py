"""A million rows of a thousand workspaces: each statement reads those of its own, by index."""

from __future__ import annotations

import pytest

from tests.postgres_server import run
from tests.store.conftest import entered

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def large(app_url, database_url):
    run(
        database_url,
        """INSERT INTO authz.workspaces (slug, name, plan_tier)
        SELECT 'crowd-' || n, 'x', 'team' FROM generate_series(1, 1000) AS n""",
        """INSERT INTO authz.workspace_memberships
        SELECT id, 'carl', 'member' FROM authz.workspaces WHERE slug = 'crowd-500'""",
        "CREATE TABLE public.events (key text NOT NULL, workspace_id uuid NOT NULL, value integer)",
        """INSERT INTO public.events
        SELECT n, id, n FROM generate_series(1, 1000) AS n, authz.workspaces WHERE slug ~ '^crowd-'""",
        "ALTER TABLE public.events ADD PRIMARY KEY (key, workspace_id)",  # leads with the wrong column
        "GRANT SELECT, UPDATE ON public.events TO authz_test_app",
        "SELECT authz.isolate('public.events')",
        "ANALYZE public.events",
    )
    yield app_url
    run(database_url, "DROP TABLE public.events")


def nodes_of(plan):
    yield plan
    for each in plan.get("Plans", []):
        yield from nodes_of(each)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM public.events",
        "SELECT sum(value) FROM public.events WHERE value > 10",
        "SELECT * FROM public.events WHERE key = '77'",
        "SELECT * FROM public.events WHERE key > '5' ORDER BY key LIMIT 20",
        "SELECT count(*) FROM public.events AS a JOIN public.events AS b USING (key)",
        "UPDATE public.events SET value = value + 1 WHERE key = '77'",
    ],
)
def test_the_rows_of_others_are_not_even_read(large, statement, mode):
    with entered(large, "carl", "crowd-500") as connection:
        connection.execute(f"SET LOCAL plan_cache_mode = {mode}".encode())
        connection.execute(f"PREPARE asked AS {statement}".encode())
        row = connection.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked").fetchone()
        connection.rollback()
    assert row is not None
    plan = row[0][0]["Plan"]

    scans = [
        node
        for node in nodes_of(plan)
        if node.get("Relation Name") == "events" and "Scan" in node["Node Type"]
    ]
    assert scans
    for scan in scans:
        assert scan["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, scan
    conditions = [node["Index Cond"] for node in nodes_of(plan) if "Index Cond" in node]
    assert any("workspace_id = " in condition for condition in conditions), conditions
    assert max(node["Actual Rows"] for node in nodes_of(plan)) <= 1_000
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 2_500  # of the 8,000 that the table has
