"""An event of Stripe as a value: the fields of it that are read, and no others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sidecar.errors import Problem
from sidecar.text import shapes
from sidecar.text.encoding import document_from
from sidecar.text.shapes import Flag, ListOf, OneOf, Open, Text, Whole
from sidecar.workspaces.subscriptions import STATUSES

if TYPE_CHECKING:
    from sidecar.workspaces.subscriptions import SubscriptionStatus

TYPES = frozenset(
    f"customer.subscription.{what}" for what in ("created", "updated", "deleted", "paused", "resumed")
)
INCOMPLETE = ("incomplete", "incomplete_expired")  # nobody has paid yet, or ever will
_LAST_SECOND = 253_402_300_799  # of year 9999, in seconds since 1970
_MOST_ITEMS = 100  # Stripe sells 20 at most
_LONGEST_METADATA = 500
_MOST_BOUGHT = 10**9
_TIME = Whole(0, _LAST_SECOND)
_ITEM = Open(
    {"price": Open({"id": Text()}, required=("id",)), "quantity": Whole(0, _MOST_BOUGHT)}, ("price",)
)
_SUBSCRIPTION = Open(
    {
        "id": Text(),
        "status": OneOf((*STATUSES, *INCOMPLETE)),
        "metadata": Open({"workspace": Text(_LONGEST_METADATA, shortest=0)}),
        "trial_end": _TIME,
        "billing_cycle_anchor": _TIME,
        "items": Open({"data": ListOf(_ITEM, longest=_MOST_ITEMS, shortest=0)}, required=("data",)),
    },
    required=("id", "status", "items"),
)
EVENT = Open({"id": Text(), "type": Text(), "livemode": Flag()}, required=("id", "type", "livemode"))
_NEWS = Open(
    {"created": _TIME, "data": Open({"object": _SUBSCRIPTION}, required=("object",))},
    required=("created", "data"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """*document* is all of it."""

    id: str
    type: str
    livemode: bool
    document: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What an event says of a subscription. *items* are prices, each with its quantity.

    *workspace* is empty where the metadata names none. *read* is the hash of all that is read of the event.
    """

    subscription: str
    status: str
    customer: str | None
    workspace: str
    trial_ends_at: datetime | None
    billing_anchor: datetime | None
    items: tuple[tuple[str, int | None], ...]
    as_of: datetime
    read: str


def event_in(raw: bytes) -> Event:
    """BadQuestion for what is no event."""
    document = document_from(raw)
    if problems := shapes.problems_with(document, EVENT):
        raise shapes.refusal(problems)
    if not isinstance(document, dict):
        raise TypeError("an event is an object")
    return Event(id=document["id"], type=document["type"], livemode=document["livemode"], document=document)


def news_in(event: Event) -> News:
    """BadQuestion for an event of a subscription that is not as Stripe documents it."""
    if problems := shapes.problems_with(event.document, _NEWS):
        raise shapes.refusal(problems)
    created, subscription = event.document["created"], event.document["data"]["object"]
    trial_end = subscription.get("trial_end")
    if subscription["status"] == "trialing" and trial_end is None:
        problem = Problem(pointer="/data/object/trial_end", detail="is required where the status is trialing")
        raise shapes.refusal((problem,))
    metadata = subscription.get("metadata") or {}
    anchor = subscription.get("billing_cycle_anchor")
    items = tuple((each["price"]["id"], each.get("quantity")) for each in subscription["items"]["data"])
    customer = subscription.get("customer")
    read = (
        event.type,
        event.livemode,
        created,
        *(subscription["id"], subscription["status"], customer, sorted(metadata.items())),
        *(trial_end, anchor, items),
    )
    return News(
        subscription=subscription["id"],
        status=subscription["status"],
        customer=customer if isinstance(customer, str) and not shapes.fault_in_text(customer) else None,
        workspace=metadata.get("workspace") or "",
        trial_ends_at=_moment(trial_end),
        billing_anchor=_moment(anchor),
        items=items,
        as_of=datetime.fromtimestamp(created, UTC),
        read=sha256(json.dumps(read).encode()).hexdigest(),
    )


def status_of(news: News) -> SubscriptionStatus | None:
    """None while nobody has paid for the first time."""
    return next((status for status in STATUSES if status == news.status), None)


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
