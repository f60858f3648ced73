"""A policy engine that remembers: the verdict about each cell of the catalog is asked for once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Literal

from sidecar.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.model import Verdict
    from sidecar.ports import PolicyEngine


class MemoisedEngine:
    """Its memory is bounded by *cells*: what is not among them is asked each time and never kept.

    *hits*, *misses* and *outside* only grow: verdicts from memory, those that the engine was asked for, and
    how many of these were about no cell. A situation with context is never a cell, since context is open.
    *observe* hears of each `verdict` before it is answered; warming is none.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        *,
        cells: Iterable[bytes],
        observe: Callable[[Literal["hit", "miss"]], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._observe = observe
        self._verdicts: dict[bytes, Verdict | None] = {
            cell: None for cell in cells if "context" not in json.loads(cell)
        }
        # Without a lock: a count lost in a race is cheaper than a lock on every question.
        self.hits = 0
        self.misses = 0
        self.outside = 0

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def revision(self) -> str:
        return self._engine.revision

    def __len__(self) -> int:
        """How many cells it knows the verdict about."""
        return sum(verdict is not None for verdict in self._verdicts.values())

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        known = self._verdicts.get(situation)
        if known is not None:
            self.hits += 1
            self._observe("hit")
            return known

        self._observe("miss")
        return self._asked(situation, deadline=deadline)

    def _asked(self, situation: bytes, *, deadline: float) -> Verdict:
        self.misses += 1
        verdict = self._engine.verdict(situation, deadline=deadline)
        if situation not in self._verdicts:
            self.outside += 1
        elif verdict.revision == self.revision:
            self._verdicts[situation] = verdict
        return verdict

    def warm(self, *, deadline: float, threads: int = 2) -> None:
        """Learn every cell that is not known yet; the first error ends it, and a next call goes on there.

        More *threads* than the machine has idle cores are of no use.
        """
        unknown = [cell for cell, verdict in self._verdicts.items() if verdict is None]
        failed = Event()

        def learn(cell: bytes) -> None:
            if failed.is_set():
                return
            try:
                self._asked(cell, deadline=deadline)
            except DependencyError:
                failed.set()
                raise

        for cell in unknown[:1]:  # alone: an engine that is down is asked once, not by every thread
            learn(cell)
        with ThreadPoolExecutor(threads, thread_name_prefix="warm") as pool:
            for _ in pool.map(learn, unknown[1:]):
                pass  # the first error comes out here
