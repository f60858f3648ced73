"""Promises about cells one by one: never, always, only and whenever of plans.yaml."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sidecar.audit.asked import is_stranger
from sidecar.audit.compared import LadderPromise, SeparatePromise
from sidecar.audit.conditions import Condition, as_sold_unless_stated, declared_roles
from sidecar.audit.outcomes import Outcome, nearest_to_sold
from sidecar.catalog.catalog import Cell, Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.audit.asked import Asked
    from sidecar.audit.outcomes import Promise
    from sidecar.catalog.catalog import Catalog, Invariant
    from sidecar.decisions.model import Situation

# Where a promise leaves these open, a cell that is not as sold may break it: what to say if that is meant.
_AS_SOLD = {
    "override: none": Cell(override=Choice(values=("none",))),
    "status: active": Cell(status=Choice(values=("active",))),
    "room: true": Cell(room=Choice(values=("yes",))),
}


def promises_of(catalog: Catalog) -> list[Promise]:
    return [_promise(each, catalog) for each in catalog.invariants]


def _promise(invariant: Invariant, catalog: Catalog) -> Promise:
    if invariant.separate is not None:
        return SeparatePromise(invariant, invariant.separate, catalog)
    if invariant.ladder is not None:
        return LadderPromise(invariant, invariant.ladder, catalog)
    match invariant.form:
        case "never":
            return OfEach(invariant, Condition(invariant.cell), lambda each: not each.granted)
        case "always":
            cell = as_sold_unless_stated(invariant.cell, catalog)
            return OfEach(invariant, Condition(cell), lambda each: each.granted)
        case "only":
            return Only(invariant, catalog)
        case _:
            return OfEach(invariant, Condition(invariant.cell), Condition(invariant.then))


class OfEach:
    """Each cell that *speaks* is one that *keeps* the promise."""

    def __init__(self, invariant: Invariant, speaks: Condition, keeps: Callable[[Asked], bool]) -> None:
        self.title = invariant.title
        self._invariant = invariant
        self._speaks = speaks
        self._keeps = keeps

    def speaks_of(self, situation: Situation, /) -> bool:
        return self._speaks.of_situation(situation)

    def outcome(self, asked: Sequence[Asked], /) -> Outcome:
        spoken = [each for each in asked if self._speaks(each)]
        broken = [each for each in spoken if not self._keeps(each)]
        return _outcome(self._invariant, spoken, broken, vacuous=not spoken)


class Only:
    """Of the cells that have the action, and are what else *cell* says: no role but its own is granted it."""

    def __init__(self, invariant: Invariant, catalog: Catalog) -> None:
        cell = invariant.cell
        self.title = invariant.title
        self._invariant = invariant
        self._scope = Condition(replace(cell, role=None))
        self._action = Condition(Cell(action=cell.action))
        self._roles = Condition(Cell(role=declared_roles(cell.role, catalog)))

    def speaks_of(self, situation: Situation, /) -> bool:
        """Strangers always: they have no plan and no status that could be stated."""
        scope = self._action if is_stranger(situation) else self._scope
        return scope.of_situation(situation)

    def outcome(self, asked: Sequence[Asked], /) -> Outcome:
        spoken = [each for each in asked if self.speaks_of(each.situation)]
        theirs = [each for each in spoken if self._roles(each)]
        broken = [each for each in spoken if each.granted and not self._roles(each)]
        if broken or any(each.granted for each in theirs):
            return _outcome(self._invariant, spoken, broken)
        found = _outcome(self._invariant, spoken, theirs, vacuous=not theirs)
        return replace(found, notes=("nobody is granted it, not even who should be",) if theirs else ())


def _outcome(
    invariant: Invariant, spoken: list[Asked], broken: list[Asked], *, vacuous: bool = False
) -> Outcome:
    return Outcome(
        title=invariant.title,
        form=invariant.form,
        found="broken" if broken else "vacuous" if vacuous else "holds",
        situations=len(spoken),
        broken=len(broken),
        line=invariant.line,
        counterexamples=(nearest_to_sold(broken),) if broken else (),
        notes=tuple(_if_meant(invariant.cell, broken)) if broken and invariant.form != "whenever" else (),
    )


def _if_meant(cell: Cell, broken: list[Asked]) -> list[str]:
    """What to state where only cells that are not as sold break the promise."""
    open_ = [
        (words, usual) for words, usual in _AS_SOLD.items() if getattr(cell, words.partition(":")[0]) is None
    ]
    return [
        f"if that is meant, say {words}" for words, usual in open_ if not any(map(Condition(usual), broken))
    ]
