"""What the table of docs/reasons.md makes of a situation, in Python: to compare with, never to decide."""

from __future__ import annotations

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
    return Verdict(
        allow=granted,
        reason=reason,
        status=status_of(reason, situation, upgrade=upgrade),
        charges={meter: plan.limits[meter] for meter in action.takes} if granted and action and plan else {},
        upgrade=upgrade,
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
            # Where no plan is declared there are no limits: a meter that nobody overrides is in `exceeded`.
            return bool(situation.exceeded) or bool(action and action.takes and plan is None)
        case _:
            return reason == "granted"


def upgrade_for(reason: str, situation: Situation, *, catalog: Catalog) -> tuple[str, ...]:
    """The plans that would help, cheapest first: none against an override."""
    action = catalog.actions.get(situation.action or "")
    if reason == "feature_not_in_plan" and not situation.feature_overrides:
        feature = action.feature if action else None
        return tuple(name for name, plan in catalog.plans.items() if feature in plan.features)
    if reason == "quota_exceeded" and situation.exceeded:
        lacks = situation.exceeded.values()
        return tuple(name for name in catalog.plans if all(name in lack.fits_in for lack in lacks))
    return ()


def status_of(reason: str, situation: Situation, *, upgrade: tuple[str, ...]) -> int:
    if reason == "granted":
        return 200
    if upgrade:
        return 402
    lacks = situation.exceeded.values()
    waiting_helps = reason == "quota_exceeded" and bool(lacks) and all(lack.after_reset for lack in lacks)
    return 429 if waiting_helps else 403
