"""What `sidecar migrate` would do to a database, found without changing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.settings import shipped
from sidecar.store.contract import contract, differences
from sidecar.store.migrate import migrations_in, missing, owner_connection

if TYPE_CHECKING:
    from pathlib import Path

READ_ONLY = "SET default_transaction_read_only = on; SET lock_timeout = '50ms'"
HAS_CATALOG = "SELECT to_regclass('authz.catalog') IS NOT NULL"
PUBLISHED = "SELECT revision FROM authz.catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """*migrations* by name, and the *revision* that would be published; *published* is the present one.

    *findings* are how the database differs from the contract, each with what to do; none while files are
    missing.
    """

    migrations: tuple[str, ...]
    revision: str
    published: str | None
    findings: tuple[str, ...]

    @property
    def is_nothing(self) -> bool:
        return not (self.migrations or self.findings) and self.revision == self.published


def pending(url: str, /, *, revision: str, migrations: Path | None = None) -> Pending:
    """Errors as of migrate."""
    known = migrations_in(migrations or shipped("sql") / "migrations")
    with owner_connection(url) as connection:
        connection.execute(READ_ONLY)
        wanted = tuple(each.name for each in missing(connection, known))
        (has_catalog,) = connection.execute(HAS_CATALOG).fetchone() or (False,)
        (published,) = (connection.execute(PUBLISHED).fetchone() if has_catalog else None) or (None,)
        compared = not wanted and known[-1].name == contract()["migration"]
        findings = differences(connection) if compared else []
    return Pending(
        migrations=wanted,
        revision=revision,
        published=published,
        findings=tuple(str(each) for each in findings),
    )
