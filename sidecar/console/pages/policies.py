"""Policies: the files that rule, what was published, and what changed between two publications."""

from __future__ import annotations

from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sidecar.console.pages.page import Asked, Made, Page
from sidecar.console.places import PLANS, linked
from sidecar.console.reading import CannotRead, as_auditor
from sidecar.errors import DependencyError
from sidecar.rego.heads import Denials
from sidecar.rego.metadata import annotations_in
from sidecar.reports.comparing import comparison
from sidecar.store.published import last_kept, publications

if TYPE_CHECKING:
    from sidecar.audit.coverage import Coverage
    from sidecar.reports.comparing import Comparison
    from sidecar.store.published import Publication

_NAMED = 20  # people or workspaces in a line of a comparison
_PUBLICATIONS = 50
_NO_ENGINE = "The policy engine does not answer: the overview says what to do."


def policies(asked: Asked) -> Made:
    compiled = asked.sources.compiled
    files = {PLANS: asked.sources.plans_text.decode(errors="replace"), **compiled.modules}
    name = asked.of("file") or PLANS
    if name not in files:
        return Made(
            template="policies.html",
            status=HTTPStatus.NOT_FOUND,
            values={"files": list(files), "name": None, "missing": name, "revision": compiled.revision},
        )
    published, compared, cannot = _published(asked)
    coverage, no_coverage = _coverage(asked)
    return Made(
        template="policies.html",
        values={
            "files": list(files),
            "name": name,
            "lines": files[name].splitlines(),
            "revision": compiled.revision,
            "reasons": {code: linked(f"policies/{place}") for code, place in _codes(asked).items()},
            "rules": [(each, linked(f"policies/{each.place}")) for each in annotations_in(compiled.modules)],
            "coverage": coverage.document["coverage"] if coverage else None,
            "by_none": coverage.by_none if coverage else [],
            "no_coverage": no_coverage,
            "published": published,
            "pairs": _pairs(published),
            "compared": compared,
            "old": asked.of("old"),
            "new": asked.of("new"),
            "cannot_read": cannot,
        },
    )


def _coverage(asked: Asked) -> tuple[Coverage | None, str]:
    """With why there is none. The files can be read all the same."""
    try:
        found = asked.sources.sold.coverage
    except DependencyError:
        return None, _NO_ENGINE
    return found, "" if found else "There are no cases in tests/decisions beside the catalog."


def _codes(asked: Asked) -> dict[str, str]:
    return Denials(asked.sources.compiled.modules).own


def _pairs(published: list[Publication]) -> dict[int, str]:
    """By a publication's id the revision before it, if that is another."""
    return {new.id: old.revision for new, old in pairwise(published) if new.revision != old.revision}


def _published(asked: Asked) -> tuple[list[Publication], Comparison | None, str | None]:
    """The newest first; with what changed between *old* and *new*, where both are named."""
    found: list[Publication] = []
    compared: Comparison | None = None
    says: str | None = None
    try:
        with as_auditor(asked.sources.audit_url) as looked:
            found += publications(looked.connection, None, None)[-_PUBLICATIONS:][::-1]
            if asked.of("old") and asked.of("new"):
                sides: list[Any] = [last_kept(looked.connection, asked.of(each)) for each in ("old", "new")]
                if None in sides:
                    says = "One of these revisions was never published to this database."
                else:
                    engine_of = asked.sources.engines.of
                    compared = comparison(looked, *sides, engine_of=engine_of, limit=_NAMED)
            return found, compared, says
    except CannotRead as error:
        return found, None, error.says
    except DependencyError:
        return found, None, _NO_ENGINE


POLICIES = Page(name="policies", title="Policies", paths=("/policies",), make=policies)
