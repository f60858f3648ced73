"""Subscriptions: what a biller says of one, event by event, and what the events come to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

NO_PLAN = ""  # which none is called: the store says whether the event is known, else UnknownPlan

SubscriptionStatus: TypeAlias = Literal["trialing", "active", "past_due", "unpaid", "paused", "canceled"]
STATUSES: tuple[SubscriptionStatus, ...] = (
    "trialing",
    "active",
    "past_due",
    "unpaid",
    "paused",
    "canceled",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionChange:
    """All that a biller knows of *subscription* since *as_of*; the *billing_anchor* stays where it is None.

    *event* names it within its *source*; None: the hash of what it says is its name. *known_by* stands for
    that hash, where another body is told by more than what is said here.
    """

    subscription: str = "default"
    plan: str
    status: SubscriptionStatus
    seats: int | None = None
    trial_ends_at: datetime | None = None
    billing_anchor: datetime | None = None
    as_of: datetime
    event: str | None = None
    source: str = "api"
    known_by: str | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says, in hexadecimal digits: the same however it was written."""
        if self.known_by is not None:
            return self.known_by
        times = (self.trial_ends_at, self.billing_anchor, self.as_of)
        said = (self.subscription, self.plan, self.status, self.seats, *(_text(each) for each in times))
        return sha256(json.dumps(said).encode()).hexdigest()

    @property
    def name(self) -> str:
        return self.fingerprint if self.event is None else self.event


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscription as it is stored. *past_due_since* is where its grace begins."""

    subscription: str
    plan: str
    status: SubscriptionStatus
    seats: int | None
    trial_ends_at: datetime | None
    past_due_since: datetime | None
    billing_anchor: datetime | None
    as_of: datetime
    event: str
    source: str


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
