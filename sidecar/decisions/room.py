"""The arithmetic of a check: what an action takes, where there is no room, and what would make some.

The plan's figures are those of the catalog and never of the verdict, so that this is a pure function of
question, facts and catalog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sidecar.decisions.model import Exceeded, Quota
from sidecar.errors import BadQuestion, FieldFault
from sidecar.text.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts, Question, Usage


NO_LIMIT_STATED = -1  # of a plan that is not declared: a missing limit denies, every amount is above it


class Counted(Protocol):
    """A workspace's plan, its overridden limits, and what it has used: facts, or what an effect has left."""

    @property
    def plan(self) -> str: ...
    @property
    def limit_overrides(self) -> Mapping[str, int | None]: ...
    @property
    def usage(self) -> Mapping[str, Usage]: ...


def amounts_of(question: Question, *, catalog: Catalog) -> Mapping[str, int]:
    """What the question takes of each meter: the caller's figure, else the action's own.

    BadQuestion ``meter_not_taken`` for a meter that the action does not take. An action that is not
    declared takes nothing: that is an answer, not a bad question.
    """
    action = catalog.actions.get(question.action)
    if action is None:
        return {}
    if question.amounts is None:
        return action.takes

    strangers = [meter for meter in question.amounts if meter not in action.takes]
    if strangers:
        takes = ", ".join(sorted(action.takes)) or "nothing"
        faults = tuple(
            FieldFault(
                field=("amounts", meter),
                detail=f'the action "{action.name}" does not take "{meter}"; it takes {takes}',
                suggestion=nearest(meter, action.takes),
            )
            for meter in strangers
        )
        raise BadQuestion(
            "an amount of a meter that the action does not take", code="meter_not_taken", faults=faults
        )
    return {**action.takes, **question.amounts}


def exceeded_meters(amounts: Mapping[str, int], facts: Facts, *, catalog: Catalog) -> dict[str, Exceeded]:
    """The meters without room for *amounts*. An overridden limit holds in every plan: none fits better."""
    exceeded = {}
    plan = catalog.plans.get(facts.plan)
    for meter, amount in amounts.items():
        usage = facts.usage[meter]
        taken = usage.used + usage.reserved + amount
        overridden = meter in facts.limit_overrides
        if overridden:
            limit = facts.limit_overrides[meter]
        elif plan is not None:
            limit = plan.limits[meter]
        else:
            limit = NO_LIMIT_STATED
        if limit is None or taken <= limit:
            continue

        exceeded[meter] = Exceeded(
            fits_in=() if overridden else tuple(_plans_with_room(meter, taken, catalog)),
            after_reset=catalog.meters[meter].per in {"month", "day"} and amount <= limit,
        )
    return exceeded


def quotas_of(meters: Iterable[str], counted: Counted, *, catalog: Catalog) -> dict[str, Quota]:
    """Each meter as a caller sees it; where a plan is not declared the limit is 0, not unlimited."""
    plan = catalog.plans.get(counted.plan)
    limits = {**(plan.limits if plan else {}), **counted.limit_overrides}
    return {meter: _quota(limits.get(meter, 0), counted.usage[meter]) for meter in meters}


def _quota(limit: int | None, usage: Usage) -> Quota:
    """Above the limit the first end of a reservation may not suffice: it is not known what does."""
    is_over = usage.reserved and limit is not None and usage.used + usage.reserved > limit
    return Quota(
        limit=limit,
        used=usage.used,
        reserved=usage.reserved,
        resets_at=usage.resets_at,
        frees_at=None if is_over else usage.frees_at,
    )


def _plans_with_room(meter: str, taken: int, catalog: Catalog) -> Iterable[str]:
    for name, plan in catalog.plans.items():  # cheapest first
        limit = plan.limits[meter]
        if limit is None or taken <= limit:
            yield name
