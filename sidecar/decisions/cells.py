"""Every situation that a catalog can bring about, context aside: the space that audits and proofs walk.

For each action they are roles x plans x statuses x overrides of its feature, times the rooms there can be.
That last factor is the one that grows. What is wanted of a meter fits into the plans above some limit, or
under an override into all or none; and in the present plan it may fit later. A room joins this for all meters
that the action takes, so there are fewer rooms than combinations of meters, but each further meter whose
limits rank the plans in another order adds some. So they come lazily, those with room in the present plan
first: whoever cannot take all of them stops where they must, and keeps those that happen.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, TypeAlias

from sidecar.decisions.model import Room, Situation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sidecar.catalog.catalog import Action, Catalog, Plan

STATUSES = ("active", "suspended")
MOST_REMEMBERED = 50_000  # by one worker; the simplest come first

_Way: TypeAlias = tuple[
    frozenset[str], bool
]  # the plans in which it fits now; whether waiting is enough here


def cells(catalog: Catalog) -> Iterator[Situation]:
    """Each situation once, in an order that the catalog alone decides."""
    actions = [None, *catalog.actions.values()]
    for action in actions:
        yield Situation(action=_name(action), role=None, plan=None, status=None)
    for fits in (True, False):
        for action in actions:
            for plan in (*catalog.plans.values(), None):
                rooms = _rooms(action, plan, catalog, fits=fits)
                yield from _cells_of_members(action, plan, rooms, catalog)


def cell_counts(catalog: Catalog, *, enough: int) -> dict[str | None, int]:
    """How many cells each action has; None stands for those that are not declared.

    It counts no further once there are *enough* in sum: the rest is left out.
    """
    counts: dict[str | None, int] = {}
    for action in (None, *catalog.actions.values()):
        name = _name(action)
        counts[name] = 1
        for plan, fits in product((*catalog.plans.values(), None), (True, False)):
            for _ in _rooms(action, plan, catalog, fits=fits):
                counts[name] += (len(catalog.roles) + 1) * len(STATUSES) * len(_overrides_of(action))
                if counts[name] >= enough:
                    return counts
        enough -= counts[name]
    return counts


def _cells_of_members(
    action: Action | None, plan: Plan | None, rooms: Iterable[Room | None], catalog: Catalog
) -> Iterator[Situation]:
    for room in rooms:
        for role, status, override in product((*catalog.roles, None), STATUSES, _overrides_of(action)):
            yield Situation(
                action=_name(action),
                role=role,
                plan=plan.name if plan else None,
                status=status,
                feature_overrides=override,
                room=room,
            )


def _overrides_of(action: Action | None) -> list[dict[str, bool]]:
    feature = action.feature if action else None
    return [{}] if feature is None else [{}, {feature: True}, {feature: False}]


def _rooms(
    action: Action | None, plan: Plan | None, catalog: Catalog, *, fits: bool
) -> Iterator[Room | None]:
    """The rooms of *action* in which its amounts fit into *plan*, or those in which they do not."""
    if action is None or not action.takes:
        if fits:
            yield None
        return
    joint: Iterable[_Way] = [(frozenset(catalog.plans), True)]
    ways = dict.fromkeys(tuple(_ways(meter, plan, catalog)) for meter in action.takes)
    for each in ways:
        joint = _joined(joint, [way for way in each if _is_in(plan, way)] if fits else each)
    seen = set()
    for way in joint:
        if _is_in(plan, way) == fits:
            fits_in, waits = way
            room = Room(fits_in=tuple(sorted(fits_in)), waiting_helps=waits and plan is not None and not fits)
            if room not in seen:
                seen.add(room)
                yield room


def _is_in(plan: Plan | None, way: _Way) -> bool:
    return plan is not None and plan.name in way[0]


def _joined(ones: Iterable[_Way], others: Sequence[_Way]) -> Iterator[_Way]:
    """Each once. The first of *others* changes nothing: so this yields something for each of *ones*."""
    seen = set()
    for fits_in, waits in ones:  # not product, which would want all of them first
        for fits_in_too, waits_too in others:
            both = fits_in & fits_in_too, waits and waits_too
            if both not in seen:
                seen.add(both)
                yield both


def _ways(meter: str, plan: Plan | None, catalog: Catalog) -> Iterator[_Way]:
    """What sidecar.decisions.room can find of one meter."""
    every, nowhere = frozenset(catalog.plans), frozenset[str]()
    later = (False,) if catalog.meters[meter].is_counted else (False, True)  # nothing of these is on hold
    # A limit of the workspace's own is the same in all plans.
    yield every, True
    for waits in later:
        yield nowhere, waits

    limits = {name: each.limits[meter] for name, each in catalog.plans.items()}
    own = plan.limits[meter] if plan else 0
    steps = sorted({limit for limit in limits.values() if limit})  # an amount is at least 1
    fitting = [{name for name, limit in limits.items() if limit is None or limit >= step} for step in steps]
    fitting.append({name for name, limit in limits.items() if limit is None})
    for names in map(frozenset, fitting):
        if plan is not None and plan.name in names:
            yield names, True
        else:
            yield from ((names, waits) for waits in (later if own else (False,)))


def _name(action: Action | None) -> str | None:
    return action.name if action else None
