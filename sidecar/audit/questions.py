"""Question cells: what is asked of policies by names, so that two catalogs can be asked the same.

A situation is closed over its catalog: what a catalog does not declare is null, and what fits is said in its
own plans. So reports that compare or list rights walk questions, and each catalog turns them into situations
by the code that serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from sidecar.decisions.model import Facts, Question, Usage
from sidecar.decisions.room import Rooms
from sidecar.decisions.situation import situation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.catalog import Action, Catalog, Plan
    from sidecar.decisions.model import Json, Situation, Verdict

Override = Literal["none", "on", "off"]
STATUSES = ("active", "suspended")
_OVERRIDES: Mapping[Override, bool | None] = {"none": None, "on": True, "off": False}
_ANY_TIME = datetime(2026, 1, 15, 12, tzinfo=UTC)  # nothing that is asked here depends on it
_NO_CONTEXT: Mapping[str, Json] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionCell:
    """*override* is that of the feature which the action needs; it is "none" where it needs none."""

    action: str
    role: str
    plan: str
    status: str = "active"
    override: Override = "none"

    @property
    def as_sold(self) -> bool:
        return self.status == "active" and self.override == "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a report says of a verdict."""

    allow: bool
    http_status: int
    reason: str
    upgrade: tuple[str, ...]

    @property
    def document(self) -> dict[str, object]:
        return {
            "allow": self.allow,
            "http_status": self.http_status,
            "reason": self.reason,
            "upgrade": list(self.upgrade),
        }


def outcome_of(verdict: Verdict) -> Outcome:
    return Outcome(
        allow=verdict.allow, http_status=verdict.status, reason=verdict.reason, upgrade=verdict.upgrade
    )


def question_cells(catalog: Catalog) -> Iterator[QuestionCell]:
    """Of the declared actions, in the catalog's order: action, plan, role, status, override."""
    for name in catalog.declared_actions:
        overrides: tuple[Override, ...] = ("none", "on", "off")
        if catalog.actions[name].feature is None:
            overrides = ("none",)
        for plan, role, status, override in product(catalog.plans, catalog.roles, STATUSES, overrides):
            yield QuestionCell(action=name, role=role, plan=plan, status=status, override=override)


class Situations:
    """Question cells as situations of one catalog."""

    def __init__(self, catalog: Catalog, *, context_fields: frozenset[str] = frozenset()) -> None:
        self._catalog = catalog
        self._context_fields = context_fields
        self._rooms = Rooms(catalog)

    def of(
        self,
        cell: QuestionCell,
        *,
        context: Mapping[str, Json] = _NO_CONTEXT,
        features: Mapping[str, bool] | None = None,
    ) -> Situation:
        """With room for what the action takes: where the plan has none, by a limit of the workspace's own.

        *features* are all overrides that the workspace has, instead of the one of *cell*.
        """
        action = self._catalog.actions.get(cell.action)
        plan = self._catalog.plans.get(cell.plan)
        own = {
            meter: amount
            for meter, amount in (action.takes if action else {}).items()
            if lacks(plan, meter, amount)
        }
        facts = replace(self._facts(cell, action), limit_overrides=own)
        if features is not None:
            facts = replace(facts, feature_overrides=features)
        return self._situation(cell, action, facts, context)

    def when_full(self, cell: QuestionCell, *, context: Mapping[str, Json] = _NO_CONTEXT) -> Situation | None:
        """With each taken meter used up to its limit; None if nothing is taken."""
        action = self._catalog.actions.get(cell.action)
        plan = self._catalog.plans.get(cell.plan)
        if action is None or not action.takes:
            return None
        full = {meter: usage((plan.limits[meter] if plan else 0) or 0) for meter in action.takes}
        facts = self._facts(cell, action)
        return self._situation(cell, action, replace(facts, usage={**facts.usage, **full}), context)

    def _situation(
        self, cell: QuestionCell, action: Action | None, facts: Facts, context: Mapping[str, Json]
    ) -> Situation:
        takes = action.takes if action else {}
        return situation_of(
            Question(user="somebody", workspace="somewhere", action=cell.action, context=context),
            facts,
            catalog=self._catalog,
            room=self._rooms.room_for(takes, facts) if takes else None,
            context_fields=self._context_fields,
        )

    def _facts(self, cell: QuestionCell, action: Action | None) -> Facts:
        value = _OVERRIDES[cell.override]
        feature = action.feature if action else None
        return facts_somewhere(
            role=cell.role,
            plan=cell.plan,
            status=cell.status,
            features={} if feature is None or value is None else {feature: value},
            limits={},
            usage={name: usage(0) for name in self._catalog.meters},
        )


def facts_somewhere(
    *,
    role: str,
    plan: str,
    status: str,
    features: Mapping[str, bool],
    limits: Mapping[str, int | None],
    usage: Mapping[str, Usage],
    seats: Mapping[str, int] | None = None,
) -> Facts:
    """All that decides of a member; *features* and *limits* are overrides."""
    return Facts(
        workspace_id=UUID(int=1),
        slug="somewhere",
        name="somewhere",
        role=role,
        plan=plan,
        status=status,
        feature_overrides=features,
        limit_overrides=limits,
        usage=usage,
        at=_ANY_TIME,
        token=None,
        seats=seats or {},
    )


def usage(used: int, *, reserved: int = 0) -> Usage:
    """Of a meter; when it resets decides nothing here."""
    return Usage(used=used, reserved=reserved, resets_at=_ANY_TIME)


def lacks(plan: Plan | None, meter: str, amount: int) -> bool:
    """Whether *amount* does not fit into an unused *plan*."""
    limit = plan.limits[meter] if plan else 0
    return limit is not None and limit < amount
