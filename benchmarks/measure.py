"""Interleaved rounds: each contender of a row in turn, again and again; and the medians of all rounds."""

from __future__ import annotations

import resource
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import cpu_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.load import Figures

WARM_S = 1
NEAR_ITS_LIMIT = 0.85  # of one processor, by a load of one thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """*load* asks it for so many seconds. Its CPU time: of *roots* and all below, or of its clients."""

    name: str
    load: Callable[[int], Figures]
    roots: tuple[int, ...] = ()
    is_its_clients: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    figures: Figures
    cpu_us: float  # of its processes, for each answer
    database_cpu_us: float
    load_cpu: float  # of one processor, by whoever asked


class Measured:
    """Medians over the rounds; `not_2xx` and `broken` are sums. A rate counts only what is 2xx."""

    def __init__(self, rounds: list[Round]) -> None:
        def median(values: Iterable[float]) -> float:
            return float(statistics.median(values))

        rates = [each.figures.per_second for each in rounds]
        self.per_second = median(rates)
        self.spread = (max(rates) - min(rates)) / self.per_second if self.per_second else 0.0
        self.p50_ms = median(each.figures.p50_ms for each in rounds)
        self.p99_ms = median(each.figures.p99_ms for each in rounds)
        self.cpu_us = median(each.cpu_us for each in rounds)
        self.database_cpu_us = median(each.database_cpu_us for each in rounds)
        self.load_cpu = median(each.load_cpu for each in rounds)
        self.not_2xx = sum(each.figures.not_2xx for each in rounds)
        self.broken = sum(each.figures.broken for each in rounds)


def measured(entrants: list[Entrant], *, database: int, rounds: int, seconds: int) -> dict[str, Measured]:
    """By the name of each entrant; *database* is PostgreSQL's process, which works for them."""
    for entrant in entrants:
        entrant.load(WARM_S)
    found: dict[str, list[Round]] = {entrant.name: [] for entrant in entrants}
    for _ in range(rounds):
        for entrant in entrants:
            found[entrant.name].append(_round(entrant, database=database, seconds=seconds))
    return {name: Measured(each) for name, each in found.items()}


def _round(entrant: Entrant, *, database: int, seconds: int) -> Round:
    own, theirs, asking = cpu_s(entrant.roots), cpu_s([database]), _our_cpu_s()
    figures = entrant.load(seconds)
    own, theirs, asking = cpu_s(entrant.roots) - own, cpu_s([database]) - theirs, _our_cpu_s() - asking
    each = 1e6 / max(1, figures.answers)
    print(f"  {entrant.name:10} {figures.per_second:9,.0f}/s", file=sys.stderr, flush=True)
    return Round(
        figures=figures,
        cpu_us=(asking if entrant.is_its_clients else own) * each,
        database_cpu_us=theirs * each,
        load_cpu=0.0 if entrant.is_its_clients else asking / figures.seconds,
    )


def _our_cpu_s() -> float:
    """Of this process and of the children that have ended: wrk, the upsert's clients."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
