"""What can go wrong, as a tree; only its leaves are raised.

SidecarError
├── ConfigError                 the process must not start
├── BadQuestion                 the caller's request
├── UnknownCaller               the caller did not prove itself
├── CallerForbidden             the caller's token lacks the scope
├── UnknownUser                 the end user did not prove who they are
├── UnsafePath                  two servers could read this path differently
├── Unroutable                  a gateway's request leads to no question
├── UnknownWorkspace            an administrator named a workspace that is not there
├── UnknownPlan                 an administrator named a plan that is not sold
├── EventReused                 a biller's event came again, and says something else
├── SignatureInvalid            what came is not signed by the biller, or not of now
├── BillingRefused              a biller's event cannot be applied: somebody has to look
├── ExternalIdTaken             another workspace has the id of the application
├── AnotherUser                 a user asked about somebody else
├── NotAMember                  a user asked about a workspace that is not theirs
├── IdempotencyKeyReused        the key was used for another request
├── UnknownIdempotencyKey       nothing was taken under the key, or too long ago
├── UnknownReservation          nothing is reserved under the id
├── ReservationSettled          it was committed or released before, and otherwise
├── ReservationExpired          it came too late, and there is no right or room any more
├── CommitExceedsReservation    more was committed than reserved
├── RefundExceedsUse            more was given back than taken
├── UnknownMember               a member named somebody who is not in their workspace
├── UnknownInvitation           a member named an invitation that is not open
├── InvitationInvalid           whoever accepts has none that is good
├── AlreadyAMember              who is invited, or accepts, is in the workspace already
├── OwnerMustTransfer           the one owner cannot go or become less
├── UseTransfer                 nobody is made owner by a change of role
├── NotServed                   what is asked for is not offered here
├── Interrupted                 a command could not go on: one line says why
├── NotAsked                    a command could not ask a database, an engine or a log: that is no finding
└── DependencyError             something we need failed: never a decision
    ├── EngineUnavailable       the policy engine did not answer in time
    ├── EngineMisbehaved        the policy engine answered, but not a verdict
    ├── RevisionMismatch        the policy engine answered by another revision
    ├── FactsUnavailable        PostgreSQL did not answer in time
    ├── UsageContended          too many at once want the same quota, or its workspace is changing
    ├── ClockSkew               the clocks of the database and of the sidecar are an hour apart
    ├── FactsMisread            PostgreSQL answered outside its contract
    ├── DatabaseNotMigrated     PostgreSQL lacks what this version or its catalog needs
    ├── WorkspaceContended      the workspace is being changed by too many at once
    ├── OutcomeUnknown          a change was sent, and nobody said whether it is made
    ├── IdentityUnavailable     the identity provider's keys cannot be had
    └── LogUnavailable          the line of a decision could not be written in time
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

# The codes of docs/operations/runbook.md, and one that is told as database_refused.
DatabaseCause = Literal[
    "database_unreachable",
    "database_refused",
    "database_read_only",
    "database_not_migrated",
    "wrong_session",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where: *pointer* is written for whoever has to correct it.

    For a file it is ``file:line:column``, for a setting its name (``SIDECAR_BIND``). For a request it is a
    JSON pointer, which only the edge knows: the core raises a FieldFault instead.
    """

    pointer: str
    detail: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFault:
    """One field of a request that is wrong: *field* is the names that lead to it, ``("amounts", "minutes")``.

    The core and the stores do not know how a request was written. The edge does, and turns the field into the
    *pointer* of a Problem (web/problems.py).
    """

    field: tuple[str, ...]
    detail: str
    suggestion: str | None = None


class SidecarError(Exception):
    """*code* is stable and documented in docs/errors.md; the text may change.

    *problems* say where something is wrong, *faults* name fields for which the edge has yet to say where.
    """

    code = "error"

    def __init__(
        self,
        detail: str = "",
        *,
        problems: tuple[Problem, ...] = (),
        faults: tuple[FieldFault, ...] = (),
    ) -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        self.problems = problems
        self.faults = faults


class ConfigError(SidecarError):
    """Carries every problem at once; the process ends with exit code 78."""

    code = "configuration"


class BadQuestion(SidecarError):
    """*code* says which rule the request broke; *detail*, *problems* and *faults* are shown to the caller."""

    code = "invalid_request"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str = "invalid_request",
        problems: tuple[Problem, ...] = (),
        faults: tuple[FieldFault, ...] = (),
    ) -> None:
        super().__init__(detail, problems=problems, faults=faults)
        self.code = code


