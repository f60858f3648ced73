"""What a session of a login begins with, by what ALTER ROLE and ALTER DATABASE have set for it.

A session that a pooler hands out may be older than that, or somebody may have changed it since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.store.session_setup import READ

if TYPE_CHECKING:
    import psycopg

# As the server does at a connect: what is set for the role counts before what is set for the database.
ANEW = (
    "SET LOCAL ROLE NONE",
    "SET LOCAL statement_timeout TO DEFAULT",
    "SET LOCAL lock_timeout TO DEFAULT",
    "SET LOCAL default_transaction_isolation TO DEFAULT",
    "SET LOCAL search_path TO DEFAULT",
    """
    SELECT set_config(setting.name, setting.value, true)
    FROM (
        SELECT DISTINCT ON (name)
            split_part(each, '=', 1) AS name, substr(each, strpos(each, '=') + 1) AS value
        FROM pg_db_role_setting AS s, unnest(s.setconfig) AS each
        WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
          AND s.setrole IN (0, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = session_user))
        ORDER BY name, s.setrole <> 0 DESC, s.setdatabase <> 0 DESC
    ) AS setting
    WHERE setting.name
        IN ('role', 'statement_timeout', 'lock_timeout', 'default_transaction_isolation', 'search_path')
    """,
)


def as_a_new_session(connection: psycopg.Connection) -> dict[str, Any]:
    """What SessionSetup.faults looks at, of a session that would begin now; this one is left as it is."""
    with connection.transaction(force_rollback=True):
        for statement in ANEW:
            connection.execute(statement.encode())
        (found,) = connection.execute(READ).fetchone() or ({},)
    return dict(found)
