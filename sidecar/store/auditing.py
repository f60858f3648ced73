"""An auditor's look at the database: one snapshot, read only, by a login that may do nothing else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from sidecar.errors import ConfigError, NotAsked
from sidecar.settings import shipped
from sidecar.store.connections import parameters_of
from sidecar.store.migrate import migrations_in

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = "SELECT set_config('statement_timeout', '60s', true), set_config('timezone', 'UTC', true)"
WHO = "SELECT session_user, current_database() || '@' || system_identifier FROM pg_control_system()"
MIGRATED_TO = "SELECT number, name FROM authz.migrated_to()"


class Looked:
    """*login* and *database*, as a report names them; *connection* is within one transaction."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        connection.execute(LIMITS)
        row = connection.execute(WHO).fetchone()
        self.login, self.database = row or ("", "")
        _refuse_newer(connection)


@contextmanager
def looking(url: str, /) -> Iterator[Looked]:
    """ConfigError where the schema or a right is missing, NotAsked where the database does not answer."""
    parameters_of(url)
    try:
        with psycopg.connect(url, connect_timeout=10, client_encoding="UTF8") as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield Looked(connection)
    except (
        psycopg.errors.UndefinedFunction,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedTable,
    ) as error:
        raise ConfigError(
            f"this database lacks what audits need: run sidecar migrate ({_line(error)})"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(f"this login may not audit: GRANT authz_audit TO it ({_line(error)})") from error
    except psycopg.Error as error:
        raise NotAsked(f"PostgreSQL: {_line(error)}") from error


def _refuse_newer(connection: psycopg.Connection) -> None:
    """ConfigError if another version has migrated it: its functions may tell something else."""
    number, name = connection.execute(MIGRATED_TO).fetchone() or (None, None)
    ours = migrations_in(shipped("sql") / "migrations")
    if number is not None and number > len(ours):
        raise ConfigError(
            f"the database is at {name}, and this sidecar ends at {ours[-1].name}: audit it with the"
            " sidecar that migrated it, or a newer one"
        )


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
