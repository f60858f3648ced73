"""Why a part cannot be used: a stable code, and the operator's next step, which names no host or login."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.errors import (
    DatabaseNotMigrated,
    EngineMisbehaved,
    EngineUnavailable,
    FactsUnavailable,
    RevisionMismatch,
)

if TYPE_CHECKING:
    from sidecar.errors import DependencyError

REFUSED, NOT_MIGRATED = "database_refused", DatabaseNotMigrated.code
READ_ONLY, UNREACHABLE = "database_read_only", "database_unreachable"
_DO = {
    REFUSED: (
        "correct user, password and database in SIDECAR_DATABASE_URL, and grant authz_sidecar to that login;"
        ' see psql "$SIDECAR_DATABASE_URL" -c "SET ROLE authz_sidecar"'
    ),
    READ_ONLY: (
        "point SIDECAR_DATABASE_URL to the primary, or end its read-only mode;"
        ' see psql "$SIDECAR_DATABASE_URL" -c "SHOW transaction_read_only"'
    ),
    UNREACHABLE: (
        "start PostgreSQL, or correct host and port in SIDECAR_DATABASE_URL;"
        ' see pg_isready -d "$SIDECAR_DATABASE_URL"'
    ),
    EngineUnavailable.code: "start OPA, or correct SIDECAR_OPA_URL",
    EngineMisbehaved.code: (
        "give OPA the bundle that GET /bundles/authz.tar.gz serves, or that `sidecar compile -o` writes"
    ),
    RevisionMismatch.code: (
        "let OPA load this server's bundle: GET /bundles/authz.tar.gz serves it, `sidecar compile -o`"
        " writes it"
    ),
}
_SEE_THE_LOG = "standard error says more"
_SQLSTATE = re.compile(r"refused \(([0-9A-Z]{5})\)")
_NO_WRITES = re.compile(
    r"takes no writes|session is (?:not )?read-(?:only|write)|server is in hot standby|\b25006\b"
)
_OTHER_SESSION = "the session is not as it has to be"
_SET_THE_SESSION = (
    "give the login the defaults that standard error names, or set SIDECAR_DATABASE_POOLER where a pooler"
    " stands between; see sidecar doctor"
)
_NOT_YET = re.compile(r"the database system is |57P0[123]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """*code* and *do* may be read by anybody; *detail* is for the log."""

    code: str
    do: str
    detail: str


def cause_of(error: DependencyError) -> Cause:
    """Of what the database or the policy engine has raised."""
    match error:
        case DatabaseNotMigrated():
            return Cause(code=NOT_MIGRATED, do=error.detail, detail="it lacks what is needed")
        case FactsUnavailable():
            if _OTHER_SESSION in error.detail:
                return Cause(code=REFUSED, do=_SET_THE_SESSION, detail=error.detail)
            code = _of_the_database(error.detail)
        case _:
            code = error.code
    return Cause(code=code, do=_DO.get(code, _SEE_THE_LOG), detail=error.detail)


def _of_the_database(said: str) -> str:
    """Of a login that fails, libpq gives no SQLSTATE: only the server's text, which begins with FATAL."""
    if _NO_WRITES.search(said):
        return READ_ONLY
    if _NOT_YET.search(said):
        return UNREACHABLE
    return REFUSED if _SQLSTATE.search(said) or "FATAL" in said else UNREACHABLE
