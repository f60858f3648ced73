"""What the ledger is asked to charge, and what it answers: frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sidecar.decisions.model import Decision, Facts, Question, Quota, Reservation, ReservationState, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """The one counter that is to be charged, as the decision saw it: with room, and nothing held of it.

    *limit* is what holds in the workspace, overridden or not; *resets_at* is the end of its period, if any.
    """

    limit: int | None
    resets_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consume:
    """The amounts are used now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The amounts are held under the new reservation *id* for *ttl_s* seconds."""

    id: str
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LateCommit:
    """The amounts are used now, to commit the reservation *id*, which has expired."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What the ledger is to charge, and what for.

    *limits* are the verdict's, of the meters of *amounts*; *token* is that of the facts the verdict was made
    from. *frees_at* is when the first reservation of a meter ends, of meters that have one. It is stored, as
    *role*, *plan* and *message* are, for a duplicate is answered with them. With a *counter* the ledger may
    try one fast update first; it applies only if the counter is still as described.
    """

    workspace_id: UUID
    token: object
    user: str
    action: str
    amounts: Mapping[str, int]
    limits: Mapping[str, int | None]
    resource: str | None
    key: str | None
    fingerprint: str
    purpose: Consume | Hold | LateCommit
    decision_id: str
    revision: str
    role: str
    plan: str
    message: str
    frees_at: Mapping[str, datetime] = field(default_factory=dict)
    counter: Counter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    quota: Mapping[str, Quota]
    reservation: Reservation | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The same request was charged before, by the decision *decision_id*: the answer given then.

    With *now* what was charged has changed since: it has the figures to tell, and *at* is their time.
    """

    decision_id: str
    revision: str
    role: str
    plan: str
    message: str
    quota: Mapping[str, Quota]
    reservation: Reservation | None
    at: datetime
    frees_at: Mapping[str, datetime] = field(default_factory=dict)
    now: UsageNow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyExists:
    """The resource exists already, since the decision *decision_id*."""

    decision_id: str
    revision: str
    now: UsageNow


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCapacity:
    """Nothing was charged; *facts* are as the ledger saw them."""

    facts: Facts


class Conflict(Enum):
    """Nothing was charged: something else happened first."""

    STALE = "stale"  # the workspace has changed since the facts were read
    SETTLED = "settled"  # the reservation of a LateCommit was committed or released


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageNow:
    """A workspace's plan, its overridden limits, and the usage of some meters, after an effect."""

    plan: str
    limit_overrides: Mapping[str, int | None]
    usage: Mapping[str, Usage]
    seats: Mapping[str, int] = field(default_factory=dict)  # nobody takes what they limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A reservation that was committed or released; *committed* is None if it was released.

    *late* is the question that a commit after its time was, and the decision that allowed it.
    """

    reservation: Reservation
    committed: Mapping[str, int] | None
    now: UsageNow
    replayed: bool
    late: tuple[Question, Decision] | None = None

    @property
    def state(self) -> ReservationState:
        return self.reservation.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A reservation whose time is over: to commit *amounts* of it is a new question."""

    workspace_id: UUID
    user: str
    action: str
    resource: str | None
    amounts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBack:
    released: Mapping[str, int]
    now: UsageNow
    replayed: bool
