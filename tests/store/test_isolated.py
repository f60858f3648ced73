"""What has opened an isolated table to other workspaces since it was isolated; the sidecar's role may ask."""

from __future__ import annotations

import psycopg
import pytest

from sidecar.store.isolated import is_of_publication, isolation_gaps

pytestmark = pytest.mark.postgres

TABLES = (
    "CREATE TABLE public.plain (a integer)",
    "CREATE TABLE public.notes (a integer)",
    "SELECT authz.isolate('public.notes')",
)


def gaps_after(url, *statements):
    with psycopg.connect(url) as connection:
        for statement in (*TABLES, *statements, "SET LOCAL ROLE authz_sidecar"):
            connection.execute(statement.encode())
        found = isolation_gaps(connection)
        connection.rollback()
    return found


@pytest.mark.parametrize(
    "of", ["FOR TABLE public.notes, public.plain", "FOR TABLES IN SCHEMA public", "FOR ALL TABLES"]
)
def test_an_isolated_table_in_a_publication_is_found_however_it_came_there(database_url, of):
    [gap] = gaps_after(database_url, f"CREATE PUBLICATION realtime {of}")

    assert gap.says.startswith("public.notes is in the publication realtime: subscribers get the rows of all")
    assert is_of_publication(gap)


@pytest.mark.parametrize(
    ("statements", "says", "do"),
    [
        (
            ["CREATE UNIQUE INDEX i ON public.notes (a)"],
            "public.i is unique across workspaces",
            "DROP INDEX public.i; CREATE UNIQUE INDEX i ON public.notes USING btree (workspace_id, a);",
        ),
        (
            [
                "ALTER TABLE public.notes ADD CONSTRAINT k UNIQUE (a)",
                "CREATE TABLE public.more (a integer REFERENCES public.notes (a))",
            ],
            "public.more refers to public.notes by more_a_fkey, and is not isolated",
            "SELECT authz.isolate('public.more');",
        ),
        (
            ["CREATE VIEW public.shown AS SELECT * FROM public.notes"],
            "the view public.shown shows rows of public.notes",
            "ALTER VIEW public.shown SET (security_invoker = true);",
        ),
    ],
    ids=["index", "reference", "view"],
)
def test_what_else_was_made_since_is_found_with_what_to_do(database_url, statements, says, do):
    found = {each.do: each for each in gaps_after(database_url, *statements)}

    assert found[do].says.startswith(says)
    assert not any(map(is_of_publication, found.values()))


def test_a_table_that_is_as_isolate_left_it_has_none(database_url):
    assert gaps_after(database_url) == []
