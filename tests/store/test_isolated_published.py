"""Isolated tables in publications: whoever reads those has entered nothing."""

from __future__ import annotations

import psycopg
import pytest

from sidecar.store.isolated import published_isolated

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    "of", ["FOR TABLE public.notes, public.plain", "FOR TABLES IN SCHEMA public", "FOR ALL TABLES", None]
)
def test_an_isolated_table_in_a_publication_is_found_however_it_came_there(database_url, of):
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE public.plain (a integer); CREATE TABLE public.notes (a integer)")
        connection.execute("SELECT authz.isolate('public.notes')")
        if of:
            connection.execute(f"CREATE PUBLICATION realtime {of}".encode())
        found = [each.says for each in published_isolated(connection)]
        connection.rollback()

    assert found == (["the isolated table public.notes is in the publication realtime"] if of else [])
