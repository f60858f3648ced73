"""What a proof finds of one promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sidecar.audit.asked import Asked
    from sidecar.decisions.model import Situation

Found = Literal["holds", "broken", "vacuous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """*situations* are the cells that the promise speaks of, *broken* those that break it.

    *counterexamples* is the smallest one: one cell, or the two that do not go together. It is empty where no
    cell shows the breach; *notes* then say what it is. *line* is None for what is built in.
    """

    title: str
    form: str
    found: Found
    situations: int
    broken: int = 0
    line: int | None = None
    builtin: bool = False
    counterexamples: tuple[Asked, ...] = ()
    notes: tuple[str, ...] = ()


class Promise(Protocol):
    @property
    def title(self) -> str: ...

    def speaks_of(self, situation: Situation, /) -> bool:
        """Whether the outcome may depend on this cell."""

    def outcome(self, asked: Sequence[Asked], /) -> Outcome:
        """*asked* are at least the cells that it speaks of, in the catalog's order."""


def nearest_to_sold(cells: Iterable[Asked]) -> Asked:
    return min(cells, key=lambda each: (each.steps, each.number))
