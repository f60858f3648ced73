"""What is taken at once: by many, by one twice, by several meters, and in the right period."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep

import psycopg
import pytest

from sidecar.errors import IdempotencyKeyReused
from tests.quota.place import Place, at_once

pytestmark = pytest.mark.postgres

THREADS = 64


def allowed(decisions):
    """An exception is no answer: none may be among them."""
    assert [each for each in decisions if isinstance(each, Exception)] == []
    return [each for each in decisions if each.allowed]


def test_of_many_at_once_exactly_as_many_are_allowed_as_there_is_room_for(place):
    acme = place.workspace("large")

    answers = at_once(THREADS, lambda _: [place.ask("record", acme) for _ in range(25)])

    assert len(allowed([each for some in answers for each in some])) == 1000
    assert place.used(acme, "minutes") == 1000


def test_of_many_amounts_at_once_none_is_lost_that_would_have_fitted(place):
    acme = place.workspace("large")
    chance = random.Random(7)  # noqa: S311 - a test, the same each time
    amounts = [[chance.randint(1, 7) for _ in range(8)] for _ in range(THREADS)]

    answers = at_once(
        THREADS,
        lambda number: [place.ask("record", acme, amounts={"minutes": each}) for each in amounts[number]],
    )

    asked = [
        pair for some, each in zip(amounts, answers, strict=True) for pair in zip(some, each, strict=True)
    ]
    taken = sum(amount for amount, answer in asked if answer.allowed)
    refused = [amount for amount, answer in asked if not answer.allowed]
    assert place.used(acme, "minutes") == taken <= 1000
    assert refused == [] or taken + min(refused) > 1000


def test_the_first_use_of_all_is_guarded_as_the_others_are(place):
    acme = place.workspace("small")

    denied = place.ask("record", acme, amounts={"minutes": 11})

    assert (denied.allowed, denied.verdict.reason) == (False, "quota_exceeded")
    assert place.sql("SELECT 1 FROM authz.workspace_usage WHERE workspace_id = %s", acme.id) == []


def test_many_first_uses_at_once_make_one_counter(place):
    acme = place.workspace("small")

    answers = at_once(32, lambda _: place.ask("record", acme))

    assert len(allowed(answers)) == 10
    assert place.sql("SELECT used FROM authz.workspace_usage WHERE workspace_id = %s", acme.id) == [(10,)]


def test_a_denial_takes_nothing_and_leaves_no_row(place):
    acme = place.workspace("small", mia="member", ron="reader")
    place.ask("record", acme, amounts={"minutes": 10})

    for _ in range(50):
        for user, action in (("ron", "record"), ("eve", "record"), ("mia", "record"), ("mia", "experiment")):
            assert not place.ask(action, acme, user=user, idempotency_key="k", resource="r").allowed
        assert not place.ask("record", acme, "reserve").allowed

    assert place.ledger_of(acme) == [("minutes", 10, "consume")]
    for table in ("usage_keys", "usage_holds", "usage_reservations", "usage_resources"):
        assert place.sql(f"SELECT 1 FROM authz.{table} WHERE workspace_id = %s", acme.id) == []


def test_one_key_at_once_from_many_is_taken_once_and_all_hear_the_same(place):
    acme = place.workspace("large")

    answers = at_once(50, lambda _: place.ask("record", acme, amounts={"minutes": 3}, idempotency_key="k"))

    assert len(allowed(answers)) == 50
    assert {(each.decision_id, each.quota["minutes"].used, each.at) for each in answers} == {
        (answers[0].decision_id, 3, answers[0].at)
    }
    assert [each.replayed for each in answers].count(False) == 1
    assert place.used(acme, "minutes") == 3


def test_one_key_of_an_action_that_takes_nothing_is_answered_alike_too(place):
    acme = place.workspace()

    answers = at_once(20, lambda _: place.ask("look", acme, idempotency_key="k"))

    assert len({each.decision_id for each in allowed(answers)}) == 1
    assert [each.replayed for each in answers].count(False) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"amounts": {"minutes": 4}},
        {"amounts": None},
        {"user": "max"},
        {"action": "experiment"},
        {"mode": "reserve"},
        {"resource": "r"},
        {"action": "ping", "amounts": None},
        {"amounts": {"minutes": 10**12}},
    ],
    ids=str,
)
def test_one_key_for_another_request_is_refused_and_takes_nothing(place, other):
    acme = place.workspace("large", mia="member", max="member")
    asked = {"action": "record", "mode": "consume", "amounts": {"minutes": 3}, "idempotency_key": "k"}
    place.ask(at=acme, **asked)

    with pytest.raises(IdempotencyKeyReused):
        place.ask(at=acme, **{**asked, **other})
    assert place.ledger_of(acme) == [("minutes", 3, "consume")]


def test_one_key_in_two_workspaces_is_two_requests_and_tells_nothing_of_the_other(place):
    acme, solo = place.workspace("large"), place.workspace("large")
    place.ask("record", acme, idempotency_key="k", amounts={"minutes": 7})

    answer = place.ask("record", solo, idempotency_key="k", amounts={"minutes": 1})

    assert (answer.replayed, answer.quota["minutes"].used) == (False, 1)


def test_a_denial_is_not_remembered_so_that_a_retry_after_an_upgrade_succeeds(place):
    acme = place.workspace("small")
    ask = {"amounts": {"minutes": 11}, "idempotency_key": "k"}
    denied = place.ask("record", acme, **ask)
    place.set_plan(acme, "large")

    answer = place.ask("record", acme, **ask)

    assert (denied.allowed, answer.allowed, answer.replayed) == (False, True, False)
    assert place.used(acme, "minutes") == 11


def test_a_repeat_is_told_its_first_answer_whatever_has_happened_since(place):
    acme = place.workspace("large")
    ask = {"amounts": {"minutes": 900}, "idempotency_key": "k"}
    first = place.ask("record", acme, **ask)
    place.set_plan(acme, "small")
    place.sql(f"UPDATE authz.workspace_memberships SET role = 'reader' WHERE workspace_id = '{acme.id}'")

    again = place.ask("record", acme, **ask)

    assert (again.allowed, again.replayed, again.decision_id) == (True, True, first.decision_id)
    assert (again.quota, again.plan, again.role) == (first.quota, "large", "member")


def test_whoever_is_no_member_any_more_hears_that_and_not_their_first_answer(place):
    acme = place.workspace("large")
    place.ask("record", acme, idempotency_key="k")
    place.sql(f"DELETE FROM authz.workspace_memberships WHERE workspace_id = '{acme.id}'")

    answer = place.ask("record", acme, idempotency_key="k")

    assert (answer.verdict.reason, answer.quota, answer.replayed) == ("not_a_member", None, False)


def test_a_key_is_forgotten_a_day_after_the_period_has_ended(place):
    acme = place.workspace("large")
    place.ask("ping", acme, idempotency_key="k")
    [(kept,)] = place.sql("SELECT expires_at FROM authz.usage_keys WHERE workspace_id = %s", acme.id)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert kept - midnight in (timedelta(days=2), timedelta(days=1))  # it may have struck twelve meanwhile
    place.sql(f"UPDATE authz.usage_keys SET expires_at = now() WHERE workspace_id = '{acme.id}'")

    again = place.ask("ping", acme, idempotency_key="k")

    assert (again.replayed, place.used(acme, "daily")) == (False, 2)


def test_if_one_of_two_meters_is_exhausted_the_other_stays_as_it_was(place):
    acme = place.workspace("small")
    place.ask("record", acme, amounts={"minutes": 10})

    answer = place.ask("host", acme)

    assert (answer.verdict.reason, answer.quota["daily"].used) == ("quota_exceeded", 0)
    assert answer.message.startswith("The Small plan includes 10 minutes a month; 10 are used")
    assert place.used(acme, "daily") == 0


@pytest.mark.parametrize("_", range(4))
def test_no_order_of_meters_makes_callers_wait_in_a_circle(place, _):
    """From the first use on, with amounts named in either order, and with either meter taken alone."""
    acme = place.workspace("endless")
    orders = [
        lambda: place.ask("host", acme, amounts={"minutes": 1, "daily": 1}),
        lambda: place.ask("host", acme, amounts={"daily": 1, "minutes": 1}),
        lambda: place.ask("record", acme),
        lambda: place.ask("ping", acme),
    ]
    began = monotonic()

    answers = at_once(32, lambda number: [orders[(number + step) % 4]() for step in range(8)])

    assert len(allowed([each for some in answers for each in some])) == 32 * 8
    assert monotonic() - began < 20  # a deadlock would be found after a second, and each again
    assert (place.used(acme, "minutes"), place.used(acme, "daily")) == (192, 192)


def test_a_consume_that_waits_over_the_end_of_a_period_is_charged_to_the_new_one(place):
    acme = place.workspace("small", subscribed="clock_timestamp() + interval '1 second'")
    old = place.ask("bill", acme, amounts={"billed": 9})
    answers = []
    with psycopg.connect(place.url) as holder:
        holder.execute("SELECT 1 FROM authz.workspace_usage WHERE workspace_id = %s FOR UPDATE", (acme.id,))
        waiting = threading.Thread(target=lambda: answers.append(place.ask("bill", acme)))
        waiting.start()
        sleep(1.2)
    waiting.join()

    assert (old.quota["billed"].used, answers[0].quota["billed"].used) == (9, 1)
    assert answers[0].quota["billed"].resets_at > old.quota["billed"].resets_at + timedelta(days=27)
    assert place.sql(
        """SELECT l.amount, l.period_start = w.subscribed_at FROM authz.usage_ledger AS l
        JOIN authz.workspaces AS w ON w.id = l.workspace_id WHERE w.id = %s ORDER BY l.id""",
        acme.id,
    ) == [(9, False), (1, True)]


def test_a_denial_that_waited_over_the_end_of_a_period_speaks_of_the_new_one(place):
    acme = place.workspace("small", subscribed="clock_timestamp() + interval '1 second'")
    place.ask("bill", acme)
    answers = []
    with psycopg.connect(place.url) as holder:
        holder.execute("SELECT 1 FROM authz.workspace_usage WHERE workspace_id = %s FOR UPDATE", (acme.id,))
        waiting = threading.Thread(target=lambda: answers.append(place.ask("bill", acme)))
        waiting.start()
        sleep(1.2)
        holder.execute(
            """UPDATE authz.workspace_usage AS u SET period_start = w.subscribed_at, used = 10
            FROM authz.workspaces AS w WHERE w.id = u.workspace_id AND w.id = %s""",
            (acme.id,),
        )
        holder.execute(
            """INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
            SELECT id, now(), 'billed', subscribed_at, 10, 'adjust' FROM authz.workspaces WHERE id = %s""",
            (acme.id,),
        )
    waiting.join()

    assert answers[0].verdict.status == 402
    assert answers[0].quota["billed"].resets_at > datetime.now(UTC) + timedelta(days=27)


def test_quota_is_taken_by_index_even_where_the_tables_are_tiny(place):
    """A plan that scans them while they are empty would be kept, and scan them when they have grown."""
    acme = place.workspace("large")
    take = """SELECT authz.take(%s, %s, 'mia', %s, %s, '{1}', '{9}', %s, %s, '', %s, %s, 'd', 'r', '{}')
        ->> 'outcome'"""
    [(version,)] = place.sql("SELECT facts_version FROM authz.workspaces WHERE id = %s", acme.id)
    place.sql("VACUUM ANALYZE")
    with psycopg.connect(place.url) as connection:

        def call(query, *params):
            return connection.execute(query, params).fetchone()

        assert call(take, acme.id, version, "record", ["minutes"], None, "k", None, None) == ("taken",)
        assert call(take, acme.id, version, "record", ["minutes"], None, "k", None, None) == ("repeated",)
        assert call(take, acme.id, version, "create", ["projects"], "p", None, None, None) == ("taken",)
        for held, settle in (("a", "commit_reservation(%s, NULL)"), ("b", "release_reservation(%s)")):
            call(take, acme.id, version, "record", ["minutes"], None, held, 60, held)
            call(f"SELECT authz.{settle}", held)
        call("SELECT authz.refund(%s, 'k', NULL)", acme.slug)
        call("SELECT authz.release_resource(%s, 'projects', 'p')", acme.slug)
        call("SELECT authz.repeated(%s, '{minutes}', 'p', 'k', '')", acme.id)
        scanned = connection.execute(
            """SELECT relname FROM pg_stat_xact_user_tables
            WHERE schemaname = 'authz' AND seq_scan > 0 ORDER BY relname"""
        ).fetchall()

    assert scanned == []


def test_the_zone_of_a_session_charges_no_other_day(place, rules):
    acme = place.workspace("large")
    told = set()
    for zone in ("Pacific/Kiritimati", "Pacific/Niue", "America/St_Johns"):
        elsewhere = Place(f"{place.url}&options=-c%20TimeZone%3D{zone}%20-c%20DateStyle%3DGerman", rules)
        answer = elsewhere.ask("host", acme, idempotency_key=zone)
        again = elsewhere.ask("host", acme, idempotency_key=zone)
        told |= {(meter, quota.resets_at.astimezone(UTC)) for meter, quota in answer.quota.items()}
        assert again.quota == answer.quota
        elsewhere.close()

    assert len(told) == 2
    assert place.sql(
        """SELECT meter, count(DISTINCT period_start), sum(amount)::int FROM authz.usage_ledger
        WHERE workspace_id = %s GROUP BY meter ORDER BY meter""",
        acme.id,
    ) == [("daily", 1, 3), ("minutes", 1, 3)]