class UnknownCaller(SidecarError):
    code = "unauthenticated"


class CallerForbidden(SidecarError):
    code = "scope_missing"


class UnknownUser(SidecarError):
    """*detail* says why, and *unverified* what the refused token claims: both are for the log alone."""

    code = "user_unauthenticated"

    def __init__(self, detail: str = "", *, unverified: Mapping[str, str | int] | None = None) -> None:
        super().__init__(detail)
        self.unverified = unverified or {}


class UnsafePath(SidecarError):
    code = "unsafe_path"


class Unroutable(SidecarError):
    """*code* says why; *detail* is for the log."""

    code = "unknown_route"

    def __init__(self, detail: str = "", *, code: str = "unknown_route") -> None:
        super().__init__(detail)
        self.code = code


class UnknownWorkspace(SidecarError):
    code = "unknown_workspace"


class UnknownPlan(SidecarError):
    code = "unknown_plan"


class EventReused(SidecarError):
    code = "event_reused"


class SignatureInvalid(SidecarError):
    """*detail* says why, for the log alone."""

    code = "signature_invalid"


class BillingRefused(SidecarError):
    """*code* says why; *about* is what the line of the log says of the event besides."""

    code = "billing_plan_unknown"

    def __init__(self, detail: str, *, code: str, about: Mapping[str, object]) -> None:
        super().__init__(detail)
        self.code = code
        self.about = about


class ExternalIdTaken(SidecarError):
    code = "external_id_taken"


class AnotherUser(SidecarError):
    code = "another_user"


class NotAMember(SidecarError):
    code = "not_a_member"


class IdempotencyKeyReused(SidecarError):
    code = "idempotency_key_reused"


class UnknownIdempotencyKey(SidecarError):
    code = "unknown_idempotency_key"


class UnknownReservation(SidecarError):
    code = "unknown_reservation"


class ReservationSettled(SidecarError):
    code = "reservation_settled"


class ReservationExpired(SidecarError):
    code = "reservation_expired"


class CommitExceedsReservation(SidecarError):
    code = "commit_exceeds_reservation"


class RefundExceedsUse(SidecarError):
    code = "refund_exceeds_use"


class UnknownMember(SidecarError):
    code = "unknown_member"


class UnknownInvitation(SidecarError):
    code = "unknown_invitation"


class InvitationInvalid(SidecarError):
    code = "invitation_invalid"


class AlreadyAMember(SidecarError):
    code = "already_a_member"


class OwnerMustTransfer(SidecarError):
    code = "owner_must_transfer"


class UseTransfer(SidecarError):
    code = "use_transfer"


class NotServed(SidecarError):
    code = "not_found"


class Interrupted(SidecarError):
    code = "interrupted"


class NotAsked(SidecarError):
    code = "not_asked"


class DependencyError(SidecarError):
    code = "dependency"


class EngineUnavailable(DependencyError):
    code = "policy_engine_unavailable"


class EngineMisbehaved(DependencyError):
    code = "policy_engine_misbehaved"


class RevisionMismatch(DependencyError):
    code = "policy_revision_mismatch"


class FactsUnavailable(DependencyError):
    """*cause* is what keeps PostgreSQL from answering: an operator is told it, and who asked is not."""

    code = "facts_unavailable"

    def __init__(self, detail: str = "", *, cause: DatabaseCause = "database_unreachable") -> None:
        super().__init__(detail)
        self.cause = cause


class UsageContended(DependencyError):
    """Nothing was taken."""

    code = "usage_contended"


class ClockSkew(DependencyError):
    """Nothing was taken."""

    code = "clock_skew"


class FactsMisread(DependencyError):
    code = "facts_misread"


class DatabaseNotMigrated(DependencyError):
    """*detail* says what is missing and what to run, and nothing of the server: anybody may read it."""

    code = "database_not_migrated"


class WorkspaceContended(DependencyError):
    """Nothing was done."""

    code = "workspace_contended"


class OutcomeUnknown(DependencyError):
    """Mostly it is made, and PostgreSQL waits for a replica."""

    code = "outcome_unknown"


class IdentityUnavailable(DependencyError):
    code = "identity_unavailable"


class LogUnavailable(DependencyError):
    """Raised only where an answer waits for its line. What was consumed by then stands."""

    code = "log_unavailable"
