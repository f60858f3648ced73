"""Stripe's webhook: a signed event of a subscription is kept like news that an administrator tells."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.api import wire
from sidecar.api.audience import Audience
from sidecar.api.billing.event import EVENT, TYPES, event_in, news_in, status_of
from sidecar.api.endpoint import CHANGE_OUTAGES, Endpoint
from sidecar.api.log_lines import note
from sidecar.api.reply import json_reply
from sidecar.api.service import deadline_of
from sidecar.api.v1.administration import apply_noted
from sidecar.catalog.sold import sold_by
from sidecar.errors import BillingRefused, NotServed, SidecarError, UnknownPlan, UnknownWorkspace
from sidecar.text import shapes
from sidecar.text.ids import fresh_id
from sidecar.workspaces.subscriptions import NO_PLAN, SubscriptionChange

if TYPE_CHECKING:
    from sidecar.api.billing.event import Event, News
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service, Stripe
    from sidecar.workspaces.subscriptions import SubscriptionStatus

SOURCE = "stripe"
# Stripe waits for seconds, and after a 503 it comes again minutes or hours later: rather slow.
_WITHIN = 500


def stripe_events(service: Service, request: Request) -> Reply:
    if service.stripe is None:
        raise NotServed
    try:
        result, reply = _taken(service, request, service.stripe)
    except SidecarError as error:
        service.metrics.count_stripe_event(error.code)
        raise
    service.metrics.count_stripe_event(result)
    return reply


def _taken(service: Service, request: Request, stripe: Stripe) -> tuple[str, Reply]:
    body = request.body()
    stripe.require_signed(body, request.header("Stripe-Signature"))
    event = event_in(body)
    if event.livemode != stripe.livemode:
        ours, theirs = ("live" if mode else "test" for mode in (stripe.livemode, event.livemode))
        detail = f"the event is of {theirs} mode, and {ours} mode is taken here"
        raise BillingRefused(detail, code="billing_mode_differs", about=_event_told(event))
    if event.type not in TYPES:
        return _ignored("nothing is read of this type")
    news = news_in(event)
    status = status_of(news)
    if status is None:
        return _ignored("nobody has paid for it yet")
    return _told(service, request, event, news, status)


def _told(
    service: Service, request: Request, event: Event, news: News, status: SubscriptionStatus
) -> tuple[str, Reply]:
    sold = sold_by(service.authorizer.catalog, SOURCE, news.items)
    about = _event_told(event) | _news_told(news)
    if not news.workspace and not sold.plans:
        return _ignored("it is for no workspace, and its prices are no plan's")
    if not news.workspace:
        detail = f"subscription {news.subscription} has no metadata.workspace, and a price of ours"
        raise BillingRefused(detail, code="billing_workspace_missing", about=about)
    workspace = wire.workspace_from(news.workspace)
    change = SubscriptionChange(
        subscription=news.subscription,
        plan=sold.plans[0] if len(sold.plans) == 1 else NO_PLAN,
        status=status,
        seats=sold.seats,
        trial_ends_at=news.trial_ends_at,
        billing_anchor=news.billing_anchor,
        as_of=news.as_of,
        event=event.id,
        source=SOURCE,
        known_by=news.read,
    )
    unknown = BillingRefused(
        f"metadata.workspace of subscription {news.subscription} is {shapes.shown(workspace)}",
        code="billing_workspace_unknown",
        about=about,
    )
    if shapes.fault_in_text(workspace):
        raise unknown
    try:
        reply = apply_noted(
            service, request, STRIPE_EVENTS.name, workspace, change, who=SOURCE, within=_WITHIN
        )
    except UnknownWorkspace as error:
        deadline = deadline_of(service, request, questions=_WITHIN)
        if not service.administration.was_purged(workspace, deadline=deadline):
            raise unknown from error
        _note_purged(service, request, workspace, about)
        return _ignored("the workspace was deleted for good")
    except UnknownPlan as error:
        prices = ", ".join(sorted({price for price, _ in news.items})) or "none"
        which = f"prices of {' and '.join(sold.plans)}" if sold.plans else "no price of a plan"
        detail = f"subscription {news.subscription} has {which}: {prices}"
        raise BillingRefused(detail, code="billing_plan_unknown", about=about) from error
    return "taken", reply


def _ignored(why: str) -> tuple[str, Reply]:
    return "ignored", json_reply({"ignored": True, "why": why})


def _event_told(event: Event) -> dict[str, object]:
    return {"event": event.id, "type": event.type, "livemode": event.livemode}


def _news_told(news: News) -> dict[str, object]:
    return {
        "subscription": news.subscription,
        "customer": news.customer,
        "workspace": news.workspace[: shapes.LONGEST_TEXT],
        "prices": [price for price, _ in news.items],
    }


def _note_purged(service: Service, request: Request, workspace: str, about: dict[str, object]) -> None:
    outcome = {
        "decision_id": fresh_id(),
        "who": SOURCE,
        **about,
        "workspace": workspace,
        "ignored": True,
        "status": HTTPStatus.OK,
    }
    note(service, request, STRIPE_EVENTS.name, None, outcome, kind="change")


STRIPE_EVENTS = Endpoint(
    name="stripe_events",
    method="POST",
    path="/billing/stripe",
    reply=stripe_events,
    says="Take an event of Stripe, whose signature is checked; what is not of a subscription is ignored.",
    answers="Billed",
    codes=(
        "not_found",
        "signature_invalid",
        "as_of_in_the_future",
        "event_reused",
        "billing_mode_differs",
        "billing_workspace_missing",
        "billing_workspace_unknown",
        "billing_plan_unknown",
        *CHANGE_OUTAGES,
    ),
    audience=Audience.ANYBODY,
    body=EVENT,
    body_codes=("malformed_json", "invalid_request", "body_too_large"),
    while_starting=True,
)
