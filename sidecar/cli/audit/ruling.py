"""By which policy a command rules: files, or a revision as it was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.sources import own_plans, plans_or_shipped, policies_or_shipped
from sidecar.rego.compile import catalog_digest
from sidecar.rego.load import compiled_at, plans_text
from sidecar.reports import ruling
from sidecar.reports.ruling import Ruling

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sidecar.store.auditing import Looked


def by_files(plans: Path | None, policies: Path | None) -> Ruling:
    """As named, else those here, else the shipped ones. ConfigError with every problem."""
    plans = plans_or_shipped(plans)
    policies = policies_or_shipped(policies, plans=plans)
    compiled = compiled_at(plans, policies)
    text = plans_text(plans)
    return Ruling(compiled=compiled, catalog=catalog_digest(text), plans=plans, policies=policies, text=text)


def by_archive(folder: Path | None, revision: str) -> Ruling:
    """As reports.ruling.by_archive; a usage error where there is no archive."""
    if folder is None:
        raise click.UsageError("--revision needs --database-url or --archive")
    return ruling.by_archive(folder, revision)


def by_database(
    looked: Looked,
    *,
    at: datetime | None = None,
    revision: str | None = None,
    plans: Path | None = None,
    policies: Path | None = None,
    archive: Path | None = None,
) -> Ruling:
    """As reports.ruling.by_database, unless files are named. ConfigError."""
    if revision is None and (plans or policies):
        return by_files(plans, policies)
    return ruling.by_database(looked, at=at, revision=revision, archive=archive)


def by_revision(revision: str, *, archive: Path | None, database_url: str | None) -> Ruling:
    """As the database has kept it, else the archive. ConfigError if neither has."""
    if database_url is None:
        return by_archive(archive, revision)
    from sidecar.store.auditing import looking  # noqa: PLC0415 - psycopg is for those who have a database

    with looking(database_url) as looked:
        return by_database(looked, revision=revision, archive=archive)


def differs_here(ruling: Ruling) -> str | None:
    """Says so if ./plans.yaml is another than the published one."""
    here = own_plans(None)
    if ruling.publication is None or here is None or plans_text(here) == ruling.text:
        return None
    return f"./{here} differs from the published one, which rules"
