"""What workspaces ask of the world: a store of their members and invitations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from sidecar.decisions.model import Facts
    from sidecar.workspaces.membership import (
        Invitation,
        Member,
        Offer,
        Provenance,
        Seats,
        WorkspaceSummary,
    )


class PeopleStore(Protocol):
    """Who is in which workspace. Each change is one call, recorded as *by* says, and is all or nothing.

    UnknownUser if whoever would become a member was deleted.

    *seen* are the facts that the decision saw: WorkspaceContended if they do not hold any more; then nothing
    was done. FactsUnavailable if nothing was answered: then it may have been.
    """

    def provision(
        self, user: str, email: str | None, /, *, verified: bool, by: Provenance, deadline: float
    ) -> bool:
        """Note who the user is; a new one gets a workspace of their own: then it is true. Idempotent."""
        ...

    def standing(self, user: str, /, *, deadline: float) -> Literal["nobody", "homeless", "member"]:
        """``nobody`` was deleted, the ``homeless`` are in no workspace."""
        ...

    def oldest_owned(self, user: str, /, *, deadline: float) -> UUID | None:
        """The oldest workspace that *user* owns, suspended or not."""
        ...

    def create(
        self, id_: UUID, user: str, name: str, /, *, by: Provenance, deadline: float
    ) -> WorkspaceSummary:
        """The same *id_* twice is one workspace."""
        ...

    def create_decided(
        self,
        id_: UUID,
        user: str,
        name: str,
        /,
        *,
        seen: Facts | None,
        owned_at_most: int | None,
        by: Provenance,
        deadline: float,
    ) -> WorkspaceSummary | None:
        """As `create`; None if *user* owns more before it than *owned_at_most*, where None is no limit.

        *seen* is of the oldest workspace that they own; None if they owned none.
        """
        ...

    def rename(self, seen: Facts, name: str, /, *, by: Provenance, deadline: float) -> None: ...

    def delete(self, seen: Facts, /, *, by: Provenance, deadline: float) -> None: ...

    def members(
        self, workspace_id: UUID, /, *, after: str | None, limit: int, deadline: float
    ) -> list[Member]:
        """Up to *limit* of them, ordered by user, those behind *after*."""
        ...

    def member(self, workspace_id: UUID, user: str, /, *, deadline: float) -> Member | None: ...

    def change_role(
        self, seen: Facts, user: str, role: str, /, *, by: Provenance, deadline: float
    ) -> Member: ...

    def remove(self, seen: Facts, user: str, /, *, by: Provenance, deadline: float) -> None: ...

    def transfer(
        self,
        seen: Facts,
        user: str,
        former_role: str,
        /,
        *,
        by: Provenance,
        deadline: float,
    ) -> tuple[Member, Member]: ...

    def invite(
        self,
        seen: Facts,
        id_: UUID,
        email: str,
        role: str,
        /,
        *,
        token_hash: str,
        seats: Seats,
        by: Provenance,
        deadline: float,
    ) -> Invitation | None:
        """None when there is no seat. One that is open for the same *email* is replaced."""
        ...

    def has_member(self, workspace_id: UUID, email: str, /, *, deadline: float) -> bool: ...

    def is_invited(self, workspace_id: UUID, email: str, /, *, deadline: float) -> bool: ...

    def invitations(
        self, workspace_id: UUID, /, *, after: str | None, limit: int, deadline: float
    ) -> list[Invitation]:
        """Up to *limit* open ones, ordered by e-mail, those behind *after*."""
        ...

    def revoke(self, seen: Facts, invitation: UUID, /, *, by: Provenance, deadline: float) -> bool:
        """False if there is no such open one."""
        ...

    def offer(self, token_hash: str, /, *, deadline: float) -> Offer | None: ...

    def accept(
        self,
        seen: Facts,
        token_hash: str,
        user: str,
        email: str,
        /,
        *,
        seats: Seats,
        by: Provenance,
        deadline: float,
    ) -> Literal["joined", "full", "invalid", "member"]:
        """*seen* are the inviter's facts; those of *user*, if they are a member: then it is used up."""
        ...
