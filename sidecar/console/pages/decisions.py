"""Decisions: the newest lines of the decision log, of all workers; each opens as Why?."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from sidecar.audit.selection import Wanted
from sidecar.console.log_tail import newest
from sidecar.console.pages.page import Asked, Made, Page
from sidecar.decisions.reasons import REASONS

_ON_A_PAGE = 50
_FILTERS = ("user", "workspace", "reason")


def decisions(asked: Asked) -> Made:
    folder = asked.sources.log_dir
    filters = {name: asked.of(name) for name in _FILTERS if asked.of(name)}
    if folder is None:
        values: dict[str, Any] = {"rows": None, "filters": filters, "reasons": list(REASONS)}
        return Made(template="decisions.html", values=values, status=HTTPStatus.OK)
    wanted = Wanted(
        user=_one(filters.get("user")), workspace=_one(filters.get("workspace")), reason=filters.get("reason")
    )
    after, before = asked.of("after"), asked.of("before")
    found = newest(folder, wanted, after=after, before=before, limit=_ON_A_PAGE)
    newer = found.rows[0]["at"] if found.rows else after
    older = found.rows[-1]["at"] if found.rows and not found.is_whole else None
    return Made(
        template="decision-rows.html" if asked.of("part") == "rows" else "decisions.html",
        values={
            "rows": found.rows,
            "filters": filters,
            "reasons": list(REASONS),
            "is_first": not before,
            "is_newer": bool(after),
            "first": urlencode(filters),
            "newer": urlencode({**filters, **({"after": newer} if newer else {})}),
            "older": urlencode({**filters, "before": older}) if older else None,
        },
    )


def _one(name: str | None) -> frozenset[str] | None:
    return None if name is None else frozenset({name})


DECISIONS = Page(name="decisions", title="Decisions", paths=("/decisions",), make=decisions)
