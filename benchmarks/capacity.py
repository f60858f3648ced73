"""What a fleet needs, computed from RESULTS.md and SIZES.md; docs/operations/capacity.md has the tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/operations/capacity.md"
RESULTS, SIZES = HERE / "RESULTS.md", HERE / "SIZES.md"
BUSY = 0.5  # of a core: what is left is for peaks, and for servers that are away
THREADS, FOR_CHANGES = 4, 6  # connections of a worker (docs/configuration.md#sidecar_threads)
RATES = (10_000, 1_000_000)
CORES = (4, 16, 64)
CONSUMES_PER_S = 1_000
DAY_S, MONTH_DAYS = 86_400, 30
GB, TB = 1e9, 1e12

# Name on the page, what and how many connections in RESULTS.md, questions in one request.
LOADS = (
    ("checks, 16 at once", "`/v1/authorize`, check", 16, 1),
    ("checks, 256 at once", "`/v1/authorize`, check", 256, 1),
    ("checks through nginx, 16 at once", "`/gw/nginx`", 16, 1),
    ("checks in batches of 1,000", "batch of 1,000", 4, 1_000),
    ("consumes of one hot counter, 64 at once", "consume with a key, one hot counter", 64, 1),
    ("consumes of 1,000 counters, 64 at once", "consume with a key, 1,000 counters", 64, 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU time of one question, in microseconds: that of the sidecar, and that of PostgreSQL."""

    load: str
    sidecar_us: float
    database_us: float

    def sidecar_cores(self, per_s: float) -> float:
        return self.sidecar_us * per_s / 1e6

    def database_cores(self, per_s: float) -> float:
        return self.database_us * per_s / 1e6


def costs(results: str) -> list[Cost]:
    """ValueError if *results*, the text of RESULTS.md, lacks one of LOADS."""
    found, head = {}, list[str]()
    for line in results.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells[:3] == ["what", "connections", "who"]:
            head = cells
        row = dict(zip(head, cells, strict=False))
        if row.get("who") == "ours":
            found[row["what"], row["connections"]] = _number(row["CPU µs"]), _number(row["PostgreSQL µs"])
    if lacking := [load for load, what, at, _ in LOADS if (what, str(at)) not in found]:
        raise ValueError(f"RESULTS.md has no row for {', '.join(lacking)}")
    return [
        Cost(
            load=load,
            sidecar_us=found[what, str(at)][0] / questions,
            database_us=found[what, str(at)][1] / questions,
        )
        for load, what, at, questions in LOADS
    ]


def line_bytes(results: str) -> int:
    """Of a line of the decision log."""
    [size] = re.findall(r"log: a line of (\d+) bytes", results)
    return int(size)


def consume_bytes(sizes: str) -> dict[str, int]:
    """By table, of the text of SIZES.md."""
    return {name: int(size) for name, size in re.findall(r"^\| `(\w+)` \| (\d+) \|$", sizes, re.MULTILINE)}


def cpu(found: list[Cost]) -> list[str]:
    """Cores for each thousand questions a second, when they do nothing else."""
    return [
        "| 1,000 a second of | sidecar, cores | PostgreSQL, cores |",
        "|---|---:|---:|",
        *(
            f"| {each.load} | {each.sidecar_cores(1_000):.2f} | {each.database_cores(1_000):.2f} |"
            for each in found
        ),
    ]


def fleets(found: list[Cost], *, line: int) -> list[str]:
    """Cores with half of each left, workers with a core each, and their connections."""
    lines = [
        "| a second | of | workers | connections | PostgreSQL, cores | decision log a day |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for rate in RATES:
        for each in found:
            workers = ceil(each.sidecar_cores(rate) / BUSY)
            lines.append(
                f"| {rate:,} | {each.load} | {workers:,} | {workers * (THREADS + FOR_CHANGES):,} |"
                f" {ceil(each.database_cores(rate) / BUSY):,} | {_size(line * rate * DAY_S)} |"
            )
    return lines


def primaries(found: list[Cost]) -> list[str]:
    """What one primary carries with half of its cores left, by its cores."""
    return [
        f"| one primary with … cores | {' | '.join(map(str, CORES))} |",
        f"|---|{'---:|' * len(CORES)}",
        *(
            f"| {each.load}, a second |"
            + "".join(f" {_rounded(cores * BUSY * 1e6 / each.database_us):,} |" for cores in CORES)
            for each in found
        ),
    ]


def wall(sizes: dict[str, int]) -> list[str]:
    """What a steady rate of keyed consumes leaves."""
    lines = [
        f"| table | bytes a consume | a million | a day of {CONSUMES_PER_S:,} a second | {MONTH_DAYS} days |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, size in [*((f"`{name}`", size) for name, size in sizes.items()), ("both", sum(sizes.values()))]:
        day = size * CONSUMES_PER_S * DAY_S
        lines.append(f"| {name} | {size} | {_size(size * 1e6)} | {_size(day)} | {_size(day * MONTH_DAYS)} |")
    return lines


def written(page: str, *, results: str, sizes: str) -> str:
    """*page* with each table between its marks made anew."""
    found = costs(results)
    tables = {
        "cpu": cpu(found),
        "fleets": fleets(found, line=line_bytes(results)),
        "primaries": primaries(found),
        "wall": wall(consume_bytes(sizes)),
    }
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, is_there, rest = page.partition(begin)
        _, is_closed, after = rest.partition(end)
        if not is_there or not is_closed:
            raise ValueError(f"the page has no marks for the table {name}")
        table = "\n".join(["", *lines, "", ""])
        page = f"{before}{begin}{table}{end}{after}"
    return page


def write() -> None:
    """The page, by what was measured last."""
    PAGE.write_text(written(PAGE.read_text(), results=RESULTS.read_text(), sizes=SIZES.read_text()))


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _size(size: float) -> str:
    return f"{size / TB:,.1f} TB" if size >= TB else f"{size / GB:,.1f} GB"


def _rounded(value: float) -> int:
    """To two digits that count: the third is noise."""
    digits = len(str(int(value))) - 2
    return int(round(value, -digits))


if __name__ == "__main__":
    write()
