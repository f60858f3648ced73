"""Many consumes in one call of authz.consume_many: each as if asked alone, and no lock is waited for."""

from __future__ import annotations

import json
import random
import threading
from contextlib import contextmanager
from time import monotonic

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import tries
from tests.quota.place import at_once, until

pytestmark = pytest.mark.postgres

STARTS = "2026-01-01T00:00:00Z"
LIMIT = 20
COLUMNS = {
    "workspace_id": "uuid",
    "facts_version": "bigint",
    "ceiling": "bigint",
    "starts": "timestamptz",
    "ends": "timestamptz",
    "until": "timestamptz",
    "user_id": "text",
    "action": "text",
    "meter": "text",
    "amount": "bigint",
    "resource": "text",
    "key": "text",
    "fingerprint": "text",
    "decision_id": "text",
    "answer": "json",
}
ALONE = f"SELECT authz.consume({', '.join(f'%s::{kind}' for kind in COLUMNS.values())})"
TABLES = ("workspace_usage", "usage_keys", "usage_ledger")


def an_item(at, **more):
    """One minute of the period that `begun` has begun, without a limit or a key."""
    return {
        "workspace_id": str(at.id),
        "facts_version": 1,
        "ceiling": LIMIT,
        "starts": STARTS,
        "ends": None,
        "until": None,
        "user_id": "mia",
        "action": "record",
        "meter": "minutes",
        "amount": 1,
        "resource": None,
        "key": None,
        "fingerprint": "f",
        "decision_id": "d",
        "answer": {},
        **more,
    }


def in_columns(items):
    return json.dumps({name: [item[name] for item in items] for name in COLUMNS})


def consume_many(place, items, *, waits=False, lock_timeout_s=30):
    """What each item is answered: the figure used by then, None, or "locked"."""
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(b"SELECT set_config('lock_timeout', %s, false)", (f"{lock_timeout_s}s",))
        query = b"SELECT authz.consume_many(%s, %s)"
        [(found,)] = connection.execute(query, (in_columns(items), waits)).fetchall()
    assert len(found["used"]) == len(items)
    return ["locked" if n in found["locked"] else used for n, used in enumerate(found["used"], 1)]


def consume_alone(place, item):
    [(found,)] = place.sql(
        ALONE, *(json.dumps(value) if name == "answer" else value for name, value in item.items())
    )
    return None if found is None else found[1]


@pytest.fixture
def begin(place):
    """Makes a workspace with counters that have begun."""

    def begun(*, used=0, meters=("minutes",)):
        at = place.workspace("large")
        place.sql("UPDATE authz.workspaces SET facts_version = 1 WHERE id = %s", at.id)
        for meter in meters:
            place.sql("INSERT INTO authz.workspace_usage VALUES (%s, %s, %s, %s)", at.id, meter, STARTS, used)
            if used:
                place.sql(
                    """INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
                    VALUES (%s, now(), %s, %s, %s, 'adjust')""",
                    at.id,
                    meter,
                    STARTS,
                    used,
                )
        return at

    return begun


def left(place, at):
    """The rows, but for what is of each workspace and moment alone."""
    return [
        place.sql(
            f"SELECT to_jsonb(t) - '{{workspace_id,at,id}}'::text[] FROM authz.{table} AS t"
            f" WHERE workspace_id = %s ORDER BY {'t.id' if table == 'usage_ledger' else 1}",
            at.id,
        )
        for table in TABLES
    ]


@contextmanager
def holding(place, query, *params):
    """Another session's transaction, which has done *query* and stays open."""
    with psycopg.connect(place.url) as holder:
        holder.execute(query.encode(), params)
        yield holder
        holder.rollback()


