"""Workspaces as administrators read them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.workspaces.administration import FoundWorkspace, KnownWorkspace, Override, WorkspaceState
    from sidecar.workspaces.subscriptions import Subscription


def document_of(changed: WorkspaceState, *, subscription: str | None = None) -> dict[str, Any]:
    """A workspace after a change; with its *subscription*, if that is what has changed."""
    document: dict[str, Any] = {"plan": changed.plan, "status": changed.status}
    for each in changed.subscriptions:
        if each.subscription == subscription:
            document["subscription"] = subscription_document(each)
    document["overrides"] = overrides_document(changed.overrides)
    document["as_of"] = changed.as_of.astimezone(UTC)
    document["applied"] = changed.applied
    if changed.replayed:
        document["replayed"] = True
    return document


def subscription_document(subscription: Subscription) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value
        for name, value in asdict(subscription).items()
    }


def overrides_document(overrides: Iterable[Override]) -> dict[str, Any]:
    """*unlimited* is a word on the wire."""
    document: dict[str, Any] = {"features": {}, "limits": {}}
    for each in overrides:
        document[f"{each.kind}s"][each.name] = {
            "value": "unlimited" if each.value is None else each.value,
            "expires_at": each.expires_at.astimezone(UTC) if each.expires_at else None,
            "until_plan_change": each.until_plan_change,
            "reason": each.reason,
        }
    return document


def known_document(known: KnownWorkspace, *, limit: int) -> dict[str, Any]:
    """With up to *limit* of its members, and `next` where there are more."""
    state = known.state
    members = known.members[:limit]
    more = {"next": members[-1].user} if len(known.members) > limit else {}
    return {
        "id": state.workspace_id,
        "slug": state.slug,
        "name": known.name,
        "external_id": known.external_id,
        "plan": state.plan,
        "status": state.status,
        "subscriptions": [subscription_document(each) for each in state.subscriptions],
        "overrides": overrides_document(state.overrides),
        "owner": known.owner,
        "members": [
            {
                "user": each.user,
                "role": each.role,
                "email": each.email,
                "joined_at": each.joined_at.astimezone(UTC),
            }
            for each in members
        ],
        "created": known.created_at.astimezone(UTC),
        **more,
    }


def found_document(found: FoundWorkspace) -> dict[str, Any]:
    return {
        "id": found.id,
        "slug": found.slug,
        "name": found.name,
        "external_id": found.external_id,
        "plan": found.plan,
        "status": found.status,
    }
