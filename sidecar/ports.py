"""What the core asks of the world: a policy engine, stores of facts and of people, and a ledger of usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sidecar.membership import Invitation, Member, Offer, Place, Seats
    from sidecar.model import Facts, Roster, Verdict
    from sidecar.taking import (
        Expired,
        GivenBack,
        Made,
        NoRoom,
        Repeated,
        Settlement,
        Taken,
        Taking,
        Unsettled,
    )


class PolicyEngine(Protocol):
    @property
    def name(self) -> str:
        """``opa`` or ``embedded``: a metric's label."""
        ...

    @property
    def revision(self) -> str:
        """The revision that this process was started with; a verdict by another is refused."""
        ...

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        """*situation* is canonical JSON; *deadline* is on the monotonic clock, in seconds.

        EngineUnavailable, EngineMisbehaved and RevisionMismatch are raised; a verdict never stands for
        an outage.
        """
        ...


class RuleEngine(Protocol):
    """What evaluates policies of any kind, verdict or not."""

    @property
    def name(self) -> str: ...

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        """What *rule* (``data.authz.decision``) says when *given*, which is JSON, is its input.

        EngineMisbehaved where it says nothing, EngineUnavailable when nothing came in time.
        """
        ...


class FactStore(Protocol):
    def facts(self, members: Sequence[tuple[str, str]], /, *, deadline: float) -> list[Facts | None]:
        """The facts of each (user, workspace) in order, in one round trip; None for whoever is no member.

        An unknown user, an unknown workspace and a stranger are the same None.
        """
        ...

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        """The facts of up to *limit* workspaces of *user*, ordered by slug, those behind *after*."""
        ...

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:
        """Up to *limit* members of *workspace*, ordered by user id, those behind *after*.

        A workspace that does not exist has none.
        """
        ...


class Ledger(Protocol):
    """Quota: each effect is one call, has happened when the call returns, and is all or nothing.

    FactsUnavailable if nothing was answered: then it may have happened. UsageContended: it has not.
    """

    def take(self, taking: Taking, /, *, deadline: float) -> Taken | Repeated | Made | NoRoom | Unsettled:
        """IdempotencyKeyReused if the key was used for another request."""
        ...

    def repeated(self, taking: Taking, /, *, deadline: float) -> Repeated | Made | None:
        """What `take` would say if this had been taken before, and else None; nothing is taken."""
        ...

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        """Of meters that are not named, all.

        UnknownReservation, ReservationSettled, CommitExceedsReservation, BadQuestion ``meter_not_taken``.
        """
        ...

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        """UnknownReservation, ReservationSettled if it was committed."""
        ...

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        """UnknownWorkspace, UnknownIdempotencyKey, RefundExceedsUse."""
        ...

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        """*meter* is a level. UnknownWorkspace."""
        ...


class PeopleStore(Protocol):
    """Who is in which workspace. Each change is one call, recorded as the *actor*'s, and is all or nothing.

    *seen* are the facts that the decision saw: WorkspaceContended if they do not hold any more; then nothing
    was done. FactsUnavailable if nothing was answered: then it may have been.
    """

    def see(self, user: str, email: str | None, /, *, verified: bool, deadline: float) -> None: ...

    def create(self, id_: UUID, user: str, name: str, /, *, deadline: float) -> Place:
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
