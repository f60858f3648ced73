"""By which policy a report rules: files, or a revision as it was kept."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import click

from sidecar.cli.sources import plans_or_shipped, policies_or_shipped
from sidecar.errors import ConfigError
from sidecar.rego.kept import archived, kept
from sidecar.rego.load import compiled_at, plans_text

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.rego.compile import Compiled

CATALOG_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """*plans* and *policies* are None where a kept revision rules; *catalog* is 16 digits of a SHA-256.

    *text* is the plans.yaml, if it is known.
    """

    compiled: Compiled
    catalog: str | None
    plans: Path | None = None
    policies: Path | None = None
    text: bytes | None = None


def by_files(plans: Path | None, policies: Path | None) -> Ruling:
    """As named, else those here, else the shipped ones. ConfigError with every problem."""
    plans = plans_or_shipped(plans)
    policies = policies_or_shipped(policies, plans=plans)
    compiled = compiled_at(plans, policies)
    text = plans_text(plans)
    return Ruling(compiled=compiled, catalog=catalog_of(text), plans=plans, policies=policies, text=text)


def by_archive(folder: Path | None, revision: str) -> Ruling:
    """A bundle alone: without titles, prices and routes. ConfigError if it is not there."""
    if folder is None:
        raise click.UsageError("--revision needs --database-url or --archive")
    bundle = archived(folder, revision)
    source = str(folder / f"{revision}.tar.gz")
    return Ruling(compiled=kept(bundle, plans=None, revision=revision, source=source), catalog=None)


def by_revision(revision: str, *, archive: Path | None, database_url: str | None) -> Ruling:
    """As the database has kept it, else the archive. ConfigError if neither has."""
    if database_url is None:
        return by_archive(archive, revision)
    from sidecar.store.audience import kept_files  # noqa: PLC0415 - psycopg is for those who have a database
    from sidecar.store.auditing import looking  # noqa: PLC0415 - as above

    with looking(database_url) as looked:
        found = kept_files(looked, revision)
    if found is not None:
        plans, bundle, _ = found
        compiled = kept(bundle, plans=plans, revision=revision, source=f"revision {revision}")
        return Ruling(compiled=compiled, catalog=catalog_of(plans), text=plans)
    if archive is not None:
        return by_archive(archive, revision)
    raise ConfigError(
        f"revision {revision} was never published to this database: name an --archive that has it"
    )


def catalog_of(plans: bytes) -> str:
    return sha256(plans).hexdigest()[:CATALOG_DIGITS]
