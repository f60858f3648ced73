"""By which policy a report rules: files, or a revision as it was kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sidecar.cli.sources import own_plans, plans_or_shipped, policies_or_shipped
from sidecar.errors import ConfigError
from sidecar.rego.compile import CATALOG_DIGITS, catalog_digest
from sidecar.rego.kept import archived, kept
from sidecar.rego.load import compiled_at, plans_text
from sidecar.store import published

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sidecar.rego.compile import Compiled
    from sidecar.store.auditing import Looked
    from sidecar.store.published import Publication


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """*plans* and *policies* are None where a kept revision rules; *catalog* is 16 digits of a SHA-256.

    *text* is the plans.yaml, if it is known. *publication* is None where files rule, or an archive.
    """

    compiled: Compiled
    catalog: str | None
    plans: Path | None = None
    policies: Path | None = None
    text: bytes | None = None
    publication: Publication | None = None

    @property
    def policies_folder(self) -> str:
        """What stands before the path of a module: where it was, if it is not there any more."""
        return f"{self.policies or 'policies'}/"

    @property
    def plans_file(self) -> str:
        return str(self.plans or "plans.yaml")


def by_files(plans: Path | None, policies: Path | None) -> Ruling:
    """As named, else those here, else the shipped ones. ConfigError with every problem."""
    plans = plans_or_shipped(plans)
    policies = policies_or_shipped(policies, plans=plans)
    compiled = compiled_at(plans, policies)
    text = plans_text(plans)
    return Ruling(compiled=compiled, catalog=catalog_digest(text), plans=plans, policies=policies, text=text)


def by_archive(folder: Path | None, revision: str) -> Ruling:
    """A bundle alone: without titles, prices and routes. ConfigError if it is not there."""
    if folder is None:
        raise click.UsageError("--revision needs --database-url or --archive")
    bundle = archived(folder, revision)
    source = str(folder / f"{revision}.tar.gz")
    return Ruling(compiled=kept(bundle, plans=None, revision=revision, source=source), catalog=None)


def by_database(
    looked: Looked,
    *,
    at: datetime | None = None,
    revision: str | None = None,
    plans: Path | None = None,
    policies: Path | None = None,
    archive: Path | None = None,
) -> Ruling:
    """What was published last (*at*: by then), unless files or a revision are named. ConfigError."""
    if revision is None and (plans or policies):
        return by_files(plans, policies)
    if revision is None:
        publication = published.published(looked.connection, at)
        if publication is None:
            raise ConfigError(
                f"no policy is kept that was published{' by then' if at else ''}: name --plans and"
                " --policies, or publish by sidecar migrate"
            )
        return by_publication(looked, publication)
    if found := published.last_kept(looked.connection, revision):
        return _by_kept(found)
    if archive is not None:
        return by_archive(archive, revision)
    raise ConfigError(
        f"revision {revision} was never published to this database: name an --archive that has it"
    )


def by_revision(revision: str, *, archive: Path | None, database_url: str | None) -> Ruling:
    """As the database has kept it, else the archive. ConfigError if neither has."""
    if database_url is None:
        return by_archive(archive, revision)
    from sidecar.store.auditing import looking  # noqa: PLC0415 - psycopg is for those who have a database

    with looking(database_url) as looked:
        return by_database(looked, revision=revision, archive=archive)


def by_publication(looked: Looked, publication: Publication) -> Ruling:
    return _by_kept(published.files_of(looked.connection, publication))


def differs_here(ruling: Ruling) -> str | None:
    """Says so if ./plans.yaml is another than the published one."""
    here = own_plans(None)
    if ruling.publication is None or here is None or plans_text(here) == ruling.text:
        return None
    return f"./{here} differs from the published one, which rules"


def _by_kept(found: published.Kept) -> Ruling:
    publication = found.publication
    source = f"revision {publication.revision} in the database"
    return Ruling(
        compiled=kept(found.bundle, plans=found.plans, revision=publication.revision, source=source),
        catalog=publication.catalog[:CATALOG_DIGITS],
        text=found.plans,
        publication=publication,
    )
