"""Stripe's webhook, on the stage: what is signed, what is read, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from werkzeug.test import Client

from sidecar.api.billing.stripe import STRIPE_EVENTS
from sidecar.errors import FactsUnavailable
from sidecar.serving.application import Application
from tests.api.stage import a_stage
from tests.api.stripe_events import (
    NEXT_SECRET,
    STRIPE,
    UPDATED,
    a_catalog_that_sells,
    an_event,
    send,
    signature_of,
)

KIB = 1024


@pytest.fixture
def stage():
    return a_stage(catalog=a_catalog_that_sells(), stripe=STRIPE)


def result_of(stage, result):
    return stage.metrics.registry.get_sample_value("sidecar_stripe_events_total", {"result": result})


def refused(stage, answer, status, code):
    """Whether it is refused so, counted, and in a line of the log."""
    stage.metrics.publish()
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert result_of(stage, code) == 1
    [line] = stage.lines
    assert (line["kind"], line["endpoint"], line["code"]) == ("problem", "stripe_events", code)
    assert stage.workspaces.asked == () or code == "billing_workspace_unknown"
    return line


def test_without_a_secret_there_is_nothing_here():
    answer = send(a_stage().client, an_event(workspace="acme"))

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_an_event_of_a_subscription_is_news_of_it(stage):
    answer = send(stage.client, an_event(workspace="acme"))

    assert (answer.status_code, answer.json["applied"]) == (200, True)
    assert answer.json["subscription"] == {
        "subscription": "sub_1SXdemo0000000000000001",
        "plan": "pro",
        "status": "active",
        "seats": None,
        "trial_ends_at": None,
        "past_due_since": None,
        "billing_anchor": "2026-11-28T09:00:00Z",
        "as_of": "2026-11-28T09:00:02Z",
        "event": "evt_1SXdemo0000000000000001",
        "source": "stripe",
    }
    [line] = stage.lines
    assert (line["kind"], line["who"], line["workspace"]) == ("change", "stripe", "acme")
    assert line["what"]["event"] == "evt_1SXdemo0000000000000001"
    stage.metrics.publish()
    assert result_of(stage, "taken") == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (UPDATED, "past_due"),
        ("customer.subscription.deleted", "canceled"),
        ("customer.subscription.paused", "paused"),
        ("customer.subscription.resumed", "active"),
    ],
)
def test_each_kind_of_event_says_the_status(stage, kind, status):
    answer = send(stage.client, an_event(kind, workspace="acme"))

    assert answer.json["subscription"]["status"] == status


def test_a_trial_has_the_end_that_stripe_says(stage):
    answer = send(stage.client, an_event(workspace="acme", status="trialing", trial_end=1_797_000_000))

    assert answer.json["subscription"]["trial_ends_at"] == "2026-12-11T14:40:00Z"


@pytest.mark.parametrize(
    ("prices", "plan", "seats"),
    [
        ([("price_team", 1)], "team", None),
        ([("price_team", 1), ("price_seat", 7)], "team", 7),
        ([("price_seat", 7), ("price_team", 1)], "team", 7),
        ([("price_seat", 7), ("price_seat", 5)], "team", 12),
        ([("price_seat", 0)], "team", 0),
        ([("price_seat", None)], "team", None),
        ([("price_pro", 3)], "pro", None),
        ([("price_pro", 1), ("price_pro", 1)], "pro", None),
        ([("price_of_something_else", 9), ("price_pro", 1)], "pro", None),
    ],
)
def test_prices_of_one_plan_are_that_plan_and_quantities_of_seat_prices_add_up(stage, prices, plan, seats):
    stored = send(stage.client, an_event(workspace="acme", prices=prices)).json["subscription"]

    assert (stored["plan"], stored["seats"]) == (plan, seats)


@pytest.mark.parametrize(
    "prices", [[("price_other", 1)], [], [("price_pro", 1), ("price_team", 1)]], ids=["none", "empty", "two"]
)
def test_no_price_of_ours_and_prices_of_two_plans_are_422(stage, prices):
    answer = send(stage.client, an_event(workspace="acme", prices=prices))

    line = refused(stage, answer, 422, "billing_plan_unknown")
    assert line["prices"] == [price for price, _ in prices]
    assert line["subscription"] in answer.json["detail"]


def test_a_price_of_ours_without_a_workspace_is_422(stage):
    line = refused(stage, send(stage.client, an_event()), 422, "billing_workspace_missing")

    assert (line["customer"], line["event"]) == ("cus_TUdemo00000001", "evt_1SXdemo0000000000000001")


@pytest.mark.parametrize("workspace", ["nowhere", "x" * 300])
def test_a_workspace_that_names_nothing_is_422(stage, workspace):
    refused(stage, send(stage.client, an_event(workspace=workspace)), 422, "billing_workspace_unknown")


@pytest.mark.parametrize(
    "event",
    [
        an_event(prices=[("price_other", 1)]),
        an_event(workspace="", prices=[("price_other", 1)]),
        an_event(workspace="acme", status="incomplete"),
        an_event(workspace="acme", status="incomplete_expired"),
        an_event(workspace="acme", type="customer.subscription.trial_will_end"),
        an_event("invoice.paid"),
    ],
    ids=["neither", "empty", "incomplete", "expired", "another-type", "another-object"],
)
def test_what_is_not_ours_is_ignored(stage, event):
    answer = send(stage.client, event)

    assert (answer.status_code, answer.json["ignored"]) == (200, True)
    stage.metrics.publish()
    assert result_of(stage, "ignored") == 1
    assert stage.workspaces.asked == ()


@pytest.mark.parametrize("event", [an_event(workspace="acme"), an_event("invoice.paid")], ids=["ours", "not"])
def test_an_event_of_the_other_mode_is_422_before_anything_is_ignored(stage, event):
    refused(stage, send(stage.client, event | {"livemode": True}), 422, "billing_mode_differs")


@pytest.mark.parametrize(("ago", "status"), [(290, 200), (310, 400), (-290, 200), (-310, 400)])
def test_a_signature_is_good_for_five_minutes_before_and_after(stage, ago, status):
    assert send(stage.client, an_event(workspace="acme"), ago=ago).status_code == status


def test_while_one_secret_replaces_another_both_are_taken(stage):
    assert send(stage.client, an_event(workspace="acme"), secret=NEXT_SECRET).status_code == 200


BODY = json.dumps(an_event(workspace="acme"))


# A signature is made when its test runs: it is of that moment, and good for five minutes.
NOT_SIGNED = {
    "no header": (lambda: None, BODY),
    "empty": (lambda: "", BODY),
    "no signature": (lambda: "t=1,v1=", BODY),
    "no time": (lambda: "v1=00", BODY),
    "no ASCII": (lambda: "ä", BODY),
    "neither": (lambda: "t=,v1=ä", BODY),
    "another secret": (lambda: signature_of(BODY, secret="whsec_another"), BODY),  # noqa: S106 - of tests
    "another scheme": (lambda: signature_of(BODY).replace("v1=", "v0="), BODY),
    "another body": (lambda: signature_of(BODY), BODY.replace("acme", "adam")),
    "a longer body": (lambda: signature_of(BODY), BODY + " "),
    "no JSON": (lambda: signature_of("not JSON", secret="whsec_another"), "not JSON"),  # noqa: S106 - of tests
    "no UTF-8": (lambda: signature_of("x"), b"\xff"),
}


@pytest.mark.parametrize(("header", "body"), NOT_SIGNED.values(), ids=NOT_SIGNED)
def test_what_is_not_signed_is_400_and_nothing_of_it_is_read(stage, header, body):
    said = header()
    headers = {} if said is None else {"Stripe-Signature": said}

    answer = stage.client.post("/billing/stripe", data=body, headers=headers)

    line = refused(stage, answer, 400, "signature_invalid")
    assert line["why"]
    assert "acme" not in json.dumps(stage.lines) + answer.text


def test_a_signed_body_is_taken_whatever_type_it_is_said_to_have(stage):
    headers = {"Stripe-Signature": signature_of(BODY)}

    assert stage.client.post("/billing/stripe", data=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(("size", "status"), [(256 * KIB, 200), (256 * KIB + 1, 413)])
@pytest.mark.parametrize("is_signed", [True, False])
def test_a_body_has_256_kib_at_most(stage, size, status, is_signed):
    body = BODY + " " * (size - len(BODY))
    headers = {"Stripe-Signature": signature_of(body)} if is_signed else {}

    answer = stage.client.post("/billing/stripe", data=body, headers=headers)

    assert answer.status_code == (status if is_signed or status == 413 else 400)


def without(event, *path):
    inner = event
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return event


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        (without(an_event(workspace="acme"), "livemode"), "/livemode"),
        (without(an_event(workspace="acme"), "created"), "/created"),
        (without(an_event(workspace="acme"), "data", "object", "items"), "/data/object/items"),
        (an_event(workspace="acme", status="asleep"), "/data/object/status"),
        (an_event(workspace="acme", status="trialing"), "/data/object/trial_end"),
        (an_event(workspace="acme", prices=[("price_pro", -1)]), "/data/object/items/data/0/quantity"),
        (an_event(workspace="acme", metadata={"workspace": 7}), "/data/object/metadata/workspace"),
        (an_event(workspace="acme", created=10**13), "/created"),
    ],
)
def test_an_event_that_is_not_as_documented_is_400_with_the_place(stage, event, pointer):
    answer = send(stage.client, event)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize("body", ["", "{", "[]", "7"])
def test_signed_nonsense_is_400(stage, body):
    headers = {"Stripe-Signature": signature_of(body)}

    assert stage.client.post("/billing/stripe", data=body, headers=headers).status_code == 400


def test_an_outage_is_503_and_stripe_comes_again(stage):
    def fail(*_, **__):
        raise FactsUnavailable("the database is away")

    stage.workspaces.apply = fail

    answer = send(stage.client, an_event(workspace="acme"))

    assert (answer.status_code, answer.json["code"]) == (503, "facts_unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_no_page_of_another_origin_reads_it(stage):
    listed = replace(stage.service, cors_origins=("https://app.example.com",))

    answer = Client(Application(listed)).post(
        STRIPE_EVENTS.path, headers={"Origin": "https://app.example.com"}
    )

    assert answer.status_code == 400
    assert not any(name.startswith("Access-Control") for name, _ in answer.headers)
