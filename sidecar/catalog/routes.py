"""Which action a request asks for: the catalog's routes, made ready to be found by method, host and path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecar.catalog.paths import Segment, segments_of, template_of
from sidecar.errors import Unroutable, UnsafePath

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.catalog.catalog import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """*parameters* maps the names in the route's template to the text of the path."""

    route: Route
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Alike:
    """Routes of one length with fixed parts at the same *places*: at most one of them matches a path."""

    places: tuple[int, ...]
    routes: dict[tuple[str, ...], tuple[Route, dict[str, int]]] = field(default_factory=dict)
    lenient: set[tuple[str, ...]] = field(default_factory=set)

    def add(self, route: Route) -> None:
        parts = template_of(route.path).parts
        fixed = [part for part in parts if isinstance(part, Segment)]
        parameters = {part: place for place, part in enumerate(parts) if isinstance(part, str)}
        self.routes[tuple(part.written for part in fixed)] = route, parameters
        self.lenient.add(tuple(part.lookalikes[0] for part in fixed))

    def looks_like_one(self, segments: tuple[Segment, ...]) -> bool:
        """Whether a server that ignores case and extension would take it for one of these."""
        folded = tuple(segments[place].lookalikes[0] for place in self.places)
        if folded in self.lenient:
            return True
        stem = segments[-1].lookalikes[1]
        return self.places[-1] == len(segments) - 1 and (*folded[:-1], stem) in self.lenient


class Routes:
    """If a path matches two routes, the one with a host wins, then the one with more fixed parts.

    `sidecar check` refuses routes that tie.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._alike: dict[tuple[str, str | None, int], list[_Alike]] = {}
        self._by_host = False  # whether any of them names one
        for route in routes:
            self._by_host = self._by_host or route.host is not None
            template = template_of(route.path)
            group = self._alike.setdefault((route.method, route.host, len(template.parts)), [])
            alike = next((each for each in group if each.places == template.fixed), None)
            if alike is None:
                alike = _Alike(template.fixed)
                group.append(alike)
                group.sort(key=lambda each: -len(each.places))
            alike.add(route)

    def match(self, *, method: str, host: str | None, target: str) -> Match:
        """*host* is None where it is not known.

        UnsafePath; Unroutable ``unknown_route``, or ``gateway_unreadable`` without a host that is needed.
        """
        segments = segments_of(target)
        if host is None and self._by_host:
            raise Unroutable("the host is not known, and a route names one", code="gateway_unreadable")
        for whose in (host, None) if host is not None else (None,):
            for alike in self._alike.get((method, whose, len(segments)), ()):
                found = alike.routes.get(tuple(segments[place].written for place in alike.places))
                if found is not None:
                    route, parameters = found
                    return Match(
                        route=route,
                        parameters={name: segments[place].text for name, place in parameters.items()},
                    )
                if alike.looks_like_one(segments):
                    raise UnsafePath("it is as a route's but for case, encoding or an extension")
        raise Unroutable(f"no route is for {method} and this path", code="unknown_route")
