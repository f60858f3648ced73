"""What is sold, for a page of prices: open to anybody, and the same for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.api import wire
from sidecar.api.audience import Audience
from sidecar.api.endpoint import Endpoint
from sidecar.api.etag import revalidated
from sidecar.api.reply import json_reply

if TYPE_CHECKING:
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.catalog.catalog import Catalog, Meter, Plan


def plans(service: Service, request: Request) -> Reply:
    reply = json_reply(_document(service.authorizer.catalog))
    return revalidated(reply, request, cache="public, max-age=60")


def _document(catalog: Catalog) -> dict[str, Any]:
    return {
        "currency": catalog.currency,
        "plans": [_plan(plan, catalog) for plan in catalog.plans.values() if plan.sold],
        "features": {name: {"title": feature.title} for name, feature in catalog.features.items()},
        "meters": {name: _meter(meter) for name, meter in catalog.meters.items()},
    }


def _plan(plan: Plan, catalog: Catalog) -> dict[str, Any]:
    return {
        "plan": plan.name,
        "title": plan.title,
        "price": wire.price_document(plan.price),
        "features": {name: name in plan.features for name in catalog.features},
        "limits": {name: plan.limits[name] for name in catalog.meters},
    }


def _meter(meter: Meter) -> dict[str, Any]:
    is_counter = meter.kind == "counter"
    return {"title": meter.title, "kind": "counter" if is_counter else "level", "per": meter.per}


PLANS = Endpoint(
    name="plans",
    method="GET",
    path="/plans",
    reply=plans,
    says="The plans that are sold, cheapest first, with the titles of their features and meters.",
    answers="Plans",
    audience=Audience.ANYBODY,
    while_starting=True,
    for_browsers=True,
    revalidates=True,
)
