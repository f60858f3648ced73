"""Why PostgreSQL does not answer: by its SQLSTATE, or by libpq's text, which has none of a failed login."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.errors import DatabaseCause

READ_ONLY = "25006"
SHUTTING_DOWN = frozenset({"57P01", "57P02", "57P03"})
NO_ROLE = 'role "authz_sidecar" does not exist'  # that of session_setup.ROLE
_NO_WRITES = re.compile(r"session is (?:not )?read-(?:only|write)|server is in hot standby")
_NOT_YET = "the database system is "
_OF_A_POOLER = "unsupported startup parameter"  # PgBouncer's words for what SessionSetup says at a connect
# Of several addresses that failed, the one whose operator can do most tells the cause.
_ORDER: tuple[DatabaseCause, ...] = (
    "database_not_migrated",
    "wrong_session",
    "database_read_only",
    "database_refused",
    "database_unreachable",
)


def cause_by_state(sqlstate: str, said: str = "") -> DatabaseCause:
    """Of an answer with *sqlstate*, in which the server *said* why."""
    if NO_ROLE in said:
        return "database_not_migrated"
    if sqlstate == READ_ONLY:
        return "database_read_only"
    return "database_unreachable" if sqlstate in SHUTTING_DOWN else "database_refused"


def cause_by_text(said: str) -> DatabaseCause:
    """Of what libpq *said* of a login. A refusal is the server's own text, which begins with FATAL."""
    if NO_ROLE in said:
        return "database_not_migrated"
    if _NO_WRITES.search(said):
        return "database_read_only"
    if _OF_A_POOLER in said:
        return "wrong_session"
    return "database_refused" if "FATAL" in said and _NOT_YET not in said else "database_unreachable"


def foremost(causes: Iterable[DatabaseCause]) -> DatabaseCause:
    """Of one at least."""
    return min(causes, key=_ORDER.index)
