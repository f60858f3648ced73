"""A bar: which figure of a contender, compared with whose, must be at least or at most how much."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FIGURES = {
    "per_second": ("", ""),  # what stands before and after it in the table
    "p50_ms": ("p50 ", " ms"),
    "p99_ms": ("p99 ", " ms"),
    "p95_ms": ("p95 ", " ms"),
    "cpu_us": ("CPU ", " µs"),
    "database_cpu_us": ("CPU of PostgreSQL ", " µs"),
    "decisions": ("", " decisions/s"),
    "mib": ("", " MiB"),
    "ready_s": ("", " s"),
    "cpu_s": ("CPU ", " s"),
    "database_s": ("CPU of PostgreSQL ", " s"),
    "both_s": ("CPU with PostgreSQL's ", " s"),
    "lines": ("", " lines a CPU second"),
}


_LARGE = 1_000  # then no decimals


class Mark(Enum):
    MISSED = "**MISSED**"
    UNKNOWN = "no reference"
    MET = "met"
    GOAL = "goal met"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """*at_least* or *at_most*: a ratio to the same figure *of* another contender, else the figure itself."""

    figure: str = "per_second"
    of: str = ""
    at_least: float | None = None
    at_most: float | None = None
    goal: float | None = None  # of the same direction

    @property
    def bound(self) -> float:
        bound = self.at_least if self.at_most is None else self.at_most
        if bound is None:
            raise ValueError("a bar is at least or at most something")
        return bound

    def mark(self, value: float | None) -> Mark:
        """*value* is the ratio, or the figure itself; None: there is nothing to compare with."""
        if value is None:
            return Mark.UNKNOWN
        if not self._holds(value, self.bound):
            return Mark.MISSED
        return Mark.GOAL if self.goal is not None and self._holds(value, self.goal) else Mark.MET

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_most is None else value <= bound

    def says(self, bound: float | None) -> str:
        """*bound* as the table has it, or nothing."""
        if bound is None:
            return ""
        before, after = FIGURES[self.figure]
        return f"{before}{'≥' if self.at_most is None else '≤'} {self.text(bound, after)}"

    def found(self, value: float) -> str:
        before, after = FIGURES[self.figure]
        return f"{before}{self.text(value, after)}"

    def text(self, value: float, unit: str) -> str:
        if self.of:
            return f"{value:.2f}x {self.of}"
        return f"{value:,.{0 if value >= _LARGE else 1}f}".removesuffix(".0") + unit
