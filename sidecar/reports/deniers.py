"""Where it stands that a cell is denied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.catalog.places import Places
from sidecar.rego.heads import Denials

if TYPE_CHECKING:
    from sidecar.audit.questions import QuestionCell
    from sidecar.decisions.model import Verdict
    from sidecar.reports.ruling import Ruling


class Deniers:
    """FILE:LINE of the rule that denies; of the action, where no head tells which it is."""

    def __init__(self, ruling: Ruling) -> None:
        self._denials = Denials(ruling.compiled.modules)
        self._folder = ruling.policies_folder
        self._places = Places(ruling.text)
        self._plans = ruling.plans_file

    def of(self, cell: QuestionCell, verdict: Verdict) -> str | None:
        place = self._denials.of(verdict.reason, verdict.detail)
        if place:
            return f"{self._folder}{place}"
        line = self._places.action(cell.action)
        return f"{self._plans}:{line}" if line else None
