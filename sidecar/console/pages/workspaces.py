"""Workspaces: search them as `GET /v1/workspaces` does, each with its people and its use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sidecar.api.v1.workspaces import FIND_WORKSPACES
from sidecar.console.pages.page import Asked, Made, Page
from sidecar.console.pages.quotas import bars_of

if TYPE_CHECKING:
    from sidecar.console.pages.quotas import Bar

_ON_A_PAGE = 20
_COUNTED = 100  # members: beyond that it says so
_FILTERS = ("q", "plan", "status")


def workspaces(asked: Asked) -> Made:
    filters = {name: asked.of(name) for name in _FILTERS if asked.of(name)}
    found = asked.endpoint(FIND_WORKSPACES, {**filters, "after": asked.of("after"), "limit": _ON_A_PAGE})
    next_page = None
    if found["next"] is not None:
        next_page = urlencode({**filters, "after": found["next"]})
    return Made(
        template="workspaces.html",
        values={
            "rows": [(each, *_people_and_use(asked, each)) for each in found["workspaces"]],
            "filters": filters,
            "after": asked.of("after"),
            "next": next_page,
            "first": urlencode(filters),
            "plans": list(asked.sources.compiled.catalog.plans),
        },
    )


def _people_and_use(asked: Asked, found: dict[str, Any]) -> tuple[str, list[Bar]]:
    roster = asked.sources.facts.members_of(
        found["id"], after=None, limit=_COUNTED + 1, deadline=asked.deadline
    )
    count = len(roster.members)
    people = f"{_COUNTED}+" if count > _COUNTED else str(count)
    catalog = asked.sources.compiled.catalog
    return people, bars_of(roster.facts, catalog) if roster.facts else []


WORKSPACES = Page(name="workspaces", title="Workspaces", paths=("/workspaces",), make=workspaces)