ITEMS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.integers(0, 2),
            "meter": st.sampled_from(["minutes", "minutes", "daily", "lifetime"]),
            "amount": st.integers(1, 9),
            "ceiling": st.sampled_from([LIMIT, LIMIT, 5, 0, None]),
            "key": st.sampled_from([None, None, "a", "b", "old", "c"]),
            "facts_version": st.sampled_from([1, 1, 1, 1, 2]),
            "starts": st.sampled_from(
                [STARTS, STARTS, STARTS, STARTS, "2025-12-01T00:00:00Z", "2999-01-01Z"]
            ),
            "ends": st.sampled_from([None, None, None, "2999-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
            "until": st.sampled_from([None, None, None, "2999-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
            "resource": st.sampled_from([None, "tape"]),
        }
    ),
    min_size=1,
    max_size=24,
)
STATES = st.lists(st.sampled_from(["", "", "held", "was_held", "later"]), min_size=3, max_size=3)


def put(place, at, state):
    """What may have happened to the counter `minutes` before."""
    change = {
        "held": "held_until = '2999-01-01Z'",
        "was_held": "held_until = '2020-01-01Z'",
        "later": "period_start = '2998-01-01Z'",
    }.get(state)
    if change:
        place.sql(
            f"UPDATE authz.workspace_usage SET {change} WHERE workspace_id = %s AND meter = 'minutes'", at.id
        )


@settings(
    max_examples=tries(60, usual=15),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(ITEMS, STATES, st.booleans())
def test_a_group_is_answered_as_its_items_would_be_one_after_the_other_and_leaves_the_same(
    place, begin, items, states, waits
):
    together, alone = ([begin(meters=("minutes", "daily")) for _ in states] for _ in range(2))
    for here in (together, alone):
        for at, state in zip(here, states, strict=True):
            assert consume_alone(place, an_item(at, key="old")) == 1
            put(place, at, state)

    expected: list[int | None] = []
    seen: set[tuple[int, str | None]] = set()
    for item in items:
        # Of one key the first alone may be done: what became of it is not known yet to the others.
        name = (item["at"], item["key"])
        if name in seen and item["key"]:
            expected.append(None)
            continue
        seen.add(name)
        expected.append(consume_alone(place, an_item(**{**item, "at": alone[item["at"]]})))
    answered = consume_many(
        place, [an_item(**{**item, "at": together[item["at"]]}) for item in items], waits=waits
    )

    assert answered == expected
    for one, other in zip(together, alone, strict=True):
        assert sorted(map(str, left(place, one))) == sorted(map(str, left(place, other)))
        place.sql("DELETE FROM authz.workspaces WHERE id = ANY (%s)", [one.id, other.id])


def test_what_a_retry_is_told_is_kept_of_each_item(place, begin):
    together, alone = begin(), begin()
    more = {"ends": "2999-01-01T00:00:00Z", "resource": "tape", "answer": {"message": 'a "b" \\ {c}, ü\n'}}
    items = [{"key": f"k{n}", "decision_id": f"d{n}", "fingerprint": f"f{n}", **more} for n in range(5)]

    answered = consume_many(place, [an_item(together, **item) for item in items])

    assert answered == [consume_alone(place, an_item(alone, **item)) for item in items] == [1, 2, 3, 4, 5]
    assert left(place, together) == left(place, alone)
    place.sql("DELETE FROM authz.workspaces WHERE id = ANY (%s)", [together.id, alone.id])


def test_of_items_with_one_key_exactly_one_is_done(place, begin):
    at = begin()

    answered = consume_many(place, [an_item(at, key="k") for _ in range(9)])

    assert answered == [1, *[None] * 8]
    assert place.used(at, "minutes") == len(place.ledger_of(at)) == 1


LOCKS = [
    "SELECT FROM authz.workspace_usage WHERE workspace_id = %s FOR UPDATE",
    "UPDATE authz.workspace_usage SET used = used WHERE workspace_id = %s",
    "DELETE FROM authz.workspace_usage WHERE workspace_id = %s",
    "SELECT FROM authz.workspaces WHERE id = %s FOR UPDATE",
    "UPDATE authz.workspaces SET facts_version = 2 WHERE id = %s",
]


@pytest.mark.parametrize("lock", LOCKS)
def test_what_somebody_has_locked_is_passed_over_and_the_others_are_done(place, begin, lock):
    locked, free = begin(), begin()
    items = [an_item(at, key=f"k{n}") for n in range(3) for at in (locked, free)]

    with holding(place, lock, locked.id):
        began = monotonic()
        answered = consume_many(place, items)
        took = monotonic() - began

    assert answered == ["locked", 1, "locked", 2, "locked", 3]
    assert took < 5
    assert place.used(locked, "minutes") == 0
    assert left(place, locked)[1:] == [[], []]


@pytest.mark.parametrize("lock", LOCKS)
def test_who_waits_for_a_locked_workspace_sees_it_as_it_is_then(place, begin, lock):
    at = begin()
    answers = []
    items = [an_item(at, key=f"k{n}") for n in range(3)]
    with holding(place, lock, at.id) as holder:
        waiting = threading.Thread(target=lambda: answers.append(consume_many(place, items, waits=True)))
        waiting.start()
        until(place.somebody_waits_for_a_lock)
        assert answers == []
        holder.commit()
        waiting.join()

    changes = "DELETE" in lock or "facts_version" in lock
    assert answers == [[None, None, None] if changes else [1, 2, 3]]
    place.sql("UPDATE authz.workspaces SET facts_version = 1 WHERE id = %s", at.id)


@pytest.mark.parametrize("lock", [LOCKS[0], LOCKS[3]])
def test_who_waits_too_long_is_refused_and_nothing_was_done(place, begin, lock):
    at = begin()

    with holding(place, lock, at.id), pytest.raises(psycopg.errors.LockNotAvailable):
        consume_many(place, [an_item(at)], waits=True, lock_timeout_s=0.05)
    assert place.used(at, "minutes") == 0


A_KEY = """INSERT INTO authz.usage_keys
    (workspace_id, key, fingerprint, decision_id, answer, at, quota, meters, starts, expires_at)
VALUES (%s, 'k', 'f', 'd', '{}', now(), '{}', '{}', '{}', 'infinity')"""


def test_a_key_that_somebody_is_using_refuses_the_group_soon_and_without_a_trace(place, begin):
    at, other = begin(), begin()

    with holding(place, A_KEY, at.id):
        began = monotonic()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            consume_many(place, [an_item(other, key="k"), an_item(at, key="k")])
        took = monotonic() - began
        assert consume_many(place, [an_item(other, key="k"), an_item(at)]) == [1, 1]
    assert took < 5
    assert len(place.ledger_of(at)) == len(place.ledger_of(other)) == 1


def test_a_key_that_is_used_while_the_group_waits_for_it_refuses_the_group_without_a_trace(place, begin):
    at = begin()
    heard = []

    def ask():
        try:
            consume_many(place, [an_item(at, key="j"), an_item(at, key="k")], waits=True)
        except psycopg.errors.SerializationFailure as error:
            heard.append(error)

    with holding(place, A_KEY, at.id) as holder:
        waiting = threading.Thread(target=ask)
        waiting.start()
        until(place.somebody_waits_for_a_lock)
        holder.commit()
        waiting.join()

    assert len(heard) == 1
    assert consume_many(place, [an_item(at, key="j"), an_item(at, key="k")]) == [1, None]


def test_no_order_of_arrival_makes_groups_wait_in_a_circle(place, begin):
    """Locks that are passed over, and keys that two meters share: none is refused as a deadlock."""
    many = [begin(meters=("minutes", "daily")) for _ in range(8)]

    def ask(number):
        chance = random.Random(number)  # noqa: S311 - the same each time
        heard = []
        for turn in range(20):
            items = [
                an_item(at, meter=meter, key=f"{turn}-{n}", ceiling=None)
                for n in range(2)
                for at in many
                for meter in ("minutes", "daily")
            ]
            chance.shuffle(items)
            try:
                heard += consume_many(place, items)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure):
                heard.append("refused")
            waiting = sorted(items, key=lambda item: item["workspace_id"])[:4]
            try:
                heard += consume_many(place, waiting, waits=True)
            except psycopg.errors.SerializationFailure:
                heard.append("refused")
        return heard

    told = at_once(4, ask)

    assert [each for each in told if isinstance(each, Exception)] == []
    for at in many:
        [(keys,)] = place.sql("SELECT count(*) FROM authz.usage_keys WHERE workspace_id = %s", at.id)
        assert 0 < keys == len(place.ledger_of(at)) <= 40


def test_groups_that_race_sell_exactly_what_there_is(place, begin):
    """Ten thousand attempts on two counters, some of which are locked when they are asked for."""
    pair = [begin(), begin()]
    limit = 8_000

    def ask(number):
        chance = random.Random(number)  # noqa: S311 - the same each time
        done = [0, 0]
        for _ in range(40):
            asked = [(chance.randrange(2), chance.randint(1, 7)) for _ in range(64)]
            items = [an_item(pair[which], amount=amount, ceiling=limit) for which, amount in asked]
            answers = consume_many(place, items)
            for which in (0, 1):
                passed_over = [
                    n for n, (each, _) in enumerate(asked) if each == which and answers[n] == "locked"
                ]
                again = [items[n] for n in passed_over]
                for n, answer in zip(
                    passed_over, consume_many(place, again, waits=True) if again else (), strict=True
                ):
                    answers[n] = answer
            for (which, amount), answer in zip(asked, answers, strict=True):
                assert answer != "locked"
                done[which] += amount if answer is not None else 0
        return done

    told = at_once(4, ask)

    assert [each for each in told if isinstance(each, Exception)] == []
    for n, at in enumerate(pair):
        assert sum(each[n] for each in told) == place.used(at, "minutes") == limit


def test_a_plan_does_not_read_a_whole_table_to_charge_a_few(place, begin):
    """A session makes it once: while the table is small, a join that reads all of it seems cheap."""
    at = begin()
    place.sql(
        """WITH w AS (
            INSERT INTO authz.workspaces (slug, name, plan_tier)
            SELECT 'small-' || n, 'W', 'large' FROM generate_series(1, 100) AS n RETURNING id
        )
        INSERT INTO authz.workspace_usage SELECT id, 'daily', now(), 0 FROM w"""
    )
    place.sql("ANALYZE authz.workspace_usage, authz.workspaces")
    query = "SELECT authz.consume_many(%s, false)"
    read = """SELECT sum(idx_tup_fetch + seq_tup_read) FROM pg_stat_xact_all_tables
        WHERE relname IN ('workspace_usage', 'workspaces')"""
    with psycopg.connect(place.url) as connection:
        connection.execute(query.encode(), (in_columns([an_item(at)]),))
        [(rows_read,)] = connection.execute(read.encode()).fetchall()
    place.sql("DELETE FROM authz.workspaces WHERE slug LIKE 'small-%'")

    assert 0 < rows_read < 10
