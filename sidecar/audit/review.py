"""An access review: every right that anybody holds, read from the grants, and what deserves a closer look."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from sidecar.audit.moments import moment_in, moment_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sidecar.audit.rights import Rights
    from sidecar.workspaces.holders import Grant, Invitation, Login, Member, OverrideHeld, Workspace

COLUMNS = (
    "id",
    "kind",
    "workspace_id",
    "workspace",
    "plan",
    "status",
    "user",
    "email",
    "role",
    "since",
    "granted_kind",
    "granted_by",
    "rights",
    "flags",
    "last_used",
    "decision",
    "reviewer",
    "reviewed_at",
)
KINDS = ("member", "invitation", "override", "caller", "login")
FLAGS = (
    "self_granted",
    "found",
    "unaccounted",
    "unknown_user",
    "undeclared_role",
    "no_owner",
    "dormant",
    "no_end",
    "no_reason",
    "all_scopes",
    "superuser",
)
SEPARATE = "separate:"
DORMANT_AFTER = timedelta(days=90)
_ALL_SCOPES = {"authorize", "admin", "audit"}  # `people` adds nothing to these
_OWNER = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One right of somebody. Moments are RFC 3339; whoever reviews it fills in the last three columns."""

    kind: str
    workspace: Workspace | None = None
    user: str | None = None
    email: str | None = None
    role: str | None = None
    since: str | None = None
    granted_kind: str | None = None
    granted_by: str | None = None
    rights: Sequence[str] = ()
    flags: Sequence[str] = ()
    last_used: str | None = None

    def document(self, number: int) -> dict[str, object]:
        of = self.workspace
        values = (
            number,
            self.kind,
            of.id if of else None,
            of.slug if of else None,
            of.plan if of else None,
            of.status if of else None,
            self.user,
            self.email,
            self.role,
            self.since,
            self.granted_kind,
            self.granted_by,
            list(self.rights),
            list(self.flags),
            self.last_used,
            None,
            None,
            None,
        )
        return dict(zip(COLUMNS, values, strict=True))


