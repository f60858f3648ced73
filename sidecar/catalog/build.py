"""Builds the catalog from a valid file: resolves inheritance, fills in defaults, sorts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.catalog.billing import billing_in, sold_as_in
from sidecar.catalog.canonical import canonical_text
from sidecar.catalog.catalog import (
    Action,
    Catalog,
    Feature,
    Meter,
    Plan,
    Price,
    Role,
    Route,
    Source,
)
from sidecar.catalog.invariants import invariant_in

if TYPE_CHECKING:
    from collections.abc import Sequence

_File = dict[str, Any]  # as validated by the shapes of sections.py


def built(file: _File, *, lines: Sequence[int] = ()) -> Catalog:
    """*lines* are those on which the invariants stand."""
    line_of = iter(lines)
    roles = _roles(file["roles"])
    features = {
        name: Feature(name=name, title=_title(name, feature or {}), renamed_from=_former(feature))
        for name, feature in file.get("features", {}).items()
    }
    declared = {name: _action(name, action, roles) for name, action in file.get("actions", {}).items()}
    return Catalog(
        currency=file["currency"],
        roles=roles,
        features=features,
        meters={name: _meter(name, meter) for name, meter in file.get("meters", {}).items()},
        plans=_plans(file["plans"], currency=file["currency"]),
        default_plan=file["default_plan"],
        actions=declared | _made_for_features(features, roles) | _made_for_roles(roles),
        declared_actions=tuple(declared),
        routes=tuple(_route(route) for route in file.get("routes", [])),
        invariants=tuple(invariant_in(each, line=next(line_of, 0)) for each in file.get("invariants", [])),
        document=canonical_text(file),
        billing=billing_in(file.get("billing", {}), default_plan=file["default_plan"]),
    )


def _title(name: str, fields: _File) -> str:
    title = fields.get("title", name.replace("_", " ").replace("-", " "))
    return str(title if "title" in fields else title[0].upper() + title[1:])


def _former(file: _File | None) -> str | None:
    former: str | None = (file or {}).get("renamed_from")
    return former


def _roles(file: _File) -> dict[str, Role]:
    """Least first: by the number of included roles, then in the file's order."""

    def included(name: str) -> set[str]:
        direct = (file[name] or {}).get("includes", [])
        return set(direct).union(*(included(other) for other in direct))

    roles = [
        Role(
            name=name,
            title=_title(name, role),
            includes=frozenset(included(name)),
            renamed_from=_former(role),
        )
        for name, role in file.items()
    ]
    return {role.name: role for role in sorted(roles, key=lambda role: len(role.includes))}


def _meter(name: str, file: _File) -> Meter:
    return Meter(
        name=name,
        title=_title(name, file),
        kind=file["counts"] if "counts" in file else file["kind"],
        per=file.get("per"),
        anchor=file.get("anchor", "calendar"),
        renamed_from=_former(file),
    )


def _plans(file: _File, *, currency: str) -> dict[str, Plan]:
    """Cheapest first, then in the file's order."""

    def features(name: str) -> frozenset[str]:
        parent = file[name].get("extends")
        return frozenset(file[name].get("features", [])) | (features(parent) if parent else frozenset())

    def limits(name: str) -> dict[str, int | None]:
        parent = file[name].get("extends")
        own = {
            meter: None if limit == "unlimited" else limit
            for meter, limit in file[name].get("limits", {}).items()
        }
        return (limits(parent) if parent else {}) | own

    plans = [
        Plan(
            name=name,
            title=_title(name, plan),
            price=Price(amount=plan["price"], currency=currency),
            features=features(name),
            limits=limits(name),
            sold=plan.get("sold", True),
            renamed_from=_former(plan),
            sold_as=sold_as_in(plan.get("sold_as", {})),
        )
        for name, plan in file.items()
    ]
    return {plan.name: plan for plan in sorted(plans, key=lambda plan: plan.price.amount)}


def _action(name: str, file: _File, roles: dict[str, Role]) -> Action:
    named = file["roles"] if "roles" in file else _with_at_least(file["role"], roles)
    return Action(
        name=name,
        title=_title(name, file),
        roles=tuple(role for role in roles if role in named),
        feature=file.get("feature"),
        takes=file.get("takes", {}),
        while_suspended=file.get("while_suspended", False),
        renamed_from=_former(file),
    )


def _with_at_least(least: str, roles: dict[str, Role]) -> list[str]:
    return [name for name, role in roles.items() if name == least or least in role.includes]


def _made_for_features(features: dict[str, Feature], roles: dict[str, Role]) -> dict[str, Action]:
    return {
        f"feature:{name}": _made(f"feature:{name}", feature.title, list(roles), feature=name)
        for name, feature in features.items()
    }


def _made_for_roles(roles: dict[str, Role]) -> dict[str, Action]:
    return {
        f"role:{name}": _made(f"role:{name}", role.title, _with_at_least(name, roles))
        for name, role in roles.items()
    }


def _made(name: str, title: str, roles: list[str], *, feature: str | None = None) -> Action:
    return Action(
        name=name, title=title, roles=tuple(roles), feature=feature, takes={}, while_suspended=False
    )


def _route(file: _File) -> Route:
    return Route(
        method=file["method"],
        path=file["path"],
        host=file.get("host"),
        action=file["action"],
        user=_source(file.get("user", {"claim": "sub"})),
        workspace=_source(file.get("workspace", {"path": "workspace"})),
        mode=file.get("mode", "check"),
        once_per=file.get("once_per"),
        ratelimit=file.get("ratelimit", False),
    )


def _source(file: _File) -> Source:
    kind: Any  # as the shape of a source names them
    ((kind, name),) = file.items()
    return Source(kind=kind, name=name)
