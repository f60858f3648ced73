"""Why a verdict cannot be the answer to the question that was asked, though it is a verdict.

A policy decides about members, in the words of the catalog. Whatever answers otherwise is not believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Action, Catalog
    from sidecar.decisions.model import Facts, Verdict


def misfit(verdict: Verdict, *, action: Action | None, facts: Facts | None, catalog: Catalog) -> str | None:
    """What is wrong, for the log; None where nothing is. *action* is None if it is not declared."""
    is_member = facts is not None and facts.role in catalog.roles
    if verdict.allow and not is_member:
        return "the verdict grants something to who has no role in the workspace"
    if not all(plan in catalog.plans and catalog.plans[plan].sold for plan in verdict.upgrade):
        return f"the verdict offers {', '.join(verdict.upgrade)}, not all of which the catalog sells"
    if verdict.reason == "role_insufficient":
        roles = verdict.needs_roles
        if not (is_member and roles and catalog.roles.keys() >= set(roles)):
            return f"the verdict needs {', '.join(roles) or 'no role'} in place of the role that there is"
    if verdict.reason == "feature_not_in_plan" and (
        action is None or action.feature != verdict.needs_feature
    ):
        return f"the verdict needs the feature {verdict.needs_feature}, and the action does not"
    return None
