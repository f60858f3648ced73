"""Who is in a workspace, who is asked in, and by whom that is changed, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sidecar.decisions.model import Facts

OWNER = "owner"
FORMER_OWNER = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """*email* is one that they have proved to be theirs, as far as we were told."""

    user: str
    role: str
    email: str | None
    joined_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSummary:
    """A workspace as one of its members sees it."""

    id: UUID
    slug: str
    name: str
    plan: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An open one. *email* is as typed; in an Offer it is as `emails.address_of` makes it."""

    id: UUID
    email: str
    role: str
    invited_by: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An open invitation as whoever holds its token finds it; *members* are those who have come in."""

    invitation: Invitation
    workspace_id: UUID
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seats:
    """The verdict's limit of each meter that counts members. None is unlimited; an override goes first."""

    limits: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """By whom a change is made: a *user*, themselves or *via* the token of a caller, which has this name.

    *decision* is the id of the decision that allowed it, or of the line of the decision log that tells of it.
    """

    user: str
    decision: str | None
    via: str | None = None


def summary_of(facts: Facts) -> WorkspaceSummary:
    return WorkspaceSummary(
        id=facts.workspace_id, slug=facts.slug, name=facts.name, plan=facts.plan, role=facts.role
    )
