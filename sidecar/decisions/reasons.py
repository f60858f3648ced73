"""Why a policy says yes or no: every reason there is, and the statuses that it may come with."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GRANTED = "granted"

# Denials in their order of precedence: where several hold, the first is the verdict's. docs/reasons.md says
# who can do something about each.
REASONS: Mapping[str, frozenset[int]] = MappingProxyType(
    {
        "not_a_member": frozenset({403}),
        "unknown_action": frozenset({403}),
        "workspace_suspended": frozenset({403}),
        "role_insufficient": frozenset({403}),
        "feature_not_in_plan": frozenset({402, 403}),
        "quota_exceeded": frozenset({402, 403, 429}),
        "denied_by_policy": frozenset({403}),
        GRANTED: frozenset({200}),
    }
)
