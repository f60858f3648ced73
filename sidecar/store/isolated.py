"""Isolated tables whose rows are read past the transaction that would have to enter: by a publication."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.store.contract import Finding

if TYPE_CHECKING:
    import psycopg

# The view knows tables that are named, FOR TABLES IN SCHEMA and FOR ALL TABLES, each with its partitions.
PUBLISHED = """
    SELECT format('%I.%I', t.schemaname, t.tablename),
        string_agg(format('%I', t.pubname), ', ' ORDER BY t.pubname)
    FROM pg_publication_tables AS t
    JOIN pg_policy AS p
        ON p.polrelid = format('%I.%I', t.schemaname, t.tablename)::regclass AND p.polname = 'authz_workspace'
    GROUP BY 1 ORDER BY 1
"""


def published_isolated(connection: psycopg.Connection) -> list[Finding]:
    """A finding for each isolated table that is in a publication. Any role may ask; nothing is changed."""
    return [
        Finding(
            says=f"the isolated table {table} is in the publication {publications}",
            do="take it out: subscribers get the rows of all workspaces, and Supabase's Realtime, which"
            " checks policies without entering, fails with 55000 for all its tables"
            ' (docs/isolation.md, "Publications")',
        )
        for table, publications in connection.execute(PUBLISHED)
    ]
