"""What is sold, and which cases assert it: asked once of the policies that this worker decides by."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from sidecar.audit.answers import Answers
from sidecar.audit.cases import cases_in
from sidecar.audit.coverage import Coverage
from sidecar.audit.matrix import matrix_of
from sidecar.catalog.places import Places
from sidecar.reports.deniers import Deniers
from sidecar.reports.ruling import Ruling

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.audit.cases import Case
    from sidecar.audit.matrix import Row
    from sidecar.console.engines import Engines
    from sidecar.rego.compile import Compiled

_CASES = "tests/decisions"


class Sold:
    """*plans* is where the catalog is: cases are those of the folder tests/decisions beside it."""

    def __init__(self, compiled: Compiled, engines: Engines, *, plans: Path, text: bytes) -> None:
        self._compiled = compiled
        self._engines = engines
        self._folder = plans.parent / _CASES
        self._text = text
        self._lock = Lock()
        self._found: tuple[list[Row], Coverage | None] | None = None

    @property
    def rows(self) -> list[Row]:
        """As `audit matrix`; EngineUnavailable while it cannot be asked."""
        return self._once()[0]

    @property
    def coverage(self) -> Coverage | None:
        """None where there are no cases to read."""
        return self._once()[1]

    def _once(self) -> tuple[list[Row], Coverage | None]:
        with self._lock:
            if self._found is None:
                self._found = self._asked()
            return self._found

    def _asked(self) -> tuple[list[Row], Coverage | None]:
        compiled = self._compiled
        cases = self._cases()
        coverage = Coverage(cases, compiled) if cases else None
        rows = matrix_of(
            compiled,
            Answers(self._engines.of(compiled)),
            rule_of=Deniers(Ruling(compiled=compiled, catalog=None, text=self._text)).of,
            plans_line_of=Places(self._text).action,
            cases=coverage.by_cell if coverage else {},
            context={},
        )
        return rows, coverage

    def _cases(self) -> list[Case]:
        """Those that can be read: what is wrong with the others is `sidecar test`'s to say."""
        found: list[Case] = []
        try:
            for file in sorted(self._folder.rglob("*.yaml")):
                source = file.relative_to(self._folder.parent.parent).as_posix()
                found += cases_in(file.read_bytes(), source=source, catalog=self._compiled.catalog).cases
        except OSError:
            return []
        return found
