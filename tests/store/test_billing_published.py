"""Subscriptions and a catalog that changes: other outcomes, a plan that is renamed, one that goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sidecar.catalog.catalog import Billing
from sidecar.errors import ConfigError
from sidecar.store.migrate import migrate
from tests.postgres_server import rows
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
LENIENT = Billing(
    grace_days=30, past_due="starter", unpaid="starter", paused=None, canceled=None, trial="pro"
)


@pytest.fixture
def url(fresh_database_url):
    return fresh_database_url


def tell(url, slug, plan, status, **more):
    told = {"as_of": NOW - 10 * DAY, "trial_ends_at": None, "event": status} | more
    rows(
        url,
        """SELECT authz.put_subscription(%s, 'default', %s, %s, NULL, %s, NULL, %s, %s, 'api', 'f')""",
        slug,
        plan,
        status,
        told["trial_ends_at"],
        told["as_of"],
        told["event"],
    )


def state(url, slug):
    return rows(
        url,
        "SELECT w.plan_tier, w.status, w.turns_at FROM authz.workspaces_now AS w WHERE w.slug = %s",
        slug,
    )[0]


def publish(url, catalog, revision="next", **more):
    migrate(url, catalog=catalog, revision=revision, **more)


def test_outcomes_that_change_hold_from_the_publication_on(url):
    tell(url, "acme", "team", "past_due")
    tell(url, "solo", "pro", "canceled")
    assert (state(url, "acme"), state(url, "solo")) == (
        ("team", "suspended", None),
        ("starter", "active", None),
    )

    publish(url, replace(the_catalog(), billing=LENIENT))

    assert (state(url, "acme"), state(url, "solo")) == (
        ("team", "active", NOW + 20 * DAY),
        ("pro", "suspended", None),
    )
    assert rows(url, "SELECT * FROM authz.unaccounted()") == []


def test_a_plan_that_is_renamed_is_renamed_in_all_that_is_known_of_subscriptions(url):
    catalog = the_catalog()
    tell(url, "acme", "pro", "trialing", trial_ends_at=NOW + DAY, as_of=NOW)
    rows(url, "SELECT authz.set_overrides('acme', '{\"analytics\": true}', until_plan_change => true)")
    plans = {
        "plus" if name == "pro" else name: replace(plan, name="plus", renamed_from="pro")
        if name == "pro"
        else plan
        for name, plan in catalog.plans.items()
    }

    publish(url, replace(catalog, plans=plans))

    assert state(url, "acme") == ("plus", "active", NOW + DAY)
    named = """SELECT s.plan, e.plan, f.while_plan
        FROM authz.workspace_subscriptions AS s, authz.subscription_events AS e, authz.workspace_features AS f
        WHERE f.while_plan IS NOT NULL"""
    assert rows(url, named) == [("plus", "plus", "plus")]
    assert rows(url, "SELECT * FROM authz.unaccounted()") == []


def test_a_plan_that_a_subscription_names_cannot_go_unless_it_is_canceled(url):
    catalog = the_catalog()
    rows(url, "SELECT authz.set_plan('piano', 'team')")
    tell(url, "solo", "pro", "trialing", trial_ends_at=NOW - DAY)
    without = replace(catalog, plans={name: each for name, each in catalog.plans.items() if name != "pro"})
    assert state(url, "solo")[0] == "starter"

    with pytest.raises(ConfigError, match='"pro" by 1 workspace'):
        publish(url, without, accept_loss=True)

    tell(url, "solo", "pro", "canceled", as_of=NOW - DAY)
    publish(url, without, accept_loss=True)
    assert state(url, "solo") == ("starter", "active", None)


def test_a_pruned_history_still_tells_what_will_change_by_time(url):
    tell(url, "acme", "pro", "trialing", trial_ends_at=NOW + DAY, as_of=NOW)
    rows(url, "SELECT authz.prune_history(clock_timestamp())")

    assert rows(url, "SELECT * FROM authz.unaccounted()") == []
    query = """SELECT t.plan FROM authz.workspaces_at(now() + interval '2 days') AS t
        WHERE t.slug = 'acme'"""
    assert rows(url, query) == [("starter",)]
