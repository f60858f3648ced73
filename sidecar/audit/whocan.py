"""Who may perform an action: each member with what the policy says of them, and who gave them their role."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sidecar.audit.matrix import needs_of
from sidecar.audit.moments import moment_text
from sidecar.audit.questions import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from sidecar.audit.rights import Rights
    from sidecar.decisions.model import Verdict
    from sidecar.workspaces.holders import Member, Workspace


class Row(NamedTuple):
    """A member. *right* leaves room aside; *now* does not, and is None where quotas were not looked at."""

    member: Member
    workspace: Workspace
    right: Verdict
    now: Verdict | None

    @property
    def may(self) -> bool:
        return self.right.allow

    @property
    def document(self) -> dict[str, object]:
        grant = self.member.grant
        return {
            "user": self.member.user,
            "workspace": self.workspace.slug,
            "workspace_id": self.workspace.id,
            "role": self.member.role,
            "may": self.may,
            "reason": self.right.reason,
            "needs": needs_of(self.right),
            "now": None if self.now is None else outcome_of(self.now).document,
            "since": moment_text(grant.since) if grant else None,
            "given_by": None if grant is None else {"kind": grant.kind, "name": grant.by},
            "event": grant.event if grant else None,
        }


def rows_of(
    action: str,
    workspaces: Iterable[Workspace],
    rights: Rights,
    *,
    now: Callable[[Member, Workspace, Verdict], Verdict | None],
) -> Iterator[Row]:
    """In the order of *workspaces* and their members. *now* says what is answered with quotas, or None."""
    for workspace in workspaces:
        known = rights.by_role(action, workspace)  # half a million calls are a second
        for member in workspace.members:
            right = known.get(member.role) if member.exists is not False else None
            if right is None:
                right = rights.of(action, member, workspace)
            yield Row(member, workspace, right, now(member, workspace, right))


def others_than(named: Collection[str], rows: Iterable[Row]) -> list[Row]:
    """Those who may, and of whom neither the role nor the user is one of *named*."""
    return [row for row in rows if row.may and row.member.role not in named and row.member.user not in named]


def differing(rows: Iterable[Row], action: str, rights: Rights) -> list[str]:
    """The users of whom *rights*, those of another policy, say otherwise."""
    found = {
        row.member.user
        for row in rows
        if (right := rights.of(action, row.member, row.workspace)).allow != row.may
        or right.reason != row.right.reason
    }
    return sorted(found)


def counted(
    rows: Sequence[Row], *, plans: Sequence[str], roles: Sequence[str]
) -> list[tuple[str, str, int, int]]:
    """(plan, role, how many may, how many there are), in the order given; what is not declared comes last."""
    found: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        counts = found.setdefault((row.workspace.plan, row.member.role), [0, 0])
        counts[0] += row.may
        counts[1] += 1
    order = {name: place for place, name in enumerate((*plans, *roles))}

    def place(key: tuple[str, str]) -> tuple[object, ...]:
        return tuple((order.get(name, len(order)), name) for name in key)

    return [(plan, role, *found[plan, role]) for plan, role in sorted(found, key=place)]  # type: ignore[misc] # two counts
