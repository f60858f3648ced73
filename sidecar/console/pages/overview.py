"""Overview: is all of it as its files say, what is behind, and which command comes next."""

from __future__ import annotations

from sidecar.console.pages.page import Asked, Made, Page
from sidecar.console.status import PARTS, status_of


def overview(asked: Asked) -> Made:
    status = status_of(asked.sources.service)
    parts = [(title, status[name]) for name, title in PARTS.items() if name in status]
    catalog = asked.sources.compiled.catalog
    counts = {
        "plans": len(catalog.plans),
        "roles": len(catalog.roles),
        "features": len(catalog.features),
        "meters": len(catalog.meters),
        "actions": len(catalog.declared_actions),
        "policy files": len(asked.sources.compiled.modules),
    }
    behind = [title for title, part in parts if part["cause"]]
    return Made(
        template="overview.html",
        values={"state": status, "parts": parts, "counts": counts, "behind": behind},
    )


OVERVIEW = Page(name="overview", title="Overview", paths=("/",), make=overview)
