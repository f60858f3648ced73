"""Warnings: odd in a valid catalog, but perhaps meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.catalog.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.catalog import Action, Catalog, Plan
    from sidecar.catalog.read import Text


def warnings_about(catalog: Catalog, keys: Mapping[str, Mapping[str, Text]], *, source: str) -> list[Finding]:
    """*keys* has the positions of the names in each section."""

    def warning(section: str, name: str, code: str, message: str) -> Finding:
        key = keys[section][name]
        return Finding(
            source=source, line=key.line, column=key.column, code=code, message=message, severity="warning"
        )

    found = [warning("plans", *each) for each in _losses(catalog)]
    found += [warning("actions", *each) for each in _actions_for_nobody(catalog)]
    used = {catalog.actions[name].feature for name in catalog.declared_actions}
    return found + [
        warning("features", name, "unused_feature", f'no action needs the feature "{name}"')
        for name in catalog.features
        if name not in used
    ]


def _losses(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """What a plan lacks compared with the next lower price only; earlier losses are reported there.

    Nobody chooses between plans one of which is not sold.
    """
    sold = [plan for plan in catalog.plans.values() if plan.sold]
    for dearer in sold:
        lower = [plan.price.amount for plan in sold if plan.price.amount < dearer.price.amount]
        for cheaper in sold:
            if not lower or cheaper.price.amount != max(lower):
                continue
            costs = f'plan "{dearer.name}" costs more than "{cheaper.name}"'
            for feature in sorted(cheaper.features - dearer.features):
                yield dearer.name, "loses_feature", f'{costs}, but has not its feature "{feature}"'
            for meter in catalog.meters:
                if _is_less(less := dearer.limits[meter], more := cheaper.limits[meter]):
                    was = "unlimited" if more is None else more
                    yield dearer.name, "loses_limit", f'{costs}, but limits "{meter}" to {less}, not {was}'


def _is_less(limit: int | None, than: int | None) -> bool:
    return limit is not None and (than is None or limit < than)


def _actions_for_nobody(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    for name in catalog.declared_actions:
        action = catalog.actions[name]
        if any(_fits(action, plan) for plan in catalog.plans.values()):
            continue
        needs = [f'the feature "{action.feature}"'] if action.feature else []
        needs += [f'room for {amount} "{meter}"' for meter, amount in action.takes.items()]
        yield name, "action_for_nobody", f'action "{name}": no plan has {" and ".join(needs)}'


def _fits(action: Action, plan: Plan) -> bool:
    has_room = all(not _is_less(plan.limits[meter], amount) for meter, amount in action.takes.items())
    return has_room and (action.feature is None or action.feature in plan.features)
