"""What a restore into another cluster leaves to do: roles, which no dump has, and the epoch of the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from sidecar.errors import ConfigError
from sidecar.store.contract import HAS_LEDGER, lacking_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

HAS_EPOCHS = "SELECT to_regclass('authz.epochs') IS NOT NULL"
# Committed rows, asked for outside of any transaction of ours: this cluster has assigned all their numbers.
IS_OF_ANOTHER_CLUSTER = """
    SELECT EXISTS (
        SELECT FROM authz.outbox AS o
        WHERE o.epoch = authz.current_epoch() AND o.transaction >= pg_snapshot_xmax(pg_current_snapshot())
    )
"""
END_EPOCH = """
    UPDATE authz.epochs SET timeline = 'before a restore' WHERE epoch = authz.current_epoch()
"""
NEXT_EPOCH = """
    SELECT c.epoch FROM authz.current_epoch() AS c (epoch)
    WHERE NOT EXISTS (SELECT FROM authz.epochs AS e WHERE e.epoch = c.epoch)
"""


def make_groups(connection: psycopg.Connection) -> tuple[str, ...]:
    """The statements that were run, in a database that was migrated before: else its migrations make them.

    ConfigError if this login may not: it says what a superuser has to run.
    """
    if not _holds(connection, HAS_LEDGER):
        return ()
    lacking = lacking_groups(connection)
    statements = tuple(f"CREATE ROLE {name} NOLOGIN" for name in lacking)
    try:
        for statement in statements:
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"the cluster lacks {_listed(lacking)}: roles belong to the cluster, and no dump has them;"
            f" as a superuser: {'; '.join(statements)}; then run `sidecar migrate` again, which grants what"
            " is missing"
        ) from error
    return statements


def begin_epoch(connection: psycopg.Connection) -> tuple[str, ...]:
    """What to tell of a database that has moved since its last write; empty if it has not.

    A dump of before there were epochs does not say of which cluster its rows are: if they cannot be of this
    one, their epoch ends here.
    """
    if not _holds(connection, HAS_EPOCHS):
        return ()
    if _holds(connection, IS_OF_ANOTHER_CLUSTER):
        connection.execute(END_EPOCH)
    return tuple(
        "this is another cluster or timeline than the one that wrote last: the next write begins epoch"
        f" {epoch} of the outbox; if it was restored, grant the roles to your logins again"
        " (GRANT authz_sidecar TO …) and run `sidecar recount`"
        for (epoch,) in connection.execute(NEXT_EPOCH)
    )


def _holds(connection: psycopg.Connection, query: str) -> bool:
    return connection.execute(query.encode()).fetchone() == (True,)


def _listed(names: Sequence[str]) -> str:
    return f"the role{'s' if len(names) > 1 else ''} {', '.join(names)}"
