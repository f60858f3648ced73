"""Whether a cell and its verdict are what an invariant speaks of."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from sidecar.audit.asked import has_room, is_stranger
from sidecar.catalog.catalog import Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sidecar.audit.asked import Asked
    from sidecar.catalog.catalog import Catalog, Cell
    from sidecar.decisions.model import Situation, Verdict


def role_of(situation: Situation) -> str:
    return situation.role or _nobodys(situation)


def plan_of(situation: Situation) -> str:
    return situation.plan or _nobodys(situation)


def override_of(situation: Situation) -> str:
    """Of the feature that the action needs: a situation has no other."""
    given = list(situation.feature_overrides.values())
    return "none" if not given else "on" if given[0] else "off"


def room_of(situation: Situation) -> str:
    return "yes" if has_room(situation) else "no"


_OF_SITUATION: Mapping[str, Callable[[Situation], str | None]] = {
    "action": lambda situation: situation.action,
    "role": role_of,
    "plan": plan_of,
    "status": lambda situation: situation.status,
    "override": override_of,
    "room": room_of,
}
_OF_VERDICT: Mapping[str, Callable[[Verdict], str | None]] = {
    "allow": lambda verdict: "yes" if verdict.allow else "no",
    "http_status": lambda verdict: str(verdict.status),
    "reason": lambda verdict: verdict.reason,
    "needs": lambda verdict: (
        "roles" if verdict.needs_roles else "none" if verdict.needs_feature is None else "feature"
    ),
    "detail": lambda verdict: verdict.detail,
}


class Condition:
    """What *cell* says. A cell without a verdict fits nothing that is said of verdicts."""

    def __init__(self, cell: Cell) -> None:
        stated = {each.name: getattr(cell, each.name) for each in fields(cell)}
        self._situation: list[Callable[[Situation], bool]] = []
        self._verdict: list[Callable[[Verdict], bool]] = []
        for name, choice in stated.items():
            if choice is None:
                continue
            if name in _OF_SITUATION:
                self._situation.append(_one_of(_OF_SITUATION[name], choice))
            elif name == "upgrade":
                self._verdict.append(_upgrades(choice))
            else:
                self._verdict.append(_one_of(_OF_VERDICT[name], choice))

    def of_situation(self, situation: Situation) -> bool:
        """What it says of situations alone."""
        return all(fits(situation) for fits in self._situation)

    def __call__(self, asked: Asked) -> bool:
        if not self.of_situation(asked.situation):
            return False
        verdict = asked.verdict
        return not self._verdict or (verdict is not None and all(fits(verdict) for fits in self._verdict))


def as_sold_unless_stated(cell: Cell, catalog: Catalog) -> Cell:
    """What `always` means: what is not stated is declared, active, without override and has room."""
    return replace(
        cell,
        action=_among(cell.action, catalog.declared_actions),
        role=_among(cell.role, catalog.roles),
        plan=_among(cell.plan, catalog.plans),
        status=cell.status or Choice(values=("active",)),
        override=cell.override or Choice(values=("none",)),
        room=cell.room or Choice(values=("yes",)),
    )


def declared_roles(choice: Choice | None, catalog: Catalog) -> Choice:
    """Those of *choice*; "not" leaves declared ones, so that it never lets a stranger in."""
    return _among(choice, catalog.roles)


def _among(choice: Choice | None, declared: Iterable[str]) -> Choice:
    if choice is None:
        return Choice(values=tuple(declared))
    if not choice.others:
        return choice
    return Choice(values=tuple(name for name in declared if name not in choice.values))


def _one_of(label: Callable[..., str | None], choice: Choice) -> Callable[..., bool]:
    values = frozenset(choice.values)
    return lambda subject: (label(subject) in values) != choice.others


def _upgrades(choice: Choice) -> Callable[[Verdict], bool]:
    """All that is named: `none` and `some` too, so that none beside a plan fits nothing."""

    def has(verdict: Verdict, name: str) -> bool:
        match name:
            case "none":
                return not verdict.upgrade
            case "some":
                return bool(verdict.upgrade)
            case _:
                return name in verdict.upgrade

    return lambda verdict: all(has(verdict, name) for name in choice.values) != choice.others


def _nobodys(situation: Situation) -> str:
    return "stranger" if is_stranger(situation) else "undeclared"
