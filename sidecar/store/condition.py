"""How a database is, as a session of the sidecar finds it: what `sidecar doctor` asks."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from sidecar.errors import ConfigError, NotAsked
from sidecar.settings import shipped
from sidecar.store.addresses import conninfo_of, destination_of
from sidecar.store.connecting import CONNECT_TIMEOUT_S
from sidecar.store.contract import differences
from sidecar.store.isolated import isolation_gaps
from sidecar.store.login_defaults import as_a_new_session
from sidecar.store.migrate import migrations_in
from sidecar.store.session import one_line
from sidecar.store.session_setup import SessionSetup

if TYPE_CHECKING:
    from sidecar.store.connection_options import ConnectionOptions
    from sidecar.store.contract import Finding
    from sidecar.store.session_setup import Fault

STATEMENT_TIMEOUT_S = 1.0  # as a worker's sessions
CONDITION = """
    SELECT
        session_user::text,
        (SELECT rolsuper FROM pg_roles WHERE rolname = session_user),
        CASE WHEN to_regrole('authz_sidecar') IS NOT NULL
             THEN pg_has_role(session_user, 'authz_sidecar', 'MEMBER') END,
        current_setting('server_version_num')::integer,
        current_setting('server_encoding'),
        to_regnamespace('authz') IS NOT NULL
"""
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
MIGRATED_TO = "SELECT number FROM authz.migrated_to()"
MAY_ASK = "SELECT has_function_privilege('authz.migrated_to()', 'EXECUTE')"
FUNCTIONS = """
    SELECT wanted.name, EXISTS (
        SELECT FROM pg_proc AS p
        WHERE p.pronamespace = to_regnamespace('authz') AND p.proname = wanted.name
    ), EXISTS (
        SELECT FROM pg_proc AS p
        WHERE p.pronamespace = to_regnamespace('authz') AND p.proname = wanted.name
          AND has_function_privilege('authz_sidecar', p.oid, 'EXECUTE')
    )
    FROM unnest(%s::text[]) AS wanted (name) ORDER BY 1
"""
_TAKES_NO_WRITES = re.compile(
    r"session is (?:not )?read-only|server is (?:not )?in hot standby mode"
)  # libpq's words
_GRANTED = re.compile(r"^GRANT EXECUTE ON FUNCTION authz\.(\w+)\S* TO [^;]*\bauthz_sidecar\b", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """*login* is whoever logged in, *role* whoever the session is; *is_member* is None without that role.

    *faults* are the session's own; *login_faults*, behind a transaction pooler alone, those that a new
    session of the login would have. *clock_ahead_s* is the database's clock, of ours. *migrated_to* is None
    where the session may not know it; *migrations* is how many this sidecar has. *absent* and *forbidden*
    are functions that it calls. *differences* are what else is not as the schema should be.
    *isolation_gaps*, what shows rows of isolated tables to other workspaces, is None where that could not be
    asked.
    """

    login: str
    is_superuser: bool
    is_member: bool | None
    role: str
    statement_timeout_ms: float
    lock_timeout_ms: float
    isolation: str
    faults: tuple[Fault, ...]
    login_faults: tuple[Fault, ...] | None
    in_recovery: bool
    read_only: bool
    version: int
    encoding: str
    has_schema: bool
    clock_ahead_s: float
    migrated_to: int | None
    migrations: int
    absent: tuple[str, ...]
    forbidden: tuple[str, ...]
    differences: tuple[Finding, ...]
    isolation_gaps: tuple[Finding, ...] | None


def condition_of(url: str, *, lock_timeout_s: float, options: ConnectionOptions) -> Condition:
    """By a session as a worker's, of the first host that takes writes, else of the first that lets us in.

    ConfigError for no URL, NotAsked where the database does not let us in. Each statement may take a second,
    and a connection CONNECT_TIMEOUT_S for each host.
    """
    setup = SessionSetup.of(options, statement_timeout_s=STATEMENT_TIMEOUT_S, lock_timeout_s=lock_timeout_s)
    conninfo = conninfo_of(url, setup)
    try:
        with _connected(conninfo, options) as connection:
            return _look(connection, setup)
    except psycopg.Error as error:
        raise NotAsked(one_line(str(error))) from error


def _connected(conninfo: str, options: ConnectionOptions) -> psycopg.Connection:
    # What a pooler says of its server is what it remembers, so it is asked for any.
    wanted = options.target_session_attrs if options.pooler == "off" else "any"
    try:
        return _session(conninfo, destination_of(conninfo, session=wanted).sessions[0])
    except psycopg.OperationalError as error:
        if not _TAKES_NO_WRITES.search(str(error)):
            raise
        return _session(conninfo, "any")


def _session(conninfo: str, session: str) -> psycopg.Connection:
    return psycopg.connect(
        make_conninfo(conninfo, target_session_attrs=session),
        autocommit=True,
        connect_timeout=int(CONNECT_TIMEOUT_S),
        prepare_threshold=None,
    )


def _look(connection: psycopg.Connection, setup: SessionSetup) -> Condition:
    began = connection.execute(setup.first_statements)
    while began.nextset():
        pass
    (session,) = began.fetchone() or ({},)
    login, is_superuser, is_member, version, encoding, has_schema = _row(connection, CONDITION)
    before = time.time()
    (clock,) = _row(connection, CLOCK)
    ahead_s = float(clock) - (before + time.time()) / 2
    functions = (
        connection.execute(FUNCTIONS, (called_functions(),)).fetchall() if is_member is not None else []
    )
    is_pooled = setup.pooler == "transaction"
    return Condition(
        login=login,
        is_superuser=bool(is_superuser),
        is_member=is_member,
        role=session["role"],
        statement_timeout_ms=session["statement_timeout"],
        lock_timeout_ms=session["lock_timeout"],
        isolation=session["isolation"],
        faults=tuple(setup.faults(session)),
        login_faults=tuple(setup.faults(as_a_new_session(connection))) if is_pooled else None,
        in_recovery=session["in_recovery"],
        read_only=session["read_only"] == "on",
        version=version,
        encoding=encoding,
        has_schema=has_schema,
        clock_ahead_s=ahead_s,
        migrated_to=_migrated_to(connection) if has_schema else None,
        migrations=len(migrations_in(shipped("sql") / "migrations")),
        absent=tuple(name for name, is_there, _ in functions if not is_there),
        forbidden=tuple(name for name, is_there, may in functions if is_there and not may),
        differences=tuple(differences(connection)) if has_schema else (),
        isolation_gaps=_isolation_gaps(connection) if has_schema else None,
    )


def called_functions() -> list[str]:
    """Those that the role authz_sidecar is granted, by the text of the schema."""
    files = sorted((shipped("sql") / "schema").glob("*.sql"))
    return sorted({name for file in files for name in _GRANTED.findall(file.read_text(encoding="utf-8"))})


def _migrated_to(connection: psycopg.Connection) -> int | None:
    try:
        if not _row(connection, MAY_ASK)[0]:
            return None
        return int(_row(connection, MIGRATED_TO)[0])
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
        return None  # an older schema, or no right to look into it


def _isolation_gaps(connection: psycopg.Connection) -> tuple[Finding, ...] | None:
    try:
        return tuple(isolation_gaps(connection))
    except (
        psycopg.errors.UndefinedFunction,
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.QueryCanceled,
    ):
        return None


def _row(connection: psycopg.Connection, query: str, *params: object) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), params or None).fetchone()
    if row is None:
        raise ConfigError("the database answered no row where one was asked for")
    return row
