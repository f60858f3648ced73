"""What workspaces ask of the world: a store of their members and invitations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from sidecar.decisions.model import Facts
    from sidecar.workspaces.membership import Invitation, Member, Offer, Seats, WorkspaceSummary


class PeopleStore(Protocol):
    """Who is in which workspace. Each change is one call, recorded as the *actor*'s, and is all or nothing.

    *seen* are the facts that the decision saw: WorkspaceContended if they do not hold any more; then nothing
    was done. FactsUnavailable if nothing was answered: then it may have been.
    """

    def provision(self, user: str, email: str | None, /, *, verified: bool, deadline: float) -> None:
        """Note who the user is; a new one gets a workspace of their own. Idempotent."""
        ...

    def create(self, id_: UUID, user: str, name: str, /, *, deadline: float) -> WorkspaceSummary:
        """The same *id_* twice is one workspace."""
        ...

    def rename(self, seen: Facts, name: str, /, *, actor: str, deadline: float) -> None: ...

    def delete(self, seen: Facts, /, *, actor: str, deadline: float) -> None: ...

    def members(
        self, workspace_id: UUID, /, *, after: str | None, limit: int, deadline: float
    ) -> list[Member]:
        """Up to *limit* of them, ordered by user, those behind *after*."""
        ...

    def member(self, workspace_id: UUID, user: str, /, *, deadline: float) -> Member | None: ...

    def change_role(self, seen: Facts, user: str, role: str, /, *, actor: str, deadline: float) -> Member: ...

    def remove(self, seen: Facts, user: str, /, *, actor: str, deadline: float) -> None: ...

    def transfer(
        self, seen: Facts, user: str, former_role: str, /, *, actor: str, deadline: float
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
        actor: str,
        deadline: float,
    ) -> Invitation | None:
        """None when there is no seat. One that is open for the same *email* is replaced."""
        ...

    def is_invited(self, workspace_id: UUID, email: str, /, *, deadline: float) -> bool: ...

    def invitations(
        self, workspace_id: UUID, /, *, after: str | None, limit: int, deadline: float
    ) -> list[Invitation]:
        """Up to *limit* open ones, ordered by e-mail, those behind *after*."""
        ...

    def revoke(self, seen: Facts, invitation: UUID, /, *, actor: str, deadline: float) -> bool:
        """False if there is no such open one."""
        ...

    def offer(self, token_hash: str, /, *, deadline: float) -> Offer | None: ...

    def accept(
        self, seen: Facts, token_hash: str, user: str, email: str, /, *, seats: Seats, deadline: float
    ) -> Literal["joined", "full", "invalid"]:
        """*seen* are the inviter's facts."""
        ...
