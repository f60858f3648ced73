"""What the table of docs/reasons.md makes of a situation, in Python: to compare with, never to decide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sidecar.decisions.model import Verdict
from sidecar.decisions.reasons import REASONS

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Situation


def verdict_about(situation: Situation, *, catalog: Catalog, revision: str) -> Verdict:
    """Without rules of the company's own."""
    reason = next(reason for reason in REASONS if holds(reason, situation, catalog=catalog))
    upgrade = upgrade_for(reason, situation, catalog=catalog)
    action = catalog.actions.get(situation.action or "")
    plan = catalog.plans.get(situation.plan or "")
    granted = reason == "granted"
    waits = waiting_helps(situation, catalog=catalog)
    return Verdict(
        allow=granted,
        reason=reason,
        status=200 if granted else 402 if upgrade else 429 if waits else 403,
        charges={meter: plan.limits[meter] for meter in action.takes} if granted and action and plan else {},
        upgrade=upgrade,
        waiting_helps=waits,
        needs_roles=action.roles if action and reason == "role_insufficient" else (),
        needs_feature=action.feature if action and reason == "feature_not_in_plan" else None,
        detail=None,
        revision=revision,
    )


def holds(reason: str, situation: Situation, *, catalog: Catalog) -> bool:
    """Whether *reason* holds of *situation*, whatever stands before it."""
    action = catalog.actions.get(situation.action or "")
    plan = catalog.plans.get(situation.plan or "")
    match reason:
        case "not_a_member":
            return situation.role is None
        case "unknown_action":
            return action is None
        case "workspace_suspended":
            return situation.status == "suspended" and not (action and action.while_suspended)
        case "role_insufficient":
            return action is not None and situation.role not in action.roles
        case "feature_not_in_plan":
            if action is None or action.feature is None:
                return False
            included = plan is not None and action.feature in plan.features
            return not situation.feature_overrides.get(action.feature, included)
        case "quota_exceeded":
            if action is None or not action.takes:
                return False
            return plan is None or situation.room is None or situation.plan not in situation.room.fits_in
        case _:
            return reason == "granted"


def upgrade_for(reason: str, situation: Situation, *, catalog: Catalog) -> tuple[str, ...]:
    """The plans that would help, cheapest first: in each of them the same question is granted."""
    if reason not in {"feature_not_in_plan", "quota_exceeded"}:
        return ()
    here = catalog.plans.get(situation.plan or "")
    paid = -1 if here is None or reason == "feature_not_in_plan" else here.price.amount
    return tuple(
        name
        for name, plan in catalog.plans.items()
        if plan.sold
        and plan is not here
        and plan.price.amount > paid
        and denials_of(replace(situation, plan=name), catalog=catalog) == []
    )


def waiting_helps(situation: Situation, *, catalog: Catalog) -> bool:
    room = situation.room
    denials = denials_of(situation, catalog=catalog)
    return denials == ["quota_exceeded"] and room is not None and room.waiting_helps


def denials_of(situation: Situation, *, catalog: Catalog) -> list[str]:
    return [reason for reason in REASONS if reason != "granted" and holds(reason, situation, catalog=catalog)]
