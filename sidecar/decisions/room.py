"""The arithmetic of a check: what an action takes, in which plans that fits, and whether waiting helps.

The plan's figures are those of the catalog and never of the verdict, so that this is a pure function of
question, facts and catalog.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Protocol

from sidecar.decisions.model import Quota, Room
from sidecar.errors import BadQuestion, FieldFault
from sidecar.text.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts, Question, Usage


class Counted(Protocol):
    """A workspace's plan, its own limits, and what it has used: facts, or what an effect has left."""

    @property
    def plan(self) -> str: ...
    @property
    def limit_overrides(self) -> Mapping[str, int | None]: ...
    @property
    def seats(self) -> Mapping[str, int]: ...
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


class Rooms:
    """The room of questions by one catalog, whose limits are sorted once."""

    def __init__(self, catalog: Catalog) -> None:
        self._plans = catalog.plans
        self._all = tuple(sorted(catalog.plans))
        self._meters = {
            name: (
                *_steps_of(name, self._all, catalog),
                meter.per in {"month", "day"},
                meter.is_counted,
            )
            for name, meter in catalog.meters.items()
        }

    def room_for(self, amounts: Mapping[str, int], facts: Facts) -> Room:
        """Where *amounts* fit. An overridden limit holds in every plan, seats in the present one."""
        fits_in = self._all
        plan = self._plans.get(facts.plan)
        waiting_helps = plan is not None
        for meter, amount in amounts.items():
            usage = facts.usage[meter]
            steps, fitting, resets, is_counted = self._meters[meter]
            taken = usage.used + usage.reserved + amount
            if meter in facts.limit_overrides:
                limit = facts.limit_overrides[meter]
                here = self._all if limit is None or taken <= limit else ()
            else:
                limit = plan.limits[meter] if plan is not None else 0
                here = fitting[bisect_left(steps, taken)]
                if meter in facts.seats:
                    limit = facts.seats[meter]
                    here = self._with_or_without(facts.plan, here, fits=taken <= limit)
            if here is not self._all:
                fits_in = here if fits_in is self._all else tuple(name for name in fits_in if name in here)
            if waiting_helps and limit is not None:
                stays = 0 if resets else usage.used
                if is_counted:
                    stays = usage.used + usage.reserved  # an open invitation is no hold
                waiting_helps = stays + amount <= limit
        return Room(fits_in=fits_in, waiting_helps=waiting_helps and facts.plan not in fits_in)

    def _with_or_without(self, plan: str, plans: tuple[str, ...], *, fits: bool) -> tuple[str, ...]:
        if fits == (plan in plans):
            return plans
        found = tuple(name for name in self._all if (fits if name == plan else name in plans))
        return self._all if found == self._all else found


def meters_without_room(amounts: Mapping[str, int], quotas: Mapping[str, Quota]) -> list[str]:
    """Those that have no room for their amount in the present plan, by name."""
    return sorted(
        meter
        for meter, amount in amounts.items()
        if (limit := quotas[meter].limit) is not None
        and quotas[meter].used + quotas[meter].reserved + amount > limit
    )


def quotas_of(meters: Iterable[str], counted: Counted, *, catalog: Catalog) -> dict[str, Quota]:
    """Each meter as a caller sees it."""
    limits = limits_in(counted, catalog=catalog)
    return {meter: _quota(limits[meter], counted.usage[meter]) for meter in meters}


def limits_in(counted: Counted, *, catalog: Catalog) -> dict[str, int | None]:
    """The limit of every meter, None for unlimited; where a plan is not declared it is 0."""
    plan = catalog.plans.get(counted.plan)
    of_plan = plan.limits if plan else dict.fromkeys(catalog.meters, 0)
    return {**of_plan, **counted.seats, **counted.limit_overrides}


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


def _steps_of(
    meter: str, plans: tuple[str, ...], catalog: Catalog
) -> tuple[list[int], list[tuple[str, ...]]]:
    """The limits there are, each with the plans that have at least that much; last those without a limit."""
    limits = {name: catalog.plans[name].limits[meter] for name in plans}
    steps = sorted({limit for limit in limits.values() if limit is not None})
    fitting = [
        tuple(name for name, limit in limits.items() if limit is None or limit >= step) for step in steps
    ]
    fitting.append(tuple(name for name, limit in limits.items() if limit is None))
    return steps, [plans if names == plans else names for names in fitting]
