"""A place in a file, as reports name it, becomes a link to its line in the page Policies."""

from __future__ import annotations

from urllib.parse import quote

PLANS = "plans.yaml"


def linked(place: str) -> tuple[str, str | None]:
    """FILE:LINE, and its link; None where it names no line."""
    name, _, line = place.rpartition(":")
    if not line.isdecimal():
        return place, None
    path = name.removeprefix("policies/") if name.endswith(".rego") else PLANS
    return place, f"/console/policies?file={quote(path)}#L{line}"
