"""Stripe's webhook over a real database: a fold over signed events, whatever their order."""

from __future__ import annotations

import time
from random import Random
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.stripe_events import CREATED, STRIPE, UPDATED, a_catalog_that_sells, an_event, send
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres

DAY = 86_400
SOME_TIME = int(time.time()) - 30 * DAY


@pytest.fixture(scope="module")
def stage(database_url):
    with a_people_stage(database_url, catalog=a_catalog_that_sells(), stripe=STRIPE) as stage:
        yield stage


def an_id():
    return f"evt_{uuid4().hex}"


def state_of(stage, workspace):
    [found] = stage.rows("SELECT plan_tier, status FROM authz.workspaces_now WHERE slug = %s", workspace)
    return found


def test_what_was_bought_is_what_holds_and_the_outbox_says_who_told_it(stage):
    shop = stage.workspace("starter")
    event = an_event(workspace=shop, id=an_id(), created=SOME_TIME)

    answer = send(stage.client, event)

    assert (answer.status_code, answer.json["plan"], answer.json["applied"]) == (200, "pro", True)
    assert state_of(stage, shop) == ("pro", "active")
    assert {(actor, kind) for actor, kind, _, _ in stage.outbox(shop)[-2:]} == {("stripe", "caller")}


def test_a_resent_event_is_replayed_and_one_that_says_another_thing_is_409(stage):
    shop, id_ = stage.workspace("starter"), an_id()
    first = an_event(workspace=shop, id=id_, created=SOME_TIME)
    send(stage.client, first)

    again = send(stage.client, first | {"pending_webhooks": 0, "api_version": "2027-01-01"})
    other = send(stage.client, an_event(workspace=shop, id=id_, created=SOME_TIME, status="past_due"))

    assert (again.status_code, again.json["replayed"], again.json["applied"]) == (200, True, False)
    assert (other.status_code, other.json["code"]) == (409, "event_reused")


@pytest.mark.parametrize("price", ["price_pro", "price_team"])
def test_a_resent_event_is_replayed_though_its_price_is_another_plans_or_no_plans_by_now(stage, price):
    shop = stage.workspace("starter")
    event = an_event(workspace=shop, id=an_id(), created=SOME_TIME, prices=[(price, 1)])
    send(stage.client, event)
    plans = stage.service.authorizer.catalog.plans
    sold = {name: plan.sold_as for name, plan in plans.items()}
    assert sold["pro"]

    try:
        for plan in plans.values():
            object.__setattr__(plan, "sold_as", sold["pro"] if plan.name == "starter" else ())
        again = send(stage.client, event)
        new = send(stage.client, event | {"id": an_id()})
    finally:
        for name, plan in plans.items():
            object.__setattr__(plan, "sold_as", sold[name])

    assert (again.status_code, again.json["replayed"]) == (200, True)
    assert new.status_code == (200 if price == "price_pro" else 422)


def test_an_event_with_prices_of_two_plans_changes_nothing(stage):
    shop = stage.workspace("starter")
    prices = [("price_pro", 1), ("price_team", 1)]

    answer = send(stage.client, an_event(workspace=shop, id=an_id(), created=SOME_TIME, prices=prices))

    assert (answer.status_code, answer.json["code"]) == (422, "billing_plan_unknown")
    assert state_of(stage, shop) == ("starter", "active")


def test_an_event_that_is_to_come_is_400(stage):
    answer = send(stage.client, an_event(workspace=stage.workspace(), id=an_id(), created=32_503_680_000))

    assert (answer.status_code, answer.json["code"]) == (400, "as_of_in_the_future")


def test_a_workspace_may_be_named_by_its_external_id(stage):
    shop, id_ = stage.workspace("starter"), uuid4().hex
    stage.rows("UPDATE authz.workspaces SET external_id = %s WHERE slug = %s", id_, shop)

    answer = send(stage.client, an_event(workspace=f"ext:{id_}", id=an_id(), created=SOME_TIME))

    assert answer.json["plan"] == "pro"


def purge(stage, workspace):
    [(id_,)] = stage.rows(
        """UPDATE authz.workspaces
        SET deleted_at = now() - interval '9 days', deleted_by = 'x', members_before = '[]'
        WHERE slug = %s RETURNING id""",
        workspace,
    )
    stage.rows("SELECT authz.purge_workspaces(grace => '1 day', at_most => 100)")
    return id_


def test_news_of_a_deleted_workspace_wait_for_it_and_of_a_purged_one_are_ignored_and_logged(stage):
    shop, external = stage.workspace("starter"), uuid4().hex
    stage.rows("UPDATE authz.workspaces SET external_id = %s WHERE slug = %s", external, shop)
    stage.delete(f"{shop}-owner", f"/workspaces/{shop}")
    assert send(stage.client, an_event(workspace=shop, id=an_id(), created=SOME_TIME)).status_code == 200
    id_ = purge(stage, shop)

    for named in (shop, str(id_), f"ext:{external}"):
        stage.lines.clear()
        answer = send(stage.client, an_event(workspace=named, id=an_id(), created=SOME_TIME))

        assert (answer.status_code, answer.json["ignored"]) == (200, True), named
        [line] = stage.lines
        assert (line["ignored"], line["workspace"], line["who"]) == (True, named, "stripe")
    never = send(stage.client, an_event(workspace=str(uuid4()), id=an_id(), created=SOME_TIME))
    assert (never.status_code, never.json["code"]) == (422, "billing_workspace_unknown")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sub_a", "sub_b", "sub_c"]),
        st.sampled_from(["active", "past_due", "unpaid", "paused", "canceled"]),
        st.sampled_from(["price_starter", "price_pro", "price_team"]),
        st.integers(-6, 0),
    ),
    min_size=1,
    max_size=6,
)


@given(history=EVENTS, seed=st.integers(0, 2**16))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shuffled_repeated_and_cut_histories_end_as_the_same_in_order_does(stage, history, seed):
    random, (one, other) = Random(seed), (stage.workspace("starter"), stage.workspace("starter"))  # noqa: S311
    cut = history[: random.randint(1, len(history))]
    told = [
        {
            "id": an_id(),
            "kind": UPDATED if number else CREATED,
            "created": SOME_TIME + day * DAY,
            "subscription": subscription,
            "status": status,
            "prices": [(price, 1)],
        }
        for number, (subscription, status, price, day) in enumerate(cut)
    ]
    shuffled = told + random.choices(told, k=len(told) // 2)
    random.shuffle(shuffled)

    for each in told:
        assert send(stage.client, an_event(workspace=one, **each)).status_code == 200
    for each in shuffled:
        assert send(stage.client, an_event(workspace=other, **each)).status_code == 200

    of = """SELECT s.subscription, s.plan, s.status, s.past_due_since, s.event
        FROM authz.workspace_subscriptions AS s JOIN authz.workspaces AS w ON w.id = s.workspace_id
        WHERE w.slug = %s ORDER BY 1"""
    assert stage.rows(of, one) == stage.rows(of, other)
    assert state_of(stage, one) == state_of(stage, other)