class Token(Protocol):
    """Whose it is. *made_at* is RFC 3339, *made_by* a login of the machine; None where that is not known."""

    @property
    def name(self) -> str: ...
    @property
    def scopes(self) -> frozenset[str]: ...
    @property
    def made_at(self) -> str | None: ...
    @property
    def made_by(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What rows are made by.

    *is_full* says of an action, user and role whether a workspace has no room for it now. *no_gain* are the
    events by which somebody changed their own membership and gained no right; *setters* are grants of
    overrides. *last_used* is None where no log was read.
    """

    rights: Rights
    as_of: datetime
    is_full: Callable[[str, str, str, Workspace], bool] = lambda *_: False
    no_gain: Collection[int] = ()
    setters: Mapping[tuple[str, str, str], Grant] = field(default_factory=dict)
    last_used: Callable[[str, Workspace], str | None] | None = None
    masked: bool = False  # some lines do not tell whom they are about

    def members(self, workspaces: Iterable[Workspace], *, roles: Collection[str] | None) -> Iterator[Row]:
        """Of all roles if *roles* is None."""
        for workspace in workspaces:
            has_owner = any(
                member.role == _OWNER and member.exists is not False for member in workspace.members
            )
            for member in workspace.members:
                if roles is None or member.role in roles:
                    yield self._member(member, workspace, has_owner=has_owner)

    def invitations(self, workspaces: Iterable[Workspace], *, roles: Collection[str] | None) -> Iterator[Row]:
        for workspace in workspaces:
            for each in workspace.invitations:
                if roles is None or each.role in roles:
                    yield self._invitation(each, workspace)

    def overrides(self, workspaces: Iterable[Workspace]) -> Iterator[Row]:
        for workspace in workspaces:
            for each in workspace.overrides:
                yield self._override(each, workspace)

    def _member(self, member: Member, workspace: Workspace, *, has_owner: bool) -> Row:
        grant = member.grant
        used = self.last_used(member.user, workspace) if self.last_used else None
        flags = [
            *_flags_of_grant(member, no_gain=grant is not None and grant.event in self.no_gain),
            *(["unknown_user"] if _is_unknown(member) else []),
            *self._undeclared(member.role),
            *([] if has_owner else ["no_owner"]),
            *(["dormant"] if self._is_dormant(grant, used) else []),
            *self._separate(member, workspace),
        ]
        return Row(
            kind="member",
            workspace=workspace,
            user=member.user,
            email=member.email,
            role=member.role,
            since=moment_text(grant.since) if grant else None,
            granted_kind=grant.kind if grant else None,
            granted_by=grant.by if grant else None,
            rights=self._rights(member.user, member.role, workspace),
            flags=flags,
            last_used=used,
        )

    def _invitation(self, invitation: Invitation, workspace: Workspace) -> Row:
        return Row(
            kind="invitation",
            workspace=workspace,
            email=invitation.email,
            role=invitation.role,
            since=moment_text(invitation.created_at),
            granted_kind="user" if invitation.invited_by else None,
            granted_by=invitation.invited_by,
            rights=self._rights("", invitation.role, workspace),
            flags=self._undeclared(invitation.role),
        )

    def _override(self, override: OverrideHeld, workspace: Workspace) -> Row:
        grant = self.setters.get((workspace.id, override.of, override.name))
        value = override.value if override.of == "limit" else "on" if override.value else "off"
        return Row(
            kind="override",
            workspace=workspace,
            since=moment_text(override.changed_at),
            granted_kind=grant.kind if grant else None,
            granted_by=grant.by if grant else None,
            rights=[f"{override.name} {value}"],
            flags=[
                *([] if grant else ["unaccounted"]),
                *([] if override.ends else ["no_end"]),
                *([] if override.reason else ["no_reason"]),
            ],
        )

    def _rights(self, user: str, role: str, workspace: Workspace) -> list[str]:
        return [
            f"{action}*" if self.is_full(action, user, role, workspace) else action
            for action in self.rights.as_sold(role, workspace.plan)
        ]

    def _undeclared(self, role: str) -> list[str]:
        return [] if role in self.rights.compiled.catalog.roles else ["undeclared_role"]

    def _is_dormant(self, grant: Grant | None, used: str | None) -> bool:
        """Whoever got their role a short while ago has not had the time."""
        if self.last_used is None or self.masked:
            return False
        before = self.as_of - DORMANT_AFTER
        last = (moment_in(used) if used else None) or before
        return last <= before and (grant is None or grant.since <= before)

    def _separate(self, member: Member, workspace: Workspace) -> list[str]:
        """The promises of separated duties that this member breaks: by role and plan, or by an override."""
        found = []
        sold = self.rights.as_sold(member.role, workspace.plan)
        for promise in self.rights.compiled.catalog.invariants:
            if promise.separate is None or member.role in promise.separate.exempt:
                continue
            held = [
                action
                for action in promise.separate.actions
                if action in sold or self.rights.of(action, member, workspace).allow
            ]
            if len(held) > 1:
                found.append(f"{SEPARATE}{promise.title}")
        return found


def callers_of(callers: Iterable[Token], *, last_used: Mapping[str, str]) -> list[Row]:
    """A row for each token: one caller may have several."""
    return [
        Row(
            kind="caller",
            user=each.name,
            role=" ".join(sorted(each.scopes)),
            since=each.made_at,
            granted_kind="login" if each.made_by else None,
            granted_by=each.made_by,
            flags=["all_scopes"] if each.scopes >= _ALL_SCOPES else [],
            last_used=last_used.get(each.name),
        )
        for each in sorted(callers, key=lambda token: token.name)
    ]


def logins_of(logins: Iterable[Login]) -> list[Row]:
    return [
        Row(
            kind="login",
            user=login.name,
            role="superuser" if login.superuser else " ".join(login.roles),
            flags=["superuser"] if login.superuser else [],
        )
        for login in logins
    ]


def _flags_of_grant(member: Member, *, no_gain: bool) -> list[str]:
    grant = member.grant
    if grant is None:
        return ["unaccounted"]
    if grant.kind == "found":
        return ["found"]
    is_own = grant.kind == "user" and grant.by == member.user
    return ["self_granted"] if is_own and not no_gain else []


def _is_unknown(member: Member) -> bool:
    """Nobody of that name: they were deleted, or no list of users has them. None if it was not asked."""
    return member.exists is False or (member.exists is True and member.email is None)
