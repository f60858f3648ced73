"""Who holds which role where, and who gave it: what reports about people are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Grant(NamedTuple):
    """As the history tells it: since when, by which *kind* (user, caller, sql or found), *by* whom.

    *role* is what the history says was given; *event* is the number of the row of the outbox.
    """

    role: str
    since: datetime
    kind: str
    by: str | None
    event: int


class Member(NamedTuple):
    """*exists* is None where nobody asked whether the user exists, *grant* where no history tells it."""

    user: str
    role: str
    email: str | None = None
    exists: bool | None = None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    id: str
    email: str
    role: str
    invited_by: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideHeld:
    """*of* is feature or limit; a *value* is true, false, a number, or "unlimited"."""

    of: str
    name: str
    value: bool | int | str
    ends: bool
    reason: str | None
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """At a moment. *features* and *limits* are its overrides that hold; a limit of None is unlimited."""

    id: str
    slug: str
    name: str
    plan: str
    status: str
    features: Mapping[str, bool] = field(default_factory=dict)
    limits: Mapping[str, int | None] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    invitations: tuple[Invitation, ...] = ()
    overrides: tuple[OverrideHeld, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """A login of the database, and the roles that let it change what the schema `authz` holds."""

    name: str
    superuser: bool
    roles: tuple[str, ...]
