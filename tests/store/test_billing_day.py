"""A billing day that moves: what runs goes into the period that runs then, and what is over stays over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from sidecar.workspaces.subscriptions import SubscriptionChange
from tests.postgres_server import rows, run
from tests.values import FAR_AWAY

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture(scope="module", autouse=True)
def by_subscription(database_url):
    run(database_url, "UPDATE authz.meters SET anchor = 'subscription' WHERE name = 'minutes'")


@pytest.fixture
def shop(database_url):
    """Its months begin three days ago."""
    slug = f"d-{uuid4().hex[:10]}"
    rows(
        database_url,
        """INSERT INTO authz.workspaces (slug, name, plan_tier, subscribed_at) VALUES (%s, 'D', 'pro', %s)""",
        slug,
        NOW - 3 * DAY,
    )
    return slug


def bill(store, shop, anchor, as_of=NOW):
    change = SubscriptionChange(plan="pro", status="active", as_of=as_of, billing_anchor=anchor)
    return store.apply(shop, change, actor="ops", deadline=FAR_AWAY)


def take(url, shop, amount, *, key=None, ttl_s=None):
    with psycopg.connect(url) as connection:
        [answer] = connection.execute(
            """SELECT authz.take(w.id, w.facts_version, 'sam', 'recording.start', '{minutes}',
                ARRAY[%s]::bigint[], '{500}', NULL, %s, 'f', %s, %s, %s, 'r1', '{}')
            FROM authz.workspaces AS w WHERE w.slug = %s""",
            (amount, key, ttl_s, None if ttl_s is None else f"rsv-{uuid4()}", f"d-{uuid4()}", shop),
        ).fetchone() or (None,)
    assert answer["outcome"] == "taken", answer
    return answer


def used(url, shop):
    """What is used and reserved of the running period."""
    [(usage,)] = rows(
        url,
        """SELECT authz.quota_now(w.id, '{minutes}') -> 'usage' -> 'minutes' FROM authz.workspaces AS w
        WHERE w.slug = %s""",
        shop,
    )
    return tuple(usage[:2])


def miscounts(url, shop):
    return rows(
        url,
        "SELECT m.* FROM authz.workspaces AS w, authz.miscounts(w.id) AS m WHERE w.slug = %s",
        shop,
    )


@pytest.mark.parametrize("ago", [1, 9, 40, -5], ids=["later", "earlier", "other-month", "to-come"])
def test_what_runs_goes_into_the_running_period(database_url, store, shop, ago):
    take(database_url, shop, 7, key="k")
    held = take(database_url, shop, 5, ttl_s=600)["reservation"]

    bill(store, shop, NOW - ago * DAY)

    assert used(database_url, shop) == (7, 5)
    commit = "SELECT authz.commit_reservation(%s, NULL) ->> 'outcome'"
    assert rows(database_url, commit, held["id"]) == [("settled",)]
    assert used(database_url, shop) == (12, 0)
    [(outcome,)] = rows(database_url, "SELECT authz.refund(%s, 'k', NULL) ->> 'outcome'", shop)
    assert outcome == "given_back"
    assert used(database_url, shop) == (5, 0)
    assert miscounts(database_url, shop) == []


def test_a_day_that_moves_there_and_back_changes_nothing(database_url, store, shop):
    take(database_url, shop, 7)
    for number, ago in enumerate((1, 9, 3)):
        bill(store, shop, NOW - ago * DAY, NOW - DAY + number * timedelta(seconds=1))
        take(database_url, shop, 1)

    assert used(database_url, shop) == (10, 0)
    assert miscounts(database_url, shop) == []


def test_the_last_day_that_an_event_names_counts_whenever_it_comes(database_url, store, shop):
    bill(store, shop, NOW - 9 * DAY, NOW - DAY)
    bill(store, shop, NOW - 1 * DAY, NOW - 2 * DAY)  # comes late
    bill(store, shop, None, NOW)

    query = "SELECT subscribed_at FROM authz.workspaces WHERE slug = %s"
    assert rows(database_url, query, shop) == [(NOW - 9 * DAY,)]


def test_a_period_that_is_over_does_not_run_again(database_url, store, shop):
    """Months of different length can begin at one instant: what was used then is over all the same."""
    take(database_url, shop, 7, key="k")
    later = NOW - 1 * DAY
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """UPDATE authz.usage_ledger SET period_start = %(at)s WHERE workspace_id = %(id)s;
            """.replace("%(id)s", "(SELECT id FROM authz.workspaces WHERE slug = %(slug)s)"),
            {"at": later, "slug": shop},
        )
        connection.execute(
            """UPDATE authz.workspace_usage SET period_start = %(at)s
            WHERE workspace_id = (SELECT id FROM authz.workspaces WHERE slug = %(slug)s)""",
            {"at": later, "slug": shop},
        )
        connection.execute(
            """UPDATE authz.usage_keys SET starts = ARRAY[%(at)s::timestamptz]
            WHERE workspace_id = (SELECT id FROM authz.workspaces WHERE slug = %(slug)s)""",
            {"at": later, "slug": shop},
        )
        [id_] = (
            connection.execute("SELECT id FROM authz.workspaces WHERE slug = %s", (shop,)).fetchone() or ()
        )
        connection.execute(
            "SELECT authz.carry_usage(%s, %s, %s, %s)",
            (id_, NOW - timedelta(hours=1), later, NOW),
        )
        connection.execute("UPDATE authz.workspaces SET subscribed_at = %s WHERE id = %s", (later, id_))

    assert used(database_url, shop) == (0, 0)
    rows(database_url, "SELECT authz.refund(%s, 'k', NULL)", shop)
    assert used(database_url, shop) == (0, 0)
    assert miscounts(database_url, shop) == []
