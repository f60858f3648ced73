"""All promises over all cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.audit.asked import asked_of, size_of
from sidecar.audit.built_in import RULES_CAN_DENY, built_in, rules_can_deny
from sidecar.audit.promises import promises_of
from sidecar.decisions.situation import situation_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sidecar.audit.asked import Asked, Engine
    from sidecar.audit.outcomes import Outcome, Promise
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Situation

DENIALS = "data.custom.denials"
_WITHIN_S = 10.0  # for one cell


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRules:
    """Codes of the company's rules: *places* where each stands, *by_context* those that look at context."""

    places: Mapping[str, str] = field(default_factory=dict)
    by_context: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """*cells* is how many there are, *asked* how many of them the promises needed."""

    outcomes: tuple[Outcome, ...]
    cells: int
    asked: int

    @property
    def holds(self) -> bool:
        return all(each.found == "holds" for each in self.outcomes)


def titles_of(catalog: Catalog) -> list[str]:
    return [*(each.title for each in _all(catalog)), RULES_CAN_DENY]


def proven(
    catalog: Catalog, engine: Engine, *, rules: OwnRules, only: Collection[str] | None = None
) -> Proof:
    """Built-in promises first; *only* are titles, None is all.

    Each cell that one of them speaks of is asked once. ConfigError if there are too many cells to ask.
    """
    cells = size_of(catalog)
    promises = [each for each in _all(catalog) if only is None or each.title in only]
    of_rules = only is None or RULES_CAN_DENY in only
    asked = asked_of(engine, catalog, which=_anything if of_rules else _spoken_of(promises))
    outcomes = [each.outcome(asked) for each in promises]
    if of_rules:
        wanted = rules.places.keys() - rules.by_context
        outcome = rules_can_deny(
            rules.places, _denying(engine, asked, wanted), unknown=rules.by_context, situations=len(asked)
        )
        outcomes.insert(sum(each.builtin for each in outcomes), outcome)
    return Proof(outcomes=tuple(outcomes), cells=cells, asked=len(asked))


def _all(catalog: Catalog) -> list[Promise]:
    return [*built_in(catalog), *promises_of(catalog)]


def _anything(_: Situation) -> bool:
    return True


def _spoken_of(promises: Sequence[Promise]) -> Callable[[Situation], bool]:
    return lambda situation: any(each.speaks_of(situation) for each in promises)


def _denying(engine: Engine, asked: Sequence[Asked], wanted: Collection[str]) -> set[str]:
    """Those of *wanted* that deny in some cell; of several in one cell, a verdict names only the first."""
    told = {each.verdict.detail for each in asked if each.verdict is not None}
    found = {code for code in wanted if code in told}
    for each in asked:
        if len(found) == len(wanted):
            break
        given = situation_bytes(each.situation)
        denials = engine.document(DENIALS, given, deadline=monotonic() + _WITHIN_S)
        if isinstance(denials, list):
            found |= {code for code in denials if code in wanted}
    return found
