"""Events as Stripe documents them, signed with its own library, and a catalog that sells its prices."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from stripe import WebhookSignature

from sidecar.api.service import Stripe
from sidecar.catalog.catalog import SoldAs
from sidecar.identity.stripe_signatures import StripeSignatures
from tests.values import the_catalog

FOLDER = Path(__file__).parent / "stripe"
SECRET, NEXT_SECRET = "whsec_of_the_tests", "whsec_that_replaces_it"
STRIPE = Stripe(require_signed=StripeSignatures([SECRET, NEXT_SECRET]).require, livemode=False)
PRICES = {"starter": ("price_starter",), "pro": ("price_pro",), "team": ("price_team", "price_seat")}
CREATED, UPDATED = "customer.subscription.created", "customer.subscription.updated"


def a_catalog_that_sells():
    """The shipped one; the price_seat of team sells seats."""
    catalog = the_catalog()
    plans = {
        name: replace(
            plan,
            sold_as=tuple(
                SoldAs(biller="stripe", price=price, seats=price == "price_seat") for price in PRICES[name]
            ),
        )
        for name, plan in catalog.plans.items()
    }
    return replace(catalog, plans=plans)


def an_event(kind: str = CREATED, workspace: str | None = None, **changed: Any) -> dict[str, Any]:
    """The committed one; *changed* are fields of its subscription, but for `prices` and those of the event.

    `prices` are pairs of a price and its quantity.
    """
    event: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text())
    subscription = event["data"]["object"]
    subscription["metadata"] = {} if workspace is None else {"workspace": workspace}
    for name in ("id", "created", "livemode", "pending_webhooks", "type"):
        if name in changed:
            event[name] = changed.pop(name)
    if "prices" in changed:
        [item] = subscription["items"]["data"]
        subscription["items"]["data"] = [
            item | {"price": item["price"] | {"id": price}, "quantity": quantity}
            for price, quantity in changed.pop("prices")
        ]
    if "subscription" in changed:
        subscription["id"] = changed.pop("subscription")
    assert set(changed) <= set(subscription), "a field that Stripe does not document"
    subscription.update(changed)
    return event


def signature_of(body: str, *, secret: str = SECRET, ago: int = 0) -> str:
    header: str = WebhookSignature.generate_signature_header(body, secret, int(time.time()) - ago)
    return header


def send(client, event: dict[str, Any], *, secret: str = SECRET, ago: int = 0):
    body = json.dumps(event, indent=2)
    return client.post(
        "/billing/stripe",
        data=body.encode(),
        content_type="application/json; charset=utf-8",
        headers={"Stripe-Signature": signature_of(body, secret=secret, ago=ago)},
    )
