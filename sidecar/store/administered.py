"""Workspaces as administrators see them: what SQL answers, as values in our names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.store.moments import moment_of, moment_or_none
from sidecar.store.names import DEAD
from sidecar.workspaces.administration import FoundWorkspace, KnownWorkspace, Override, WorkspaceState
from sidecar.workspaces.membership import Member
from sidecar.workspaces.subscriptions import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.store.names import Spoken


def known_in(document: Mapping[str, Any], spoken: Spoken) -> KnownWorkspace:
    """KeyError, TypeError or ValueError for what authz.workspace_known does not promise."""
    return KnownWorkspace(
        state=state_in(document, spoken),
        name=document["name"],
        external_id=document["external_id"],
        owner=document["owner"],
        members=tuple(
            Member(
                user=each["user"],
                role=spoken.to_ours("role", each["role"]),
                email=each["email"],
                joined_at=moment_of(each["joined_at"]),
            )
            for each in document["members"]
        ),
        created_at=moment_of(document["created_at"]),
    )


def found_in(document: Mapping[str, Any], spoken: Spoken) -> FoundWorkspace:
    """As `known_in`, of an item of authz.find_workspaces."""
    return FoundWorkspace(
        id=UUID(document["id"]),
        slug=document["slug"],
        name=document["name"],
        external_id=document["external_id"],
        plan=spoken.to_ours("plan", document["plan"]),
        status=document["status"],
    )


def state_in(document: Mapping[str, Any], spoken: Spoken) -> WorkspaceState:
    """As `known_in`, of authz.workspace_state."""
    named = [
        (spoken.to_ours("feature" if each["kind"] == "feature" else "meter", each["name"]), each)
        for each in document["overrides"]
    ]
    return WorkspaceState(
        workspace_id=UUID(document["workspace_id"]),
        slug=document["slug"],
        plan=spoken.to_ours("plan", document["plan"]),
        as_of=moment_of(document["as_of"]),
        status=document["status"],
        reason=document["reason"],
        overrides=tuple(
            Override(
                kind=each["kind"],
                name=name,
                value=each["enabled"] if each["kind"] == "feature" else each["at_most"],
                expires_at=moment_or_none(each["expires_at"]),
                reason=each["reason"],
                until_plan_change=each["until_plan_change"],
            )
            for name, each in named
            if DEAD not in name
        ),
        applied=document["applied"],
        subscriptions=tuple(_subscription_of(each, spoken) for each in document["subscriptions"]),
        replayed=document.get("replayed", False),
    )


def _subscription_of(document: Mapping[str, Any], spoken: Spoken) -> Subscription:
    return Subscription(
        subscription=document["subscription"],
        plan=spoken.to_ours("plan", document["plan"]),
        status=document["status"],
        seats=document["seats"],
        trial_ends_at=moment_or_none(document["trial_ends_at"]),
        past_due_since=moment_or_none(document["past_due_since"]),
        billing_anchor=moment_or_none(document["billing_anchor"]),
        as_of=moment_of(document["as_of"]),
        event=document["event"],
        source=document["source"],
    )
