"""Why a part cannot be used: a stable code, and the operator's next step, which names no host or login."""

from __future__ import annotations

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
_SET_THE_SESSION = (
    "give the login the defaults that standard error names, or set SIDECAR_DATABASE_POOLER where a pooler"
    " stands between; see sidecar doctor"
)


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
        case FactsUnavailable() if error.cause == "wrong_session":
            return Cause(code=REFUSED, do=_SET_THE_SESSION, detail=error.detail)
        case FactsUnavailable():
            code = str(error.cause)
        case _:
            code = error.code
    return Cause(code=code, do=_DO.get(code, _SEE_THE_LOG), detail=error.detail)
