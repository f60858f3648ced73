"""The lines of a plans.yaml, by what stands there: for reports that say where a right comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.catalog.node import fields_at, node_at, text_at
from sidecar.catalog.read import Fields, Items, Nothing, Text, document_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.catalog.read import Node


class Places:
    """Each answer is a line, counted from 1; None for what the file does not have.

    *raw* is a file without problems (`check_plans`), or None: then nothing is known of any line.
    """

    def __init__(self, raw: bytes | None) -> None:
        root = document_in(raw, source="").root if raw is not None else None
        self._root: Node = root or Nothing(1, 1)

    def role(self, name: str) -> int | None:
        return self._of("roles", name)

    def feature(self, name: str) -> int | None:
        return self._of("features", name)

    def meter(self, name: str) -> int | None:
        return self._of("meters", name)

    def plan(self, name: str) -> int | None:
        return self._of("plans", name)

    def action(self, name: str) -> int | None:
        """Of a declared action; one that is made for a feature or a role stands where that does."""
        kind, _, of = name.partition(":")
        return self._of("actions", name) or (self._of(f"{kind}s", of) if of else None)

    def price(self, plan: str) -> int | None:
        return self._key("plans", plan, "price")

    def features_of(self, plan: str, feature: str | None = None) -> int | None:
        """Of *feature* in the list of *plan* or of the plan that it extends; else of the plan's own list."""

        def listed(name: str) -> int | None:
            features = node_at(self._root, "plans", name, "features")
            for item in features.items if isinstance(features, Items) else ():
                if isinstance(item, Text) and item.value == feature:
                    return item.line
            return None

        return self._inherited(plan, listed) or self._key("plans", plan, "features") or self.plan(plan)

    def limit(self, plan: str, meter: str) -> int | None:
        """Where it is stated: in *plan*, or in the plan that it extends."""
        return self._inherited(plan, lambda name: self._key("plans", name, "limits", meter))

    def route(self, method: str, path: str, host: str | None = None) -> int | None:
        stated = (method, path, host)
        return self._item("routes", lambda route: tuple(_texts(route, "method", "path", "host")) == stated)

    def invariant(self, title: str) -> int | None:
        return self._item("invariants", lambda each: text_at(each, "title") == title)

    def default_plan(self) -> int | None:
        return self._key("default_plan")

    def _of(self, section: str, name: str) -> int | None:
        return self._key(section, name)

    def _key(self, *path: str) -> int | None:
        *above, name = path
        section = node_at(self._root, *above)
        return section.keys[name].line if isinstance(section, Fields) and name in section.keys else None

    def _item(self, section: str, fits: Callable[[Node], bool]) -> int | None:
        items = node_at(self._root, section)
        found = (item for item in (items.items if isinstance(items, Items) else ()) if fits(item))
        return next((item.line for item in found), None)

    def _inherited(self, plan: str, line_in: Callable[[str], int | None]) -> int | None:
        plans = fields_at(self._root, "plans")
        name: str | None = plan
        for _ in range(len(plans)):  # a valid file has no cycle
            line = line_in(name) if name else None
            if line is not None or name is None or name not in plans:
                return line
            name = text_at(plans[name], "extends")
        return None


def _texts(node: Node, *names: str) -> list[str | None]:
    return [text_at(node, name) for name in names]
