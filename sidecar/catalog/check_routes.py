"""Validates routes: sources that do not exist, and unreachable or ambiguous paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.catalog.finding import Finding, nearest
from sidecar.catalog.node import fields_at, node_at, text_at
from sidecar.catalog.paths import template_of
from sidecar.catalog.read import Broken, Items, Text, Truth
from sidecar.errors import UnsafePath

if TYPE_CHECKING:
    from sidecar.catalog.paths import Template
    from sidecar.catalog.read import Node
    from sidecar.catalog.shape import Walk

_Others = list[tuple["Template", Text]]


def check_routes(root: Node, walk: Walk) -> None:
    routes = node_at(root, "routes")
    others: dict[tuple[str, str | None, int], _Others] = {}
    counting = {meter for meter in fields_at(root, "meters") if node_at(root, "meters", meter, "counts")}
    for route in routes.items if isinstance(routes, Items) else ():
        path = node_at(route, "path")
        if not isinstance(path, Text):
            continue
        try:
            template = template_of(path.value)
        except UnsafePath as error:
            walk.find("unreachable_route", f"no request gets to {path.value}: {error.detail}", path)
            continue
        _check_sources(route, path, template, walk)
        _check_consumption(root, route, counting, walk)
        method = text_at(route, "method")
        if method and not isinstance(node_at(route, "host"), Broken):
            of_this_form = others.setdefault((method, text_at(route, "host"), len(template.parts)), [])
            _check_others(method, path, template, of_this_form, walk)
            of_this_form.append((template, path))


def warnings_about_routes(root: Node, *, source: str) -> list[Finding]:
    """Of a catalog without problems: what takes quota again when its gateway repeats a request."""
    routes = node_at(root, "routes")
    found = []
    for route in routes.items if isinstance(routes, Items) else ():
        mode = node_at(route, "mode")
        if isinstance(mode, Text) and mode.value == "consume" and node_at(route, "once_per") is None:
            message = (
                f"{text_at(route, 'method')} {text_at(route, 'path')} takes quota again each time that the"
                " gateway repeats its request; name the header in which it makes a key, like once_per:"
                " X-Request-Key"
            )
            found.append(
                Finding(
                    source=source,
                    line=mode.line,
                    column=mode.column,
                    code="consumes_again",
                    message=message,
                    severity="warning",
                )
            )
    return found


def _check_others(method: str, path: Text, template: Template, others: _Others, walk: Walk) -> None:
    """If two templates match a path, one must win; reports the first pair that ties."""
    for other, elsewhere in others:
        if not template.meets(other):
            continue
        first = f"first on line {elsewhere.line}"
        if template.fixed == other.fixed:
            words = f"the route {method} {path.value} is there twice, {first}"
            if path.value != elsewhere.value:
                words += f" as {elsewhere.value}: names, case and a slash at the end make no difference"
            walk.find("duplicate_route", words, path)
            return
        if not template.is_within(other) and not other.is_within(template):
            words = f"some paths match both {path.value} and {elsewhere.value} on line {elsewhere.line}"
            walk.find("ambiguous_route", f"{words}, and neither route wins", path)
            return


def _check_sources(route: Node, path: Text, template: Template, walk: Walk) -> None:
    segments = [part for part in template.parts if isinstance(part, str)]
    for segment in sorted({each for each in segments if segments.count(each) > 1}):
        walk.find("duplicate_item", f'path "{path.value}": "{{{segment}}}" is there twice', path)
    for whom in ("user", "workspace"):
        named = node_at(route, whom, "path")
        if isinstance(named, Text) and named.value not in segments:
            message = f'{whom} is the segment "{named.value}" of {path.value}, which has none of that name'
            walk.find("unknown_segment", message, named, nearest(named.value, segments))
    if node_at(route, "workspace") is None and "workspace" not in segments:
        message = (
            f"{path.value} has no {{workspace}}: say where it is, like workspace: {{header: X-Workspace-Id}}"
        )
        walk.find("unknown_segment", message, path)


def _check_consumption(root: Node, route: Node, counting: set[str], walk: Walk) -> None:
    mode, key, shows = (node_at(route, name) for name in ("mode", "once_per", "ratelimit"))
    consumes = isinstance(mode, Text) and mode.value == "consume"
    if isinstance(key, Text) and not consumes and not isinstance(mode, Broken):
        walk.find("field_not_for_mode", "once_per is for mode: consume, where something is taken", key)
    action = text_at(route, "action") or ""
    takes = fields_at(root, "actions", action, "takes")
    if (
        isinstance(shows, Truth)
        and shows.value
        and not takes
        and (":" in action or node_at(root, "actions", action))
    ):
        walk.find("field_not_for_action", f'"{action}" takes nothing, so there is no limit to tell', shows)
    if not isinstance(mode, Text) or not consumes:
        return
    for meter in takes:
        if meter in counting:
            message = f'"{meter}" is counted by the database itself: a request cannot consume it'
            walk.find("meter_not_consumable", message, mode)
