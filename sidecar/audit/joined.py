"""The names of two catalogs, put side by side: what was renamed is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.catalog import Catalog


class Renamed(Protocol):
    @property
    def renamed_from(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """One thing under its two names; None on the side that has no such thing."""

    old: str | None
    new: str | None

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.new or self.old or ""

    @property
    def on_both(self) -> bool:
        return self.old is not None and self.new is not None


class Joined:
    """The pairs of one kind, in the order of the new catalog, then those that only the old one has."""

    def __init__(self, old: Mapping[str, Renamed], new: Mapping[str, Renamed]) -> None:
        of_old: dict[str, str] = {name: name for name in old if name in new}
        for name, each in new.items():  # renamed since
            former = each.renamed_from
            if former is not None and former in old and former not in of_old and name not in old:
                of_old[former] = name
        for name, was in old.items():  # the new side is the older one: a step back
            former = was.renamed_from
            if name in of_old or former is None:
                continue
            if former in new and former not in of_old.values():
                of_old[name] = former
        of_new = {there: here for here, there in of_old.items()}
        self._of_old, self._of_new = of_old, of_new
        self.pairs = tuple(
            [Pair(of_new.get(name), name) for name in new]
            + [Pair(name, None) for name in old if name not in of_old]
        )

    def new_of(self, name: str) -> str:
        """The name in the new catalog of what the old one, or a database, calls *name*; else *name*."""
        return self._of_old.get(name, name)

    def old_of(self, name: str) -> str:
        return self._of_new.get(name, name)

    @property
    def both(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.on_both]


class JoinedNames:
    def __init__(self, old: Catalog, new: Catalog) -> None:
        self.roles = Joined(old.roles, new.roles)
        self.plans = Joined(old.plans, new.plans)
        self.features = Joined(old.features, new.features)
        self.meters = Joined(old.meters, new.meters)
        self.actions = Joined(
            *({name: each.actions[name] for name in each.declared_actions} for each in (old, new))
        )
