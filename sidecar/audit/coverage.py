"""Which cells a company's own decision cases assert: of what is sold, and of all there are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sidecar.audit.forms import text_table
from sidecar.audit.questions import QuestionCell, question_cells
from sidecar.decisions.cells import cells
from sidecar.decisions.room import Rooms, amounts_of
from sidecar.decisions.situation import situation_bytes, situation_of
from sidecar.errors import BadQuestion
from sidecar.rego.heads import Denials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.audit.cases import Case
    from sidecar.decisions.model import Situation
    from sidecar.rego.compile import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    asserted: int
    of: int

    @property
    def percent(self) -> float:
        """Of nothing, all is asserted."""
        return 100 * self.asserted / self.of if self.of else 100.0

    @property
    def document(self) -> dict[str, int]:
        return {"asserted": self.asserted, "of": self.of}


class Coverage:
    """A case asserts the cell that its question becomes; with context it asserts no cell."""

    def __init__(self, cases: Iterable[Case], compiled: Compiled) -> None:
        self._compiled = compiled
        self._cases = tuple(cases)
        self._asserted: set[bytes] = set()
        self._as_sold: dict[QuestionCell, list[str]] = {}
        rooms = Rooms(compiled.catalog)
        for case in self._cases:
            situation = _situation_of(case, compiled, rooms)
            if situation is None:
                continue
            self._asserted.add(situation_bytes(situation))
            if cell := _sold_cell_of(situation):
                self._as_sold.setdefault(cell, []).append(f"{case.source}:{case.line}")

    @cached_property
    def by_cell(self) -> Mapping[QuestionCell, tuple[str, ...]]:
        """For each cell as sold FILE:LINE of the cases that assert it, in the order of the catalog."""
        return {
            cell: tuple(self._as_sold.get(cell, ()))
            for cell in question_cells(self._compiled.catalog)
            if cell.as_sold
        }

    @property
    def missing(self) -> list[QuestionCell]:
        return [cell for cell, cases in self.by_cell.items() if not cases]

    @property
    def as_sold(self) -> Share:
        return Share(asserted=len(self.by_cell) - len(self.missing), of=len(self.by_cell))

    @property
    def all(self) -> Share:
        asserted = of = 0
        for situation in cells(self._compiled.catalog):
            of += 1
            asserted += situation_bytes(situation) in self._asserted
        return Share(asserted=asserted, of=of)

    @property
    def custom(self) -> Share:
        """Of the codes that the company's rules deny with, those that a case wants as `detail`."""
        codes = set(Denials(self._compiled.modules).codes)
        wanted = {case.want.get("detail") for case in self._cases}
        return Share(asserted=len(codes & wanted), of=len(codes))

    @property
    def by_none(self) -> list[str]:
        """The actions of which no cell as sold is asserted."""
        asserted = {cell.action for cell, cases in self.by_cell.items() if cases}
        return [name for name in self._compiled.catalog.declared_actions if name not in asserted]

    @property
    def document(self) -> dict[str, object]:
        shares = {"as_sold": self.as_sold, "all": self.all, "custom": self.custom}
        return {
            "coverage": {name: share.document for name, share in shares.items()},
            "missing": [
                {"action": cell.action, "role": cell.role, "plan": cell.plan} for cell in self.missing
            ],
        }


def coverage_lines(coverage: Coverage, *, list_missing: bool) -> list[str]:
    """*list_missing*: also each cell as sold that no case asserts, as `action  role  plan`."""
    sold, every, custom = coverage.as_sold, coverage.all, coverage.custom
    of_company = f"rules of the company {custom.asserted} of {custom.of}"
    lines = [f"as sold {_in_words(sold)} · all situations {_in_words(every)} · {of_company}"]
    if by_none := coverage.by_none:
        hint = "" if list_missing else " (--missing lists cells)"
        lines.append(f"asserted by none: {', '.join(by_none)}{hint}")
    if list_missing:
        lines += text_table([(cell.action, cell.role, cell.plan) for cell in coverage.missing])
    return lines


def _in_words(share: Share) -> str:
    return f"{share.asserted:,} of {share.of:,} ({share.percent:.0f} %)"


def _situation_of(case: Case, compiled: Compiled, rooms: Rooms) -> Situation | None:
    """As the authorizer makes it; None for a question that it refuses."""
    catalog = compiled.catalog
    try:
        amounts = amounts_of(case.question, catalog=catalog)
    except BadQuestion:
        return None
    facts = case.facts
    return situation_of(
        case.question,
        facts,
        catalog=catalog,
        room=rooms.room_for(amounts, facts) if facts is not None and amounts else None,
        context_fields=compiled.context_fields,
    )


def _sold_cell_of(situation: Situation) -> QuestionCell | None:
    """Active, no override, and room in the present plan, wherever else it fits."""
    action, role, plan, room = situation.action, situation.role, situation.plan, situation.room
    if action is None or role is None or plan is None or situation.status != "active":
        return None
    if situation.feature_overrides or situation.context or (room is not None and plan not in room.fits_in):
        return None
    return QuestionCell(action=action, role=role, plan=plan)
