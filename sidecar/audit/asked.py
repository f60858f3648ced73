"""Every cell of a catalog with its verdict: what promises are about."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from sidecar.audit.answers import ManyAnswered
from sidecar.audit.denials import steps_of
from sidecar.decisions.cells import cell_counts, cells
from sidecar.decisions.ports import PolicyEngine, RuleEngine
from sidecar.decisions.situation import situation_bytes
from sidecar.errors import ConfigError, EngineMisbehaved, RevisionMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Situation, Verdict

MOST_CELLS = 500_000
_AT_ONCE = 500  # cells
_WITHIN_S = 60.0  # for those


class Engine(ManyAnswered, PolicyEngine, RuleEngine, Protocol):
    """An engine that is asked everything."""


@dataclass(frozen=True, slots=True)
class Asked:
    """*number* is the place in the catalog's order; *verdict* is None where the policy has none."""

    number: int
    situation: Situation
    verdict: Verdict | None

    @property
    def granted(self) -> bool:
        return self.verdict is not None and self.verdict.allow

    @property
    def steps(self) -> int:
        return steps_of(self.situation)


def is_stranger(situation: Situation) -> bool:
    return situation.status is None


def has_room(situation: Situation) -> bool:
    """Also where nothing is taken."""
    return situation.room is None or situation.plan in situation.room.fits_in


def size_of(catalog: Catalog) -> int:
    """How many cells there are; ConfigError if they are too many to ask all of them."""
    counts = cell_counts(catalog, enough=MOST_CELLS + 1)
    size = sum(counts.values())
    if size > MOST_CELLS:
        most = max(counts, key=lambda action: counts[action])
        raise ConfigError(
            f"there are more than {MOST_CELLS:,} situations, and a proof asks all of them; action"
            f' "{most}" has the most: let it take fewer meters, or let more plans have the same limits'
        )
    return size


def asked_of(
    engine: Engine, catalog: Catalog, *, which: Callable[[Situation], bool] = lambda _: True
) -> list[Asked]:
    """Each cell that is one of *which*, asked once, in the catalog's order.

    EngineUnavailable if the engine does not answer; what it answers instead of a verdict is no verdict.
    """
    found: list[Asked] = []
    known: dict[Hashable, Verdict] = {}
    numbered = ((number, cell) for number, cell in enumerate(cells(catalog)) if which(cell))
    while batch := list(islice(numbered, _AT_ONCE)):
        verdicts = _verdicts(engine, [situation_bytes(cell) for _, cell in batch])
        for (number, cell), verdict in zip(batch, verdicts, strict=True):
            # There are few verdicts, and many cells: each is kept once.
            kept = None if verdict is None else known.setdefault(_key(verdict), verdict)
            found.append(Asked(number, cell, kept))
    return found


def _verdicts(engine: Engine, situations: list[bytes]) -> list[Verdict | None]:
    try:
        deadline = monotonic() + _WITHIN_S
        return [verdict for _, verdict in engine.verdicts(situations, deadline=deadline)]
    except (EngineMisbehaved, RevisionMismatch):  # which of them, is found one by one
        return [_verdict(engine, situation) for situation in situations]


def _verdict(engine: Engine, situation: bytes) -> Verdict | None:
    try:
        return engine.verdict(situation, deadline=monotonic() + _WITHIN_S)
    except (EngineMisbehaved, RevisionMismatch):
        return None


def _key(verdict: Verdict) -> Hashable:
    return (
        verdict.reason,
        verdict.status,
        verdict.upgrade,
        verdict.waiting_helps,
        verdict.needs_roles,
        verdict.needs_feature,
        verdict.detail,
        tuple(verdict.charges.items()),
    )
