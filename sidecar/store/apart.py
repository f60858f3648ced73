"""Migrations that run outside a transaction, statement by statement: indexes of tables that are in use.

Such a file has `-- transaction: none` in its head. It may be interrupted anywhere and be run again from its
beginning: an index that is there is passed over, an invalid one is dropped first. Nothing else may stand in
it but what can be repeated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecar.store.giving_way import IN_THE_WAY

if TYPE_CHECKING:
    import psycopg

    from sidecar.store.giving_way import Patience

MARKER = re.compile(r"\A(?:--.*\n)*-- transaction: none\n")
CREATES = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY ([a-z_0-9]+) ON authz\.[a-z_0-9]+\b")
REPEATABLE = re.compile(
    r"DROP INDEX CONCURRENTLY IF EXISTS authz\.[a-z_0-9]+\Z"
    r"|COMMENT ON INDEX authz\.[a-z_0-9]+ IS "
    r"|ALTER TABLE authz\.[a-z_0-9]+ VALIDATE CONSTRAINT [a-z_0-9]+\Z"
)
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('authz.' || %s::text)"
# These locks let readers and writers pass, so waiting for them is in nobody's way.
WAIT = "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', '0', false)"


def runs_apart(text: str) -> bool:
    return MARKER.match(text) is not None


def statements_in(text: str) -> list[str]:
    """Each without its semicolon. ValueError, with the statement, if one is not repeatable."""
    found = []
    for part in re.findall(r"(?:'(?:[^']|'')*'|--[^\n]*|[^;'])+", text):
        statement = re.sub(r"^\s*(?:--[^\n]*(?:\n\s*|\Z))*", "", part).strip()
        if not statement:
            continue
        if not CREATES.match(statement) and not REPEATABLE.match(statement):
            raise ValueError(statement.splitlines()[0])
        found.append(statement)
    return found


def run_apart(connection: psycopg.Connection, text: str, *, patience: Patience) -> None:
    for statement in statements_in(text):
        while True:
            try:
                connection.execute(WAIT, (f"{max(1, round(patience.left_s * 1000))}ms",))
                _run(connection, statement)
            except IN_THE_WAY as error:
                patience.pause(connection, error)
            else:
                break


def _run(connection: psycopg.Connection, statement: str) -> None:
    if creates := CREATES.match(statement):
        (valid,) = connection.execute(IS_VALID, (creates[1],)).fetchone() or (None,)
        if valid:
            return
        if valid is False:  # of an attempt that was interrupted: it costs writes, and no query uses it
            dropping = f"DROP INDEX CONCURRENTLY authz.{creates[1]}"
            connection.execute(dropping.encode())
    connection.execute(statement.encode())
