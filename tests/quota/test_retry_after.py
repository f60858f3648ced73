"""retry_after is the second at which the same question is granted, if nothing else happens.

The database's own functions say what is granted at a later second: here their clock can be moved on.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sidecar.decisions.model import Question
from sidecar.decisions.steps import run as run_steps
from sidecar.decisions.waiting import seconds_until_room
from sidecar.quota.ratelimit import limit_fields
from sidecar.store.clock import Clock
from sidecar.store.migrate import migrate
from tests.effort import tries
from tests.postgres_server import a_database
from tests.quota.conftest import rules_of
from tests.quota.moved_clock import let_the_clock_be_moved, move, stop_clock
from tests.quota.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.postgres

MODES = ("check", "consume", "reserve")


@pytest.fixture(scope="module")
def clock_place(postgres_server) -> Iterator[Place]:
    """A place with one plan, where `move` moves the clock of every function of ours."""
    rules = rules_of(Path(__file__).with_name("one_plan.yaml"))
    for url in a_database(postgres_server, template="template0"):
        migrate(url, catalog=rules.catalog, revision=rules.revision)
        let_the_clock_be_moved(url)
        place = Place(url, rules, connections=4, clock=Clock(wall=None))
        yield place
        place.close()


@pytest.fixture
def place(clock_place) -> Iterator[Place]:
    move(clock_place, 0)
    stop_clock(clock_place)
    yield clock_place
    move(clock_place, 400 * 86_400)  # a recount finds use in a period that has not begun
    assert clock_place.miscounts() == []


def use(place, at, meter, amount):
    place.sql(
        """INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
        SELECT %s, t.name, lower(authz.period_of(t.per, authz.anchor_of(t.anchor, w.subscribed_at),
            authz.test_time())), %s
        FROM authz.meters AS t, authz.workspaces AS w WHERE t.name = %s AND w.id = %s""",
        at.id,
        amount,
        meter,
        at.id,
    )
    place.sql(
        """INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
        SELECT u.workspace_id, authz.test_time(), u.meter, u.period_start, u.used, 'adjust'
        FROM authz.workspace_usage AS u WHERE u.workspace_id = %s AND u.meter = %s AND u.used > 0""",
        at.id,
        meter,
    )


def hold(place, at, meter, amount, ends_in_s):
    """As a reservation would, but for any amount and any time; *meter* was used before."""
    place.sql(
        """WITH ends AS (SELECT authz.test_time() + make_interval(secs => %s) AS ends),
        counter AS (
            UPDATE authz.workspace_usage AS u SET held_until = greatest(u.held_until, e.ends)
            FROM ends AS e WHERE u.workspace_id = %s AND u.meter = %s
            RETURNING u.workspace_id, u.meter, u.period_start, e.ends
        )
        INSERT INTO authz.usage_holds
        SELECT workspace_id, meter, gen_random_uuid()::text, %s, period_start, ends FROM counter""",
        ends_in_s,
        at.id,
        meter,
        amount,
    )


def override(place, at, meter, limit, ends_in_s):
    place.sql(
        """INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most, expires_at)
        VALUES (%s, 'limit', %s, %s, authz.test_time() + make_interval(secs => %s))""",
        at.id,
        meter,
        limit,
        ends_in_s,
    )


# One meter: what is used of 10, what is held of it and for how long, an override, and what is asked for.
seconds = st.one_of(st.integers(1, 6).map(float), st.floats(0.05, 90).map(lambda s: round(s, 3)))
holds = st.lists(st.tuples(st.integers(1, 10), seconds), max_size=4)
overrides = st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 30), seconds))
meters = st.tuples(st.sampled_from([0, 0, 3, 5, 9, 12]), holds, overrides, st.sampled_from([1, 2, 5, 10, 11]))
LATER = 100  # all holds and overrides have ended


@settings(
    max_examples=tries(150, usual=40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    action=st.sampled_from(["host", "record", "ping", "create", "stage"]),
    states=st.fixed_dictionaries({"daily": meters, "minutes": meters, "projects": meters}),
)
def test_the_question_is_granted_at_the_second_that_is_told_and_not_before(place, action, states):
    move(place, 0)
    stop_clock(place)
    acme = place.workspace("only")
    amounts = {}
    for meter in place.catalog.actions[action].takes:
        used, held, overridden, amounts[meter] = states[meter]
        use(place, acme, meter, used)
        for amount, ends_in_s in held:
            hold(place, acme, meter, amount, ends_in_s)
        if overridden is not None:
            override(place, acme, meter, *overridden)

    denials = [place.ask(action, acme, mode, amounts=amounts) for mode in MODES[:1]]
    if denials[0].allowed:
        return
    denials += [place.ask(action, acme, mode, amounts=amounts) for mode in MODES[1:]]
    wait_s = reckoned(place, acme, amounts)
    told = {denied.retry_after_s for denied in denials}
    ends_an_override = any(states[meter][2] is not None for meter in amounts)
    # The end of an override is no waiting by itself: `waiting_helps` is about resets and reservations.
    assert told == {wait_s} or (told == {None} and ends_an_override)
    assert {denied.verdict.status for denied in denials} == {403 if told == {None} else 429}
    event(f"{denials[0].verdict.status}, {'no' if wait_s is None else min(wait_s, LATER) // 10} wait")
    for before in {1, (wait_s or LATER) // 2, (wait_s or LATER) - 1} - {0, wait_s}:
        move(place, before)
        assert not place.ask(action, acme, amounts=amounts).allowed, before
    if wait_s is not None:
        move(place, wait_s)
        assert place.ask(action, acme, "check", amounts=amounts).allowed
        assert place.ask(action, acme, amounts=amounts).allowed


def reckoned(place, at, amounts):
    to_come = place.facts.to_come({at.id: tuple(amounts)}, deadline=monotonic() + 60)
    return seconds_until_room(amounts, place.catalog.plans["only"].limits, to_come[at.id])


def test_a_hold_that_ends_first_is_what_to_wait_for(place):
    """Not the reset of the month."""
    acme = place.workspace("only", mia="member", adam="member")
    place.ask("record", acme, "reserve", amounts={"minutes": 10}, ttl_s=60)

    for mode in MODES:
        denied = place.ask("record", acme, mode, user="adam")

        assert (denied.verdict.status, denied.retry_after_s) == (429, 60)
        assert ("RateLimit", '"minutes";r=0;t=60') in limit_fields(denied.quota, at=denied.at)


def test_of_several_holds_the_one_that_makes_enough_room_is_what_to_wait_for(place):
    acme = place.workspace("only")
    place.ask("record", acme, "reserve", amounts={"minutes": 2}, ttl_s=10)
    place.ask("record", acme, "reserve", amounts={"minutes": 5}, ttl_s=20)
    place.ask("record", acme, "reserve", amounts={"minutes": 3}, ttl_s=30)

    for amount, wait_s in ((2, 10), (3, 20), (7, 20), (8, 30)):
        denied = place.ask("record", acme, amounts={"minutes": amount})

        assert denied.retry_after_s == wait_s
        assert "t=10" in dict(limit_fields(denied.quota, at=denied.at))["RateLimit"]


def test_of_several_meters_the_last_is_what_to_wait_for(place):
    acme = place.workspace("only")
    place.ask("record", acme, "reserve", amounts={"minutes": 10}, ttl_s=10)
    place.ask("ping", acme, "reserve", amounts={"daily": 10}, ttl_s=20)

    assert place.ask("host", acme, "check").retry_after_s == 20


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("ends_in_s", "status"), [(3_600, 403), (40 * 86_400, 429)])
def test_nobody_is_sent_to_a_reset_before_which_the_override_ends_that_would_have_room(
    place, mode, ends_in_s, status
):
    """25 of 30 are used, and 15 wanted: after the reset there is room for them by the override alone."""
    acme = place.workspace("only")
    use(place, acme, "minutes", 25)
    override(place, acme, "minutes", 30, ends_in_s)

    denied = place.ask("record", acme, mode, amounts={"minutes": 15})

    assert denied.verdict.status == status
    assert denied.verdict.waiting_helps == (denied.retry_after_s is not None) == (status == 429)
    assert (b'"waiting_helps":true' in denied.situation) == (status == 429)


def test_a_hold_that_has_ended_meanwhile_is_a_second_to_wait(place):
    acme = place.workspace("only")
    use(place, acme, "minutes", 0)
    hold(place, acme, "minutes", 10, 5)
    denied = place.ask("record", acme, "check")
    move(place, 6)

    question = Question(user="mia", workspace=acme.slug, action="record")
    late = run_steps(place.authorizer.completing(question, denied, {"minutes": 1}, deadline=monotonic() + 60))

    assert (denied.retry_after_s, late.retry_after_s) == (5, 1)


def test_where_the_second_read_fails_the_denial_stands_with_what_the_facts_say(place):
    """The first of the holds ends in 10 s: who comes back then is told anew how long to wait."""
    acme = place.workspace("only")
    place.ask("record", acme, "reserve", amounts={"minutes": 4}, ttl_s=10)
    place.ask("record", acme, "reserve", amounts={"minutes": 6}, ttl_s=20)
    place.sql("ALTER FUNCTION authz.to_come(uuid[], text[]) RENAME TO gone")
    try:
        denied = [place.ask("record", acme, mode, amounts={"minutes": 6}) for mode in MODES]
    finally:
        place.sql("ALTER FUNCTION authz.gone(uuid[], text[]) RENAME TO to_come")

    assert [(answer.verdict.status, answer.retry_after_s) for answer in denied] == [(429, 10)] * 3
    assert place.ask("record", acme, "check", amounts={"minutes": 6}).retry_after_s == 20


def test_what_is_left_above_the_limit_grows_when_enough_has_ended(place):
    """After a change to a smaller plan: the first end leaves the workspace above its limit."""
    acme = place.workspace("only")
    use(place, acme, "projects", 8)
    hold(place, acme, "projects", 3, 10)
    hold(place, acme, "projects", 2, 20)

    denied = place.ask("create", acme, "check")

    assert dict(limit_fields(denied.quota, at=denied.at))["RateLimit"] == '"projects";r=0;t=20'


@pytest.mark.parametrize("mode", MODES)
def test_an_allowed_answer_says_when_more_will_be_left(place, mode):
    """Without one more read: by the facts, and by the reservation that it makes itself."""
    acme = place.workspace("only")
    place.ask("record", acme, "reserve", amounts={"minutes": 4}, ttl_s=60)

    allowed = place.ask("record", acme, mode, ttl_s=30)

    assert allowed.allowed
    ends_in_s = 30 if mode == "reserve" else 60
    assert f";t={ends_in_s}" in dict(limit_fields(allowed.quota, at=allowed.at))["RateLimit"]


@pytest.mark.parametrize("mode", ["consume", "reserve"])
def test_a_replay_says_the_same(place, mode):
    acme = place.workspace("only")
    place.ask("record", acme, "reserve", amounts={"minutes": 4}, ttl_s=20)

    first, again = (place.ask("record", acme, mode, idempotency_key="k") for _ in range(2))

    assert again.replayed
    assert again.quota == first.quota
    assert again.quota["minutes"].grows_at - again.at <= timedelta(seconds=20)


def test_only_denials_that_need_it_read_once_more(place, monkeypatch):
    acme = place.workspace("only")
    asked = []

    def nothing_to_come(meters, deadline):
        asked.append(meters)
        return {}

    monkeypatch.setattr(place.facts, "to_come", nothing_to_come)
    for mode in MODES:
        place.ask("record", acme, mode, amounts={"minutes": 3})
    assert not place.ask("record", acme, "check", amounts={"minutes": 8}).allowed  # the hold makes no room
    assert asked == []

    denied = place.ask("record", acme, "check", amounts={"minutes": 7})

    assert not denied.allowed
    assert asked == [{acme.id: ("minutes",)}]


def test_a_batch_reads_once_more_for_all_its_denials(place):
    acme, busy = place.workspace("only"), place.workspace("only")
    for at, ttl_s in ((acme, 10), (busy, 20)):
        place.ask("host", at, "reserve", amounts={"minutes": 4, "daily": 10}, ttl_s=ttl_s)
        place.ask("record", at, "reserve", amounts={"minutes": 6}, ttl_s=2 * ttl_s)
    questions = [
        Question(user="mia", workspace=at.slug, action=action, amounts=amounts)
        for at in (acme, busy)
        for action, amounts in (("ping", None), ("record", {"minutes": 5}))
    ]

    answers = run_steps(place.authorizer.deciding_many(questions, deadline=monotonic() + 60))

    assert [answer.retry_after_s for answer in answers] == [10, 20, 20, 40]
