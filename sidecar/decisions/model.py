"""The frozen values that a question becomes on its way to a decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from sidecar.text.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sidecar.catalog.catalog import Price
    from sidecar.decisions.timings import Timings

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Mode = Literal["check", "consume", "reserve"]
ReservationState = Literal["held", "committed", "released", "expired"]


@value
class Question:
    """*workspace* is a UUID's canonical text or a slug; *amounts* None means what the action takes."""

    user: str
    workspace: str
    action: str
    mode: Mode = "check"
    amounts: Mapping[str, int] | None = None
    idempotency_key: str | None = None
    resource: str | None = None
    ttl_s: int = 60
    context: Mapping[str, Json] = field(default_factory=dict)


@value
class Usage:
    """What one workspace has used of one meter in the period that *at* of its Facts falls in.

    *frees_at* is when the first of what is reserved ends; None if nothing is, or it was not asked for.
    """

    used: int
    reserved: int
    resets_at: datetime | None
    frees_at: datetime | None = None


@value
class Facts:
    """What the database says of a member in their workspace; of anybody else it says None, not Facts.

    *limit_overrides* holds None for unlimited; *usage* has every meter of the catalog. *seats* are limits by
    the workspace's subscription: they hold in the present plan, in place of its own. *token* is made by the
    store of facts. The ledger and the store of people get it back, to see whether anything has changed
    since; it means nothing to anybody else. *version* is the workspace's, for the log; None where the store
    counts none. *lag_ms* is there where a replica answered: they lack nothing that is older than that.
    """

    workspace_id: UUID
    slug: str
    name: str
    role: str
    plan: str
    status: str
    feature_overrides: Mapping[str, bool]
    limit_overrides: Mapping[str, int | None]
    usage: Mapping[str, Usage]
    at: datetime
    token: object
    version: int | None = None
    seats: Mapping[str, int] = field(default_factory=dict)
    lag_ms: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Members of one workspace by user id, each with their role; *facts* are the first one's, if any."""

    facts: Facts | None
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """An overridden limit, None for unlimited; *ends_in_s* is None if it does not end."""

    limit: int | None
    ends_in_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToCome:
    """What of one meter ends by itself; times are in whole seconds from now, rounded up.

    *held* is what is reserved: pairs of the seconds to its end and the amount, ordered by time.
    """

    used: int
    resets_in_s: int | None
    held: tuple[tuple[int, int], ...] = ()
    override: Override | None = None


@value
class Room:
    """The plans in which every amount of a question fits now, by name; unsold ones too.

    *waiting_helps* is whether it would fit into the present plan after resets and ends of reservations:
    false where it fits now, and where the plan is not declared.
    """

    fits_in: tuple[str, ...]
    waiting_helps: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a policy sees. None stands for what is not declared, or not a stranger's to know.

    *room* is None where the action takes nothing.
    """

    action: str | None
    role: str | None
    plan: str | None
    status: str | None
    feature_overrides: Mapping[str, bool] = field(default_factory=dict)
    room: Room | None = None
    context: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the policy answers about a situation; *charges* maps a meter to the plan's limit.

    *upgrade* are the plans in which it would be granted now. *waiting_helps*: in the present plan it would be
    granted later.
    """

    allow: bool
    reason: str
    status: int
    charges: Mapping[str, int | None]
    upgrade: tuple[str, ...]
    waiting_helps: bool
    needs_roles: tuple[str, ...]
    needs_feature: str | None
    detail: str | None
    revision: str

    def __bool__(self) -> bool:
        # A dataclass is truthy: without this, `if verdict:` would allow everyone.
        return self.allow


@value
class Quota:
    """One meter as a caller sees it; None of *limit* and *remaining* is unlimited.

    *frees_at* is when a reservation ends and *remaining* grows; None if none does, or it is not known.
    """

    limit: int | None
    used: int
    reserved: int
    resets_at: datetime | None
    frees_at: datetime | None = None

    @property
    def grows_at(self) -> datetime | None:
        """When *remaining* grows next, as far as is known; None if nothing restarts or ends."""
        if self.frees_at is None or self.resets_at is None:
            return self.frees_at or self.resets_at
        return min(self.frees_at, self.resets_at)

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used - self.reserved)

    @property
    def over_by(self) -> int:
        return 0 if self.limit is None else max(0, self.used + self.reserved - self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Quota that is held until it is committed, released, or *expires_at*; *amounts* by meter."""

    id: str
    expires_at: datetime
    amounts: Mapping[str, int]
    state: ReservationState


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    plan: str
    title: str
    price: Price


@value
class Decision:
    """The answer to one question: the verdict, in words, with the facts that led to it.

    *role*, *plan*, *workspace_id* and *slug* are None for a stranger; *quota* is None where the action takes
    nothing or the reason has nothing to do with quota; *retry_after_s* is there where waiting helps. *quota*
    is as it is after the effect, if there was one; *replayed* says that there was none, since there had been
    before.
    *situation* is what the policy was asked, in canonical bytes; *timings* are this question's own. *texts*
    is shared by all decisions that differ in figures, ids and times alone, for whoever renders them to keep
    what is the same; None where a decision is one of its own. *facts*, a member's, are those that it was
    decided by, before any effect; *amounts* are what it takes of each meter.
    """

    verdict: Verdict
    situation: bytes
    message: str
    role: str | None
    plan: str | None
    workspace_id: UUID | None
    slug: str | None
    upgrade: tuple[Upgrade, ...]
    quota: Mapping[str, Quota] | None
    retry_after_s: int | None
    decision_id: str
    at: datetime
    timings: Timings = field(compare=False)
    cached: bool = False
    reservation: Reservation | None = None
    replayed: bool = False
    texts: dict[str, bytes] | None = field(default=None, compare=False, repr=False)
    facts: Facts | None = field(default=None, compare=False, repr=False)
    amounts: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def allowed(self) -> bool:
        return self.verdict.allow

    def __bool__(self) -> bool:
        # As in Verdict: a decision is as true as what it says.
        return self.allowed
