"""Every situation that a catalog can bring about, context aside: the space that audits and proofs walk.

For each action they are roles x plans x statuses x overrides of its feature, times the ways in which the
meters that it takes can be exceeded. That last factor is the one that grows: a meter has room, or it is
exceeded in at most two ways for each distinct limit and two for a limit of the workspace's own, and the
meters of one action multiply. Actions that take one meter or none make a few thousand cells; an action that
takes two counters over five plans makes ten thousand, and each further counter ten times as many. So they
come lazily and the simplest first, by how many meters are exceeded: whoever cannot take all of them stops
where they must, and keeps those that happen.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

from sidecar.decisions.model import Exceeded, Situation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.catalog import Action, Catalog, Plan

STATUSES = ("active", "suspended")

_AFTER_RESET = {False: [False], True: [False, True]}


def cells(catalog: Catalog) -> Iterator[Situation]:
    """Each situation once, in an order that the catalog alone decides."""
    actions = [None, *catalog.actions.values()]
    for action in actions:
        yield Situation(action=_name(action), role=None, plan=None, status=None)
    for exceeded_count in range(1 + max(len(action.takes) for action in actions if action)):
        for action in actions:
            yield from _cells_of_members(action, exceeded_count, catalog)


def _cells_of_members(action: Action | None, exceeded_count: int, catalog: Catalog) -> Iterator[Situation]:
    feature = action.feature if action else None
    overrides: list[dict[str, bool]] = [{}]
    if feature is not None:
        overrides += [{feature: True}, {feature: False}]

    for role, plan, status in product((*catalog.roles, None), (*catalog.plans.values(), None), STATUSES):
        for override, exceeded in product(overrides, _exceeded(action, plan, exceeded_count, catalog)):
            yield Situation(
                action=_name(action),
                role=role,
                plan=plan.name if plan else None,
                status=status,
                feature_overrides=override,
                exceeded=exceeded,
            )


def _exceeded(
    action: Action | None, plan: Plan | None, count: int, catalog: Catalog
) -> Iterator[Mapping[str, Exceeded]]:
    """Every way in which exactly *count* of the meters that *action* takes can be exceeded in *plan*."""
    for meters in combinations(action.takes if action else (), count):
        for ways in product(*(_ways_to_exceed(meter, plan, catalog) for meter in meters)):
            yield dict(zip(meters, ways, strict=True))


def _ways_to_exceed(meter: str, plan: Plan | None, catalog: Catalog) -> list[Exceeded]:
    """Without a doublet, and none that sidecar.decisions.room could not say: see exceeded_meters there."""
    returns = catalog.meters[meter].per in {"month", "day"}
    # Where a limit of the workspace's own is in force, no plan fits better; it may fit after a reset.
    found: list[tuple[tuple[str, ...], bool]] = [((), after) for after in _AFTER_RESET[returns]]

    limit = plan.limits[meter] if plan else 0  # no plan, no limit stated: any amount exceeds it
    if limit is not None:
        limits = {name: each.limits[meter] for name, each in catalog.plans.items()}
        # What would be taken is more than *limit*; the plans that fit it have a limit of at least that.
        higher = sorted({each for each in limits.values() if each is not None and each > limit})
        fitting = [tuple(name for name, each in limits.items() if each is None or each >= h) for h in higher]
        fitting.append(tuple(name for name, each in limits.items() if each is None))
        found += product(fitting, _AFTER_RESET[returns and limit > 0])
    return [Exceeded(fits_in=fits_in, after_reset=after) for fits_in, after in dict.fromkeys(found)]


def _name(action: Action | None) -> str | None:
    return action.name if action else None
