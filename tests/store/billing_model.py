"""What a history of subscriptions comes to, in plain Python: the model that SQL is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

LATER_OF_EQUALS = ("trialing", "active", "past_due", "paused", "unpaid", "canceled")
BEST_FIRST = ("active", "trialing", "past_due", "paused", "unpaid", "canceled")


@dataclass(frozen=True)
class Event:
    subscription: str
    plan: str
    status: str
    as_of: datetime
    event: str
    source: str = "api"
    seats: int | None = None
    trial_ends_at: datetime | None = None
    billing_anchor: datetime | None = None

    @property
    def order(self):
        return (self.as_of, LATER_OF_EQUALS.index(self.status), self.event, self.source)


@dataclass(frozen=True)
class Given:
    """By administrators: the plan that it was made with has no date."""

    plan: str = "starter"
    plan_as_of: datetime | None = None
    status: str = "active"


@dataclass(frozen=True)
class Meaning:
    """As `billing` of plans.yaml: None is suspended."""

    grace_days: int
    past_due: str | None
    unpaid: str | None
    paused: str | None
    canceled: str | None
    trial: str | None


@dataclass(frozen=True)
class State:
    plan: str
    status: str
    seats: int | None


def subscriptions_of(events):
    """The last event of each subscription in the order of the fold, and since when it is past due."""
    found: dict[str, tuple[Event, datetime | None]] = {}
    for each in sorted(events, key=lambda event: event.order):
        _, since = found.get(each.subscription, (None, None))
        found[each.subscription] = (
            each,
            (since or each.as_of) if each.status == "past_due" else None,
        )
    return found


def anchor_of(events):
    named = [each for each in sorted(events, key=lambda event: event.order) if each.billing_anchor]
    return named[-1].billing_anchor if named else None


def state_of(events, given: Given, meaning: Meaning, *, at: datetime) -> State:
    candidates = []
    for last, since in subscriptions_of(events).values():
        ended = None
        if last.status == "trialing" and last.trial_ends_at <= at:
            ended = "trial"
        elif last.status == "past_due" and since + timedelta(days=meaning.grace_days) <= at:
            ended = "past_due"
        elif last.status in {"paused", "unpaid", "canceled"}:
            ended = last.status
        place = BEST_FIRST.index("canceled" if ended == "trial" else last.status)
        candidates.append((-place, last.as_of, last.event, last.subscription, last, ended))
    if not candidates:
        return State(given.plan, given.status, None)
    *_, best, ended = max(candidates, key=lambda each: each[:4])
    outcome = getattr(meaning, ended) if ended else best.plan
    suspended = given.status == "suspended" or outcome is None
    plan, seats = outcome or best.plan, best.seats if ended is None else None
    if given.plan_as_of is not None and given.plan_as_of > best.as_of:
        plan, seats = given.plan, None
    return State(plan, "suspended" if suspended else "active", seats)
