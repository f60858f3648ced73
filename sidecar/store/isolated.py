"""What shows rows of isolated tables to other workspaces: keys, views, publications that were made since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.store.contract import Finding

if TYPE_CHECKING:
    import psycopg

# Some hundred tables take a second or two. To compile the query would take longer than to run it.
PATIENCE = "SET LOCAL statement_timeout = '3s'; SET LOCAL jit = off"
GAPS = "SELECT says, fix FROM authz.isolation_gaps()"
_OF_PUBLICATIONS = ("ALTER PUBLICATION ", "DROP PUBLICATION ")


def isolation_gaps(connection: psycopg.Connection) -> list[Finding]:
    """What `authz.isolate` would warn of now, of all isolated tables. As authz_sidecar."""
    with connection.transaction():
        connection.execute(PATIENCE)
        return [Finding(says=says, do=fix) for says, fix in connection.execute(GAPS)]


def is_of_publication(gap: Finding) -> bool:
    """Whether subscribers get the rows; Supabase's Realtime then sends nothing of any table."""
    return gap.do.startswith(_OF_PUBLICATIONS)
