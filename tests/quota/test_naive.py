"""Each way in which the version that one would write first fails: the hazards are real.

Every scenario is played twice, with naive.sql and with the product.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from time import sleep
from uuid import uuid4

import psycopg
import pytest

from tests.postgres_server import rows, run
from tests.quota.place import at_once, together

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def naive_schema(quota_url):
    run(quota_url, Path(__file__).with_name("naive.sql").read_text())


@pytest.fixture
def naive(naive_schema, place):
    return Naive(place.url)


class Naive:
    """A workspace of its own; *used* is what its counter says."""

    def __init__(self, url):
        self.url = url
        self.workspace = uuid4().hex

    def begin(self, *meters, workspace=None):
        self.workspace = workspace or self.workspace
        for meter in meters or ["minutes"]:
            rows(
                self.url, "INSERT INTO naive.counters VALUES (%s, %s, '-infinity', 0)", self.workspace, meter
            )
        return self

    def call(self, function, *arguments):
        [(answer,)] = rows(
            self.url,
            f"SELECT naive.{function}({', '.join(['%s'] * (1 + len(arguments)))})",
            self.workspace,
            *arguments,
        )
        return answer

    @property
    def used(self):
        return rows(
            self.url, "SELECT used FROM naive.counters WHERE workspace = %s ORDER BY meter", self.workspace
        )[0][0]


def test_whoever_looks_first_and_then_acts_sells_more_than_there_is(place, naive):
    naive.begin()
    acme = place.workspace("small")

    at_once(32, lambda _: naive.call("check_then_act", 1, 10))
    at_once(32, lambda _: place.ask("record", acme))

    assert naive.used > 10
    assert place.used(acme, "minutes") == 10


def test_the_guard_of_an_upsert_does_not_guard_its_insert(place, naive):
    acme = place.workspace("small")

    assert naive.call("unguarded_insert", 11, 10) is True
    assert naive.used == 11
    assert not place.ask("record", acme, amounts={"minutes": 11}).allowed


def test_a_key_in_the_same_statement_stays_though_nothing_was_taken(place, naive):
    naive.begin()
    acme = place.workspace("small")
    ask = partial(place.ask, "record", acme, amounts={"minutes": 11}, idempotency_key="k")

    assert [naive.call("key_in_one_statement", "k", 11, at_most) for at_most in (10, 100)] == [
        "refused",
        "repeated",
    ]
    assert naive.used == 0
    denied = ask()
    place.set_plan(acme, "large")
    assert (denied.allowed, ask().replayed, place.used(acme, "minutes")) == (False, False, 11)


def test_a_key_that_is_looked_up_before_the_effect_is_charged_twice(place, naive):
    naive.begin()
    acme = place.workspace("large")

    at_once(32, lambda _: naive.call("key_looked_up_first", "k", 1))
    at_once(32, lambda _: place.ask("record", acme, idempotency_key="k"))

    assert naive.used > 1
    assert place.used(acme, "minutes") == 1


def test_a_period_that_is_read_before_the_lock_is_over_when_it_is_charged(place, naive):
    naive.begin()
    acme = place.workspace("small", subscribed="clock_timestamp() + interval '1 second'")
    [(resets_at,)] = place.sql("SELECT subscribed_at FROM authz.workspaces WHERE id = %s", acme.id)
    place.ask("bill", acme)
    with psycopg.connect(place.url) as holder:
        holder.execute("SELECT 1 FROM naive.counters WHERE workspace = %s FOR UPDATE", (naive.workspace,))
        holder.execute("SELECT 1 FROM authz.workspace_usage WHERE workspace_id = %s FOR UPDATE", (acme.id,))
        waiting = threading.Thread(
            target=together,
            args=(
                partial(naive.call, "period_before_the_lock", resets_at, 1),
                partial(place.ask, "bill", acme),
            ),
        )
        waiting.start()
        sleep(1.2)
    waiting.join()

    charged_to = "SELECT period_start = %s FROM {} WHERE used = 1 AND {} = %s"
    in_naive = charged_to.format("naive.counters", "workspace")
    in_ours = charged_to.format("authz.workspace_usage", "workspace_id")
    assert place.sql(in_naive, resets_at, naive.workspace) == [(False,)]
    assert place.sql(in_ours, resets_at, acme.id) == [(True,)]


def test_holds_that_wait_for_a_sweeper_are_in_the_way_while_it_sleeps(place, naive):
    naive.begin()
    acme = place.workspace("small")
    assert naive.call("held_until_swept", 10, 10) is True
    assert place.ask("record", acme, "reserve", amounts={"minutes": 10}, ttl_s=1).allowed
    sleep(1.05)

    assert naive.call("held_until_swept", 1, 10) is False
    assert place.ask("record", acme, "reserve", amounts={"minutes": 10}).allowed


def test_a_version_that_is_not_locked_lets_somebody_spend_after_their_removal(place, naive):
    acme = place.workspace("small")
    naive.begin(workspace=str(acme.id))
    remove = "DELETE FROM authz.workspace_memberships WHERE workspace_id = %s"
    take = """SELECT authz.take(%s, %s, 'mia', 'record', '{minutes}', '{1}', '{10}', NULL, NULL, '',
        NULL, NULL, 'd', 'r', '{}') ->> 'outcome'"""
    [(version,)] = place.sql("SELECT facts_version FROM authz.workspaces WHERE id = %s", acme.id)

    with psycopg.connect(place.url) as spender, psycopg.connect(place.url, autocommit=True) as remover:
        remover.execute("SET lock_timeout = '200ms'")
        assert spender.execute(take, (acme.id, version)).fetchone() == ("taken",)
        with pytest.raises(psycopg.errors.LockNotAvailable):  # they are removed after they have spent
            remover.execute(remove, (acme.id,))
        spender.commit()

        spender.execute("SELECT naive.version_not_locked(%s, %s)", (acme.id, version))
        remover.execute(remove, (acme.id,))  # they are removed, and spend when the other one commits
        spender.commit()

    assert naive.used == 1
    assert place.sql(take, acme.id, version) == [("stale",)]


def test_meters_that_are_locked_as_they_come_end_in_a_circle(place, naive):
    naive.begin("daily", "minutes")
    acme = place.workspace("small")
    names = [["daily", "minutes"], ["minutes", "daily"]]

    answers = together(*[partial(naive.call, "meters_as_they_come", order) for order in names])
    ours = together(*[partial(place.ask, "host", acme, amounts=dict.fromkeys(order, 1)) for order in names])

    assert psycopg.errors.DeadlockDetected in [type(answer) for answer in answers]
    assert [each.allowed for each in ours] == [True, True]


def test_meters_that_are_taken_each_for_itself_are_taken_in_part(place, naive):
    naive.begin("daily", "minutes")
    acme = place.workspace("small")
    place.ask("record", acme, amounts={"minutes": 10})

    assert naive.call("each_for_itself", ["daily", "minutes"], [10, 0]) is False
    assert not place.ask("host", acme).allowed
    assert (naive.used, place.used(acme, "daily")) == (1, 0)


def test_a_period_that_is_counted_from_the_one_before_drifts(place, naive_schema):
    naive, ours = "'2023-01-31Z'::timestamptz", "'2023-01-31Z'::timestamptz"
    for _ in range(2):
        naive = f"naive.next_period({naive})"
        ours = f"upper(authz.period_of('month', '2023-01-31Z', {ours}))"

    assert place.sql(f"SELECT extract(day FROM {naive})::int, extract(day FROM {ours})::int") == [(28, 31)]
