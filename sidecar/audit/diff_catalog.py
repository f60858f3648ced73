"""What two catalogs say differently that no question shows: limits, prices, routes, titles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.catalog.places import Places
from sidecar.rego.heads import code_of, looks_at_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.audit.diff import Side
    from sidecar.audit.joined import JoinedNames
    from sidecar.catalog.catalog import Route

_Row = dict[str, Any]


class CatalogChanges:
    """Each list has JSON documents, in the order of the new catalog."""

    def __init__(self, old: Side, new: Side, names: JoinedNames) -> None:
        self._old, self._new, self._names = old, new, names
        self._before, self._after = old.compiled.catalog, new.compiled.catalog
        self._places = Places(new.text)
        self._files_known = old.text is not None and new.text is not None
        self.limits = list(self._limits())
        self.prices = list(self._prices())
        self.routes = list(self._routes()) if self._files_known else []
        self.titles = list(self._titles()) if self._files_known else []
        self.others = list(self._others())
        self.only_one_side = self._only_one_side()
        self.not_compared = list(self._not_compared())

    def __bool__(self) -> bool:
        found = (self.limits, self.prices, self.routes, self.titles, self.others)
        return any(found) or any(self.only_one_side.values())

    @property
    def document(self) -> _Row:
        return {
            "limits": self.limits,
            "prices": self.prices,
            "routes": self.routes,
            "titles": self.titles,
            "others": self.others,
            "only_one_side": {
                kind: [row["name"] for row in rows] for kind, rows in self.only_one_side.items()
            },
            "only_in": {
                side: {
                    kind: [row["name"] for row in rows if row["side"] == side]
                    for kind, rows in self.only_one_side.items()
                }
                for side in ("from", "to")
            },
            "not_compared": self.not_compared,
        }

    def _limits(self) -> Iterator[_Row]:
        for plan in self._names.plans.both:
            for meter in self._names.meters.both:
                before = self._before.plans[plan.old or ""].limits[meter.old or ""]
                after = self._after.plans[plan.name].limits[meter.name]
                if before != after:
                    line = self._places.limit(plan.name, meter.name)
                    yield {"plan": plan.name, "meter": meter.name, "from": before, "to": after, "line": line}

    def _prices(self) -> Iterator[_Row]:
        for plan in self._names.plans.both:
            before, after = self._before.plans[plan.old or ""].price, self._after.plans[plan.name].price
            currencies = {before.currency, after.currency} - {""}  # a bundle does not say which
            if before.amount != after.amount or len(currencies) > 1:
                yield {
                    "plan": plan.name,
                    "from": before.amount,
                    "to": after.amount,
                    "currency": {"from": before.currency or None, "to": after.currency or None},
                    "line": self._places.price(plan.name),
                }

    def _routes(self) -> Iterator[_Row]:
        before, after = (
            {_key(route): route for route in each.routes} for each in (self._before, self._after)
        )
        for key in [*after, *(key for key in before if key not in after)]:
            old, new = before.get(key), after.get(key)
            action = self._names.actions.new_of(old.action) if old else None
            how = [_how(route) for route in (old, new) if route]
            if action == (new.action if new else None) and how[0] == how[-1]:
                continue
            method, path, host = key
            yield {
                "method": method,
                "path": path,
                "host": host,
                "from": old.action if old else None,
                "to": new.action if new else None,
                "how": {
                    name: [each[name] for each in how] for name in how[0] if how[0][name] != how[-1][name]
                },
                "line": self._places.route(method, path, host),
            }

    def _titles(self) -> Iterator[_Row]:
        for kind in ("roles", "features", "meters", "plans", "actions"):
            for pair in getattr(self._names, kind).both:
                before, after = (
                    getattr(catalog, kind)[name].title
                    for catalog, name in ((self._before, pair.old), (self._after, pair.new))
                )
                # A title that is made of the name changes with it, and says nothing more.
                if before != after and pair.old == pair.new:
                    yield {"kind": kind[:-1], "name": pair.name, "from": before, "to": after}

    def _others(self) -> Iterator[_Row]:
        """What a plan or meter is besides: told as `what`, not as a kind of change."""
        names, before, after = self._names, self._before, self._after

        def row(what: str, name: str, old: object, new: object, line: int | None) -> Iterator[_Row]:
            if old != new:
                yield {"what": what, "name": name, "from": old, "to": new, "line": line}

        if self._files_known:
            default = names.plans.new_of(before.default_plan)
            yield from row("default_plan", "", default, after.default_plan, self._places.default_plan())
            for meter in names.meters.both:
                one, other = before.meters[meter.old or ""], after.meters[meter.name]
                for what in ("kind", "per", "anchor"):
                    line = self._places.meter(meter.name)
                    yield from row(what, meter.name, getattr(one, what), getattr(other, what), line)
        for plan in names.plans.both:
            sold = before.plans[plan.old or ""].sold, after.plans[plan.name].sold
            yield from row("sold", plan.name, *sold, self._places.plan(plan.name))
        for action in names.actions.both:
            old = before.actions[action.old or ""].takes
            takes = {names.meters.new_of(meter): amount for meter, amount in old.items()}
            now = dict(after.actions[action.name].takes)
            yield from row("takes", action.name, takes, now, self._places.action(action.name))

    def _only_one_side(self) -> dict[str, list[_Row]]:
        return {
            kind: [
                {"name": pair.name, "side": "from" if pair.new is None else "to"}
                for pair in getattr(self._names, kind).pairs
                if not pair.on_both
            ]
            for kind in ("roles", "plans", "actions", "features", "meters")
        }

    def _not_compared(self) -> Iterator[dict[str, str]]:
        """Rules about context: what it may hold cannot be enumerated."""
        for side in (self._old, self._new):
            if side.text is None:
                yield {"file": side.plans, "why": "is a bundle, which has no titles and routes"}
        before, after = (
            {path: code_of(text) for path, text in each.compiled.modules.items()}
            for each in (self._old, self._new)
        )
        declared = self._old.compiled.context_fields != self._new.compiled.context_fields
        for path in sorted(before.keys() | after.keys()):
            old, new = before.get(path), after.get(path)
            if not any(_concerns_context(path, modules) for modules in (before, after) if path in modules):
                continue
            if old is None:
                yield {"file": path, "why": "is new and looks at context"}
            elif new is None:
                yield {"file": path, "why": "is gone and looked at context"}
            elif old != new:
                yield {"file": path, "why": "has changed and looks at context"}
            elif declared and looks_at_context(new):
                yield {"file": path, "why": "looks at context, of which other fields are declared now"}


def _concerns_context(path: str, modules: dict[str, str]) -> bool:
    """Whether that policy looks at context, or may be used by one that does."""
    if looks_at_context(modules[path]):
        return True
    folder = path.rpartition("/")[0]
    if folder == "authz":  # each of our own would be told with every release
        return False
    package = f"data.{folder.replace('/', '.')}"
    return any(
        looks_at_context(text) and (other.rpartition("/")[0] == folder or package in text)
        for other, text in modules.items()
        if other != path
    )


def _key(route: Route) -> tuple[str, str, str | None]:
    return route.method, route.path, route.host


def _how(route: Route) -> dict[str, object]:
    return {
        "mode": route.mode,
        "user": f"{route.user.kind} {route.user.name}",
        "workspace": f"{route.workspace.kind} {route.workspace.name}",
        "once_per": route.once_per,
        "ratelimit": route.ratelimit,
    }
