"""By which policy a report rules: files, or a revision as it was kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError
from sidecar.rego.compile import CATALOG_DIGITS
from sidecar.rego.kept import archived, kept
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


def by_archive(folder: Path, revision: str) -> Ruling:
    """A bundle alone: without titles, prices and routes. ConfigError if it is not there."""
    bundle = archived(folder, revision)
    source = str(folder / f"{revision}.tar.gz")
    return Ruling(compiled=kept(bundle, plans=None, revision=revision, source=source), catalog=None)


def by_database(
    looked: Looked,
    *,
    at: datetime | None = None,
    revision: str | None = None,
    archive: Path | None = None,
) -> Ruling:
    """What was published last (*at*: by then), unless a revision is named. ConfigError."""
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


def by_publication(looked: Looked, publication: Publication) -> Ruling:
    return _by_kept(published.files_of(looked.connection, publication))


def _by_kept(found: published.Kept) -> Ruling:
    publication = found.publication
    source = f"revision {publication.revision} in the database"
    return Ruling(
        compiled=kept(found.bundle, plans=found.plans, revision=publication.revision, source=source),
        catalog=publication.catalog[:CATALOG_DIGITS],
        text=found.plans,
        publication=publication,
    )
