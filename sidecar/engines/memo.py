"""A policy engine with a cache: the verdict about each cell of the catalog is asked for once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.decisions.model import Verdict
    from sidecar.decisions.ports import PolicyEngine


class MemoisedEngine:
    """The cache is bounded by *cells*: other situations are asked each time and never cached.

    *known* are verdicts learnt elsewhere, as `know` takes them. *hits*, *misses* and *outside* only grow:
    verdicts from the cache, those that the engine was asked for, and how many of these were not about a cell.
    A situation with context is never a cell, because context is open. *observe* gets each `verdict` before
    it is returned.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        *,
        cells: Iterable[bytes],
        known: Iterable[tuple[bytes, Verdict]] = (),
        observe: Callable[[Literal["hit", "miss"]], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._observe = observe
        self._verdicts: dict[bytes, Verdict | None] = {
            cell: None for cell in cells if b'"context"' not in cell or "context" not in json.loads(cell)
        }
        # Without a lock: a count lost in a race is cheaper than a lock on every question.
        self.hits = 0
        self.misses = 0
        self.outside = 0
        self.know(known)

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def revision(self) -> str:
        return self._engine.revision

    @property
    def unknown(self) -> list[bytes]:
        """The cells without a verdict so far."""
        return [cell for cell, verdict in self._verdicts.items() if verdict is None]

    @property
    def known(self) -> dict[bytes, Verdict]:
        return {cell: verdict for cell, verdict in self._verdicts.items() if verdict is not None}

    def __len__(self) -> int:
        """How many cells have a cached verdict."""
        return sum(verdict is not None for verdict in self._verdicts.values())

    def know(self, verdicts: Iterable[tuple[bytes, Verdict]]) -> None:
        """Cache each verdict; one that is not about a cell, or of another revision, is skipped.

        What *verdicts* raises is raised here, after those before it were cached: so
        ``memo.know(engine.verdicts(memo.unknown, deadline=…))`` continues where the last call ended.
        """
        for situation, verdict in verdicts:
            if situation in self._verdicts and verdict.revision == self.revision:
                self._verdicts[situation] = verdict

    def recall(self, situation: bytes, /) -> Verdict | None:
        """The cached verdict about *situation*, which is a hit; None is not counted."""
        known = self._verdicts.get(situation)
        if known is not None:
            self.hits += 1
            self._observe("hit")
        return known

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        known = self.recall(situation)
        if known is not None:
            return known

        self._observe("miss")
        self.misses += 1
        verdict = self._engine.verdict(situation, deadline=deadline)
        if situation not in self._verdicts:
            self.outside += 1
        else:
            self.know([(situation, verdict)])
        return verdict
