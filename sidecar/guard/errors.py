"""What a backend meets instead of a yes, as a tree; only its leaves are raised.

GuardError
├── Denied                the sidecar says no: what the end user gets, and what would help
├── Unavailable           there is no answer: 503 for the end user, never a yes and never a plausible no
├── Refused               the sidecar rejects this request: a mistake in the backend
├── Misconfigured         a guard asks for a name that plans.yaml does not declare: a mistake in the backend
├── Conflict              the hold or the idempotency key was used differently before
├── Unauthenticated       the end user's request names no user
├── BadRequest            the end user's request names no workspace, or one that is not valid
└── Repeated              a duplicate: a request with this idempotency key was carried out before
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.guard.answers import Decision, Upgrade


class GuardError(Exception):
    """*shows_limits*: the end user's response is to tell the limits, as RateLimit header fields."""

    shows_limits = False


class Denied(GuardError):
    """*reason* is stable, *message* is for people; *retry_after* (seconds) is there where waiting helps.

    *decision* is the whole answer, None where there was none to read: a stranger's entitlements.
    """

    def __init__(self, status: int, reason: str, message: str, *, decision: Decision | None = None) -> None:
        super().__init__(f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.decision = decision

    @property
    def upgrade(self) -> tuple[Upgrade, ...]:
        return () if self.decision is None else self.decision.upgrade

    @property
    def retry_after(self) -> int | None:
        return None if self.decision is None else self.decision.retry_after


class Unavailable(GuardError):
    """*code* is that of the sidecar's problem, or ``sidecar_unreachable`` or ``sidecar_misbehaved``.

    *uncertain*: the request may have taken effect all the same.
    """

    def __init__(self, code: str, detail: str, *, uncertain: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.uncertain = uncertain


class Refused(GuardError):
    """*code* is that of the sidecar's problem; *errors* are its ``(pointer, detail)``."""

    def __init__(
        self, status: int, code: str, detail: str, *, errors: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__("; ".join([f"{status} {code}: {detail}", *(f"{at} {why}" for at, why in errors)]))
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors


class Misconfigured(GuardError):
    """The text says which name, and which is the nearest that is declared."""


class Conflict(GuardError):
    """*code* is that of the sidecar's problem, for example ``reservation_expired``."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Unauthenticated(GuardError):
    pass


class BadRequest(GuardError):
    pass


class Repeated(GuardError):
    pass
