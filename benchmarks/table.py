"""The results as Markdown: a line for each contender, its bars and marks; what missed; how noisy it was."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bars import Bar, Mark
from benchmarks.measure import NEAR_ITS_LIMIT

if TYPE_CHECKING:
    from benchmarks.measure import Measured
    from benchmarks.rows import Contender, Row

_HEAD = (
    (
        "| what | connections | who | req/s | ratio | p50 ms | p99 ms | p99 ratio | CPU µs | PostgreSQL µs"
        " | not 2xx | broken | at least | goal | mark |"
    ),
    "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|---|",
)
_HEAD_OF_STARTS = ("| what | measured | at least | mark |", "|---|---:|---|---|")


@dataclass(slots=True)
class Results:
    rows: list[tuple[Row, dict[str, Measured]]] = field(default_factory=list)
    starts: list[tuple[str, float, Bar]] = field(default_factory=list)

    def lines(self) -> list[str]:
        lines: list[str] = []
        if self.rows:
            lines += _HEAD
            for row, found in self.rows:
                lines += [_line(row, each, found) for each in row.contenders if each.name in found]
        if self.starts:
            lines += ["", *_HEAD_OF_STARTS]
            for what, value, bar in self.starts:
                lines.append(
                    f"| {what} | {bar.found(value)} | {bar.says(bar.bound)} | {bar.mark(value).value} |"
                )
        return lines

    def missed(self) -> list[str]:
        """A line for each bar that was missed, or not measured."""
        lines = []
        for row, found in self.rows:
            for contender in row.contenders:
                for bar in contender.bars if contender.name in found else ():
                    value = _value(bar, contender.name, row, found)
                    who = f"{row.what}, {row.connections} connections, {contender.name}"
                    if value is None:
                        lines.append(f"- {who}: not compared with `{bar.of}`, wanted {bar.says(bar.bound)}")
                    elif bar.mark(value) is Mark.MISSED:
                        lines.append(f"- {who}: {bar.found(value)}, wanted {bar.says(bar.bound)}")
        for what, value, bar in self.starts:
            if bar.mark(value) is Mark.MISSED:
                lines.append(f"- {what}: {bar.found(value)}, wanted {bar.says(bar.bound)}")
        return lines

    def noise(self) -> list[str]:
        spreads = [each.spread for _, found in self.rows for each in found.values()]
        if not spreads:
            return []
        usual, most = statistics.median(spreads), max(spreads)
        lines = [
            f"Noise: a rate differed by {usual:.0%} between rounds (the median of all), at most {most:.0%}."
        ]
        full = [
            f"{row.what} at {row.connections}, {name}"
            for row, found in self.rows
            for name, each in found.items()
            if each.load_cpu > NEAR_ITS_LIMIT
        ]
        if full:
            lines.append(f"Whoever asked was near its own limit, so these may be faster: {'; '.join(full)}.")
        return lines


def _line(row: Row, contender: Contender, found: dict[str, Measured]) -> str:
    mine = found[contender.name]
    compared = found.get(row.compared) if row.compared != contender.name else None
    marks = []
    for bar in contender.bars:
        value = _value(bar, contender.name, row, found)
        mark = bar.mark(value)
        if value is None:
            marks.append(f"{mark.value}: {bar.of}")
        else:
            marks.append(f"{mark.value} ({bar.found(value)})")
    cells = [
        row.what,
        row.connections,
        contender.name,
        f"{mine.per_second:,.0f}",
        f"{mine.per_second / compared.per_second:.2f}x {row.compared}" if compared else "",
        f"{mine.p50_ms:.2f}",
        f"{mine.p99_ms:.2f}",
        f"{mine.p99_ms / compared.p99_ms:.2f}x" if compared else "",
        f"{mine.cpu_us:,.0f}",
        f"{mine.database_cpu_us:,.0f}",
        mine.not_2xx,
        mine.broken,
        "; ".join(bar.says(bar.bound) for bar in contender.bars),
        "; ".join(bar.says(bar.goal) for bar in contender.bars if bar.goal is not None),
        "; ".join(marks),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _value(bar: Bar, name: str, row: Row, found: dict[str, Measured]) -> float | None:
    def figure(measured: Measured) -> float:
        if bar.figure == "decisions":
            return measured.per_second * row.decisions
        value: float = getattr(measured, bar.figure)
        return value

    if not bar.of:
        return figure(found[name])
    other = found.get(bar.of)
    return figure(found[name]) / figure(other) if other and figure(other) else None


def machine() -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, {system}"


def today() -> str:
    return datetime.now(UTC).date().isoformat()
