"""The quick way to consume: used where it can be, and without a trace where it cannot.

What it answers is tested with everything else here, which does not know which way was taken.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.errors import FactsUnavailable
from sidecar.quota.model import Counter
from sidecar.store.facts_token import token_in
from tests.effort import tries
from tests.postgres_server import a_database
from tests.quota.place import Place, until

pytestmark = pytest.mark.postgres

CALL = """SELECT authz.consume(
    %(id)s, facts_version + %(version)s, %(ceiling)s, {starts}, {ends}, {until},
    'mia', 'record', 'minutes', %(amount)s, NULL, %(key)s, 'f', 'd', '{{}}'
) FROM authz.workspaces WHERE id = %(id)s"""
THIS_MONTH = "date_trunc('month', now(), 'UTC')"
TABLES = ("workspace_usage", "usage_keys", "usage_ledger", "usage_holds", "usage_resources")
NEXT_MONTH = f"{THIS_MONTH} + interval '1 month'"


@pytest.fixture(scope="module")
def without_take(postgres_server, quota_template, rules):
    """A place in which nothing is taken but at once."""
    databases = a_database(postgres_server, template=quota_template)
    place = Place(next(databases), rules)
    place.sql("ALTER FUNCTION authz.take RENAME TO take_not")
    yield place
    place.close()
    next(databases, None)


def consume(place, at, *, starts=THIS_MONTH, ends=NEXT_MONTH, until="NULL", **more):
    """What authz.consume answers of one minute of ten, as a superuser on a connection of its own."""
    values = {"id": at.id, "version": 0, "ceiling": 10, "amount": 1, "key": None, **more}
    query = CALL.format(starts=starts, ends=ends, until=until)
    with psycopg.connect(place.url) as connection:
        [(answer,)] = connection.execute(query.encode(), values).fetchall()
        return answer


def traces(place, at):
    return [
        place.sql(f"SELECT to_jsonb(t) FROM authz.{table} AS t WHERE workspace_id = %s ORDER BY 1", at.id)
        for table in TABLES
    ]


@pytest.fixture
def begun(place):
    """A workspace that has used one of its ten minutes, under the key `old`."""
    at = place.workspace("small")
    assert place.ask("record", at, idempotency_key="old").allowed
    return at


@pytest.mark.parametrize(
    ("action", "meter", "more"),
    [
        ("record", "minutes", {}),
        ("record", "minutes", {"idempotency_key": "k"}),
        ("record", "minutes", {"resource": "tape", "idempotency_key": "k"}),
        ("bill", "billed", {"idempotency_key": "k"}),
        ("ping", "daily", {"idempotency_key": "k"}),
        ("unlock", "lifetime", {"idempotency_key": "k"}),
        ("create", "projects", {"idempotency_key": "k"}),
    ],
)
def test_one_counter_with_room_is_taken_from_at_once(without_take, action, meter, more):
    at = without_take.workspace("small")
    [(since, forgotten)] = without_take.sql(
        """SELECT p.starts::text, (p.ends + interval '24 hours')::text
        FROM authz.meters AS t, authz.workspaces AS w,
            LATERAL authz.period_at(t.per, authz.anchor_of(t.anchor, w.subscribed_at), now()) AS p
        WHERE t.name = %s AND w.id = %s""",
        meter,
        at.id,
    )
    without_take.sql("INSERT INTO authz.workspace_usage VALUES (%s, %s, %s, 0)", at.id, meter, since)

    taken = without_take.ask(action, at, amounts={meter: 3}, **more)

    assert (taken.allowed, taken.quota[meter].used, taken.quota[meter].limit) == (
        True,
        3,
        {"projects": 3}.get(meter, 10),
    )
    assert without_take.miscounts() == []
    kept = without_take.sql("SELECT expires_at::text FROM authz.usage_keys WHERE workspace_id = %s", at.id)
    assert kept == ([(forgotten,)] if "idempotency_key" in more else [])


def test_an_override_is_the_limit_at_once_too(without_take):
    at = without_take.workspace("small")
    without_take.sql(f"INSERT INTO authz.workspace_usage VALUES (%s, 'minutes', {THIS_MONTH}, 10)", at.id)
    without_take.sql("SELECT authz.set_overrides(%s, '{}', '{\"minutes\": 20}')", at.slug)

    taken = without_take.ask("record", at)

    assert (taken.quota["minutes"].used, taken.quota["minutes"].limit) == (11, 20)


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 1},
        {"version": -1},
        {"ceiling": 1},
        {"amount": 10},
        {"starts": f"{THIS_MONTH} - interval '1 month'"},
        {"starts": f"{THIS_MONTH} + interval '1 month'"},
        {"starts": "'-infinity'"},
        {"ends": "now()"},
        {"until": "now()"},
    ],
    ids=str,
)
def test_what_is_not_as_the_decision_saw_it_is_left_without_a_trace(place, begun, wrong):
    before = traces(place, begun)

    assert consume(place, begun, key="new", **wrong) is None
    assert consume(place, begun, key=None, **wrong) is None
    assert traces(place, begun) == before


def test_a_key_that_is_known_is_left_as_it_is(place, begun):
    before = traces(place, begun)

    assert consume(place, begun, key="old") is None
    assert traces(place, begun) == before


def test_a_period_that_has_not_begun_is_not_charged(place, begun):
    """The clock went back since the facts were read."""
    tomorrow = "now() + interval '1 day'"
    place.sql(f"UPDATE authz.workspace_usage SET period_start = {tomorrow} WHERE workspace_id = %s", begun.id)
    [(start,)] = place.sql(
        "SELECT period_start::text FROM authz.workspace_usage WHERE workspace_id = %s", begun.id
    )
    before = traces(place, begun)

    assert consume(place, begun, starts=f"'{start}'", key="new") is None
    assert consume(place, begun, starts=f"'{start}'") is None
    assert traces(place, begun) == before
    place.sql(
        f"UPDATE authz.workspace_usage SET period_start = {THIS_MONTH} WHERE workspace_id = %s", begun.id
    )


@pytest.mark.parametrize("key", [None, "new"])
@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE authz.workspace_usage SET held_until = now() + interval '1 hour' WHERE workspace_id = %s",
        "UPDATE authz.workspace_usage SET used = 10 WHERE workspace_id = %s",
        "UPDATE authz.workspace_usage SET period_start = now() WHERE workspace_id = %s",
        "DELETE FROM authz.workspace_usage WHERE workspace_id = %s",
        "UPDATE authz.workspaces SET facts_version = facts_version + 1 WHERE id = %s",
        "DELETE FROM authz.workspaces WHERE id = %s",
    ],
)
def test_what_changes_while_it_waits_is_seen(place, key, meanwhile):
    at = place.workspace("small")
    place.ask("record", at)
    answers = []
    with psycopg.connect(place.url) as other:
        other.execute(meanwhile.encode(), (at.id,))
        waiting = threading.Thread(target=lambda: answers.append(consume(place, at, key=key)))
        waiting.start()
        until(place.somebody_waits_for_a_lock)
        assert answers == []
        other.commit()
        waiting.join()
        changed = traces(place, at)

    assert answers == [None]
    assert changed[1] == []
    assert len(changed[2]) <= 1
    place.sql("DELETE FROM authz.usage_ledger WHERE workspace_id = %s", at.id)
    place.sql("DELETE FROM authz.workspace_usage WHERE workspace_id = %s", at.id)


def test_a_key_that_is_taken_while_it_waits_is_seen(place, begun):
    answers = []
    with psycopg.connect(place.url) as other:
        other.execute("SELECT FROM authz.workspaces WHERE id = %s FOR SHARE", (begun.id,))
        other.execute(
            """INSERT INTO authz.usage_keys
                (workspace_id, key, fingerprint, decision_id, answer, at, quota, meters, starts, expires_at)
            VALUES (%s, 'new', 'f', 'd', '{}', now(), '{}', '{}', '{}', 'infinity')""",
            (begun.id,),
        )
        waiting = threading.Thread(target=lambda: answers.append(consume(place, begun, key="new")))
        waiting.start()
        until(place.somebody_waits_for_a_lock)
        other.commit()
        waiting.join()

    assert answers == [None]
    assert place.used(begun, "minutes") == 1


def test_the_counter_is_locked_before_the_workspace(place, begun):
    """As everywhere: else two callers could wait for each other."""
    answers = []
    with psycopg.connect(place.url) as other:
        other.execute("SELECT FROM authz.workspaces WHERE id = %s FOR UPDATE", (begun.id,))
        waiting = threading.Thread(target=lambda: answers.append(consume(place, begun, key="new")))
        waiting.start()
        until(place.somebody_waits_for_a_lock)
        found = other.execute(
            "SELECT FROM authz.workspace_usage WHERE workspace_id = %s FOR UPDATE SKIP LOCKED", (begun.id,)
        ).fetchall()
        other.commit()
        waiting.join()

    assert found == []
    assert answers[0][1] == 2


METER_OF = {
    "record": "minutes",
    "bill": "billed",
    "ping": "daily",
    "unlock": "lifetime",
    "create": "projects",
}
QUESTIONS = st.fixed_dictionaries(
    {
        "action": st.sampled_from(sorted(METER_OF)),
        "mode": st.sampled_from(["consume", "consume", "consume", "reserve"]),
        "amount": st.integers(1, 6),
        "idempotency_key": st.sampled_from([None, "a", "b", "c"]),
        "resource": st.sampled_from([None, None, "r", "s"]),
    }
)
CHANGES = st.sampled_from([None, None, None, "small", "large", "refund", "end"])


@settings(
    max_examples=tries(60, usual=15),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(st.lists(st.tuples(CHANGES, QUESTIONS), max_size=12))
def test_both_ways_answer_alike_and_leave_the_same(place, steps):
    quick, slow = (place.workspace("small", subscribed="'2026-01-15Z'") for _ in range(2))

    for change, question in steps:
        assert outcome(change_it, place, quick, change) == outcome(change_it, place, slow, change)
        told = outcome(ask, place, quick, **question)
        with told_otherwise(place, counter=None):
            assert outcome(ask, place, slow, **question) == told
    assert left(place, quick) == left(place, slow)


def outcome(act, *arguments, **more):
    try:
        return act(*arguments, **more)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is to be the same
        return type(error)


def ask(place, at, *, action, mode, amount, **more):
    found = place.ask(action, at, mode, amounts={METER_OF[action]: amount}, **more)
    # When reservations end differs by the moment at which they were made.
    quota = {meter: replace(of, frees_at=None) for meter, of in (found.quota or {}).items()}
    return found.allowed, found.verdict, found.message, quota, found.replayed


def change_it(place, at, change):
    if change in {"small", "large"}:
        place.set_plan(at, change)
    elif change == "refund":
        return place.refund(at, "a").released
    elif change == "end":
        for table in ("usage_reservations", "usage_holds"):
            place.sql(
                f"UPDATE authz.{table} SET expires_at = clock_timestamp() WHERE workspace_id = %s", at.id
            )
    return None


@contextmanager
def told_otherwise(place, **more):
    """The ledger gets each charge with *more* in it; the charges as they were made are collected."""
    charge_for_real, seen = place.ledger.charge, []

    def told(charge, /, *, deadline):
        seen.append(charge)
        return charge_for_real(replace(charge, **more), deadline=deadline)

    place.ledger.charge = told
    try:
        yield seen
    finally:
        del place.ledger.charge


def left(place, at):
    """The rows without what is of each alone: its ids and its moments."""
    alone = "workspace_id,at,decision_id,id,reservation,held,held_until"
    return [
        place.sql(
            f"SELECT (to_jsonb(t) - %s::text[]) #- '{{answer,frees_at}}' FROM authz.{table} AS t"
            " WHERE workspace_id = %s ORDER BY 1",
            f"{{{alone},expires_at}}" if table == "usage_holds" else f"{{{alone}}}",
            at.id,
        )
        for table in TABLES
    ]


def test_the_ledger_asks_again_where_it_was_not_to_be_at_once(place, begun):
    [facts] = place.facts.facts([("mia", begun.slug)], deadline=monotonic() + 20)
    counter = Counter(limit=10, resets_at=facts.usage["minutes"].resets_at)
    of_no_period_there_is = {
        "token": replace(facts.token, periods={"minutes": "-infinity"}),
        "counter": replace(counter, resets_at=None),
    }

    with told_otherwise(place, **of_no_period_there_is) as seen:
        taken = place.ask("record", begun)

    own = replace(facts.token, periods={"minutes": facts.token.periods["minutes"]})
    assert [(charge.token, charge.counter) for charge in seen] == [(own, counter)]
    assert (taken.allowed, taken.quota["minutes"].used) == (True, 2)


@pytest.mark.parametrize("more", [{"until": "2020-01-01"}, {"version": 0}], ids=str)
def test_what_the_facts_said_is_told_to_the_database_again(without_take, more):
    at = without_take.workspace("small")
    without_take.sql(f"INSERT INTO authz.workspace_usage VALUES (%s, 'minutes', {THIS_MONTH}, 1)", at.id)
    [facts] = without_take.facts.facts([("mia", at.slug)], deadline=monotonic() + 20)

    assert without_take.ask("record", at).quota["minutes"].used == 2
    with (
        told_otherwise(without_take, token=replace(facts.token, **more)),
        pytest.raises(FactsUnavailable, match=r"authz\.take"),
    ):
        without_take.ask("record", at)


def test_a_database_that_is_still_to_be_migrated_takes_as_before(postgres_server, quota_template, rules):
    databases = a_database(postgres_server, template=quota_template)
    place = Place(next(databases), rules)
    place.sql("ALTER FUNCTION authz.consume RENAME TO consume_not")
    at = place.workspace()
    [facts] = place.facts.facts([("mia", at.slug)], deadline=monotonic() + 20)
    assert facts is not None
    token = replace(token_in(facts.token), periods={})

    with told_otherwise(place, token=token):
        assert place.ask("record", at).allowed
    place.close()
    next(databases, None)
