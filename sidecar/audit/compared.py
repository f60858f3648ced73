"""Promises that compare cells: duties that are apart, and ladders on which nothing is lost."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from sidecar.audit.asked import is_stranger
from sidecar.audit.conditions import plan_of, role_of
from sidecar.audit.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from sidecar.audit.asked import Asked
    from sidecar.catalog.catalog import Catalog, Invariant, Ladder, Plan, Separate
    from sidecar.decisions.model import Situation

_Pair = tuple["Asked", "Asked"]


class SeparatePromise:
    """No role but the exempt is granted more than one of the actions on any one plan."""

    def __init__(self, invariant: Invariant, separate: Separate, catalog: Catalog) -> None:
        self.title = invariant.title
        self._invariant = invariant
        self._actions = frozenset(separate.actions)
        self._exempt = frozenset(separate.exempt)
        self._nobody_is_left = self._exempt >= set(catalog.roles)

    def speaks_of(self, situation: Situation, /) -> bool:
        return situation.action in self._actions and role_of(situation) not in self._exempt

    def outcome(self, asked: Sequence[Asked], /) -> Outcome:
        spoken = [each for each in asked if self.speaks_of(each.situation)]
        granted: dict[tuple[str, str], list[Asked]] = {}
        for each in spoken:
            if each.granted:
                granted.setdefault((role_of(each.situation), plan_of(each.situation)), []).append(each)
        together = [cells for cells in granted.values() if len({each.situation.action for each in cells}) > 1]
        broken = sum(map(len, together))
        return Outcome(
            title=self.title,
            form=self._invariant.form,
            found="broken" if broken else "vacuous" if self._nobody_is_left else "holds",
            situations=len(spoken),
            broken=broken,
            line=self._invariant.line,
            counterexamples=_smallest(map(_two_of, together)) if together else (),
        )


class LadderPromise:
    """What is granted on one rung is granted on the next; of plans, no limit falls."""

    def __init__(self, invariant: Invariant, ladder: Ladder, catalog: Catalog) -> None:
        self.title = invariant.title
        self._invariant = invariant
        self._of = ladder.of
        self._steps = tuple(_steps(ladder, catalog))
        self._rungs = {rung for step in self._steps for rung in step}
        self._catalog = catalog

    def speaks_of(self, situation: Situation, /) -> bool:
        return not is_stranger(situation) and self._rung(situation) in self._rungs

    def outcome(self, asked: Sequence[Asked], /) -> Outcome:
        on: dict[str | None, dict[Hashable, list[Asked]]] = {}
        situations = 0
        for each in asked:
            if self.speaks_of(each.situation):
                situations += 1
                here = on.setdefault(self._rung(each.situation), {})
                here.setdefault(self._question(each.situation), []).append(each)
        lost = [pair for step in self._steps for pair in _lost(*(on.get(rung, {}) for rung in step))]
        falls = list(self._falls())
        # Where no action takes the meter, no cell shows that its limit falls.
        broken = len({lower.number for lower, _ in lost}) or len(falls)
        return Outcome(
            title=self.title,
            form=self._invariant.form,
            found="broken" if broken else "holds" if self._steps else "vacuous",
            situations=situations,
            broken=broken,
            line=self._invariant.line,
            counterexamples=_smallest(lost) if lost else (),
            notes=tuple(falls),
        )

    def _rung(self, situation: Situation) -> str | None:
        return situation.role if self._of == "roles" else situation.plan

    def _question(self, situation: Situation) -> Hashable:
        """The cell without its rung: what fits is the same on each, only waiting is of one plan."""
        room = situation.room
        other = situation.plan if self._of == "roles" else situation.role
        waits = room is not None and self._of == "roles" and room.waiting_helps
        override = tuple(situation.feature_overrides.items())
        return situation.action, other, situation.status, override, room and room.fits_in, waits

    def _falls(self) -> Iterator[str]:
        if self._of == "roles":
            return
        for lower, higher in self._steps:
            here, there = self._catalog.plans[lower], self._catalog.plans[higher]
            for meter in self._catalog.meters:
                less, more = there.limits[meter], here.limits[meter]
                if less is not None and (more is None or less < more):
                    yield f"{meter}: {_limit(here, meter)} on {lower}, and {less} on {higher}"


def _steps(ladder: Ladder, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """From one rung to another that may not be less."""
    if ladder.order:
        yield from pairwise(ladder.order)
    elif ladder.of == "roles":
        for role in catalog.roles.values():
            yield from ((lower, role.name) for lower in catalog.roles if lower in role.includes)
    else:
        prices = sorted({plan.price.amount for plan in catalog.plans.values()})
        for price, dearer in pairwise(prices):
            lower = [plan.name for plan in catalog.plans.values() if plan.price.amount == price]
            higher = [plan.name for plan in catalog.plans.values() if plan.price.amount == dearer]
            yield from ((one, other) for one in lower for other in higher)


def _lost(lower: dict[Hashable, list[Asked]], higher: dict[Hashable, list[Asked]]) -> Iterator[_Pair]:
    for question, cells in lower.items():
        for one in cells:
            if one.granted:
                yield from ((one, other) for other in higher.get(question, ()) if not other.granted)


def _two_of(cells: list[Asked]) -> _Pair:
    """The two nearest to what is sold of two actions."""
    nearest = sorted(cells, key=lambda each: (each.steps, each.number))
    return nearest[0], next(each for each in nearest if each.situation.action != nearest[0].situation.action)


def _smallest(pairs: Iterable[_Pair]) -> _Pair:
    return min(pairs, key=lambda pair: (sum(each.steps for each in pair), pair[0].number, pair[1].number))


def _limit(plan: Plan, meter: str) -> str:
    return "unlimited" if plan.limits[meter] is None else str(plan.limits[meter])
