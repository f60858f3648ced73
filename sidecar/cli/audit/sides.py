"""OLD and NEW of a comparison: a folder, a plans.yaml, a commit, or a revision that was kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.audit.diff import Side
from sidecar.catalog.check import check_plans
from sidecar.cli.audit.ruling import by_archive
from sidecar.cli.sources import PLANS, POLICIES, policies_or_shipped
from sidecar.errors import ConfigError
from sidecar.rego.compile import catalog_digest, compiled
from sidecar.rego.in_git import committed
from sidecar.rego.kept import kept
from sidecar.rego.lint import problems_in
from sidecar.rego.load import compiled_at, modules_at, plans_text, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.rego.compile import Compiled
    from sidecar.store.published import Kept

_GIT = "git:"
_REVISION = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A side, and of when its plans.yaml is."""

    side: Side
    of: datetime | None


def named_side(
    text: str,
    *,
    policies: Path | None,
    archive: Path | None,
    kept_revision: Callable[[str], Kept | None] | None,
) -> Named:
    """ConfigError if it is not there or has problems. *kept_revision* asks the database, if there is one."""
    if text.startswith(_GIT):
        return _of_commit(text.removeprefix(_GIT), policies)
    path = Path(text)
    if not path.exists() and _REVISION.fullmatch(text):
        return _of_revision(text, archive, kept_revision)
    if path.is_dir():
        own = path / POLICIES
        return _of_files(path / PLANS, own if own.is_dir() else policies)
    return _of_files(path, policies)


def _of_files(plans: Path, policies: Path | None) -> Named:
    folder = policies_or_shipped(policies, plans=plans)
    both = compiled_at(plans, folder)
    text = plans_text(plans)
    return Named(
        side=_side(both, text, plans=str(plans), policies=str(folder)),
        of=datetime.fromtimestamp(plans.stat().st_mtime, tz=UTC),
    )


def _of_commit(ref: str, policies: Path | None) -> Named:
    """The policies of the commit; where it has none, those that are named or shipped."""
    found = committed(ref)
    source = f"{_GIT}{ref}:{PLANS}"
    folder = f"{_GIT}{ref}:{POLICIES}"
    checked = check_plans(found.plans, source=source)
    if checked.catalog is None:
        raise refused(f"{source} is not a catalog", checked.problems)
    modules = found.modules
    if not modules:
        shipped = policies_or_shipped(policies, plans=PLANS)
        modules, folder = modules_at(shipped), str(shipped)
    if problems := problems_in(modules, folder=folder):
        raise refused(f"{folder} holds policies that may not be used", problems)
    both = compiled(checked.catalog, modules)
    return Named(side=_side(both, found.plans, plans=source, policies=folder), of=found.at)


def _of_revision(
    revision: str, archive: Path | None, kept_revision: Callable[[str], Kept | None] | None
) -> Named:
    found = kept_revision(revision) if kept_revision else None
    if found is not None:
        both = kept(found.bundle, plans=found.plans, revision=revision, source=f"revision {revision}")
        side = _side(both, found.plans, plans=str(PLANS), policies=str(POLICIES))
        return Named(side=side, of=found.publication.at)
    if archive is None:
        where = "in this database" if kept_revision else "without --archive or --database-url"
        raise ConfigError(f"revision {revision} is not kept {where}, and there is no such file")
    ruling = by_archive(archive, revision)
    return Named(
        side=_side(ruling.compiled, None, plans=f"{revision}.tar.gz", policies=str(POLICIES)), of=None
    )


def _side(both: Compiled, text: bytes | None, *, plans: str, policies: str) -> Side:
    return Side(
        compiled=both,
        text=text,
        catalog=catalog_digest(text) if text else None,
        plans=plans,
        policies=policies,
    )
