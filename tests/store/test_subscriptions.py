"""Subscriptions in PostgreSQL: a fold over events, in whatever order they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.errors import BadQuestion, EventReused, UnknownPlan, UnknownWorkspace
from sidecar.workspaces.administration import OverridesChange, PlanChange, StatusChange
from sidecar.workspaces.subscriptions import STATUSES, SubscriptionChange
from tests.postgres_server import rows
from tests.store.billing_model import Event, Given, Meaning, State, anchor_of, state_of, subscriptions_of
from tests.values import FAR_AWAY

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
DEFAULTS = Meaning(grace_days=7, past_due=None, unpaid=None, paused=None, canceled="starter", trial="starter")


@pytest.fixture
def workspace(database_url):
    return made(database_url)


def made(url, plan="starter"):
    slug = f"b-{uuid4().hex[:10]}"
    rows(url, "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'B', %s)", slug, plan)
    return slug


def applied(store, workspace, change):
    return store.apply(workspace, change, actor="ops", deadline=FAR_AWAY)


def tell(store, workspace, plan="pro", status="active", as_of=NOW, **more):
    return applied(store, workspace, SubscriptionChange(plan=plan, status=status, as_of=as_of, **more))


def put(store, workspace, event: Event):
    return applied(
        store,
        workspace,
        SubscriptionChange(
            subscription=event.subscription,
            plan=event.plan,
            status=event.status,  # type: ignore[arg-type] # one of STATUSES
            seats=event.seats,
            trial_ends_at=event.trial_ends_at,
            billing_anchor=event.billing_anchor,
            as_of=event.as_of,
            event=event.event,
            source=event.source,
        ),
    )


def states_then(url, workspace, moments) -> list[State]:
    """What every reader makes of the row at each moment, if nothing is written until then."""
    found = rows(
        url,
        """SELECT authz.plan_at(w.plan_tier, w.turns_at, w.turns, m.at),
            authz.status_at(w.status, w.turns_at, w.turns, m.at),
            authz.seats_at(w.seats, w.turns_at, w.turns, m.at)
        FROM authz.workspaces AS w, unnest(%s::timestamptz[]) WITH ORDINALITY AS m (at, number)
        WHERE w.slug = %s ORDER BY m.number""",
        list(moments),
        workspace,
    )
    return [State(*each) for each in found]


def as_of_then(url, workspace, at) -> State:
    [state] = states_then(url, workspace, [at])
    return state


def days(low, high):
    # Off by some seconds, so that nothing ends while the test looks.
    return st.integers(low, high).map(lambda n: NOW + n * DAY / 2 - timedelta(seconds=77))


EVENTS = st.builds(
    Event,
    subscription=st.sampled_from(["a", "b", "c"]),
    plan=st.sampled_from(["starter", "pro", "team"]),
    status=st.sampled_from(STATUSES),
    as_of=days(-30, 0),
    event=st.integers(0, 999).map(lambda n: f"evt_{n}"),
    source=st.sampled_from(["api", "stripe"]),
    seats=st.sampled_from([None, 3, 25]),
    trial_ends_at=days(-10, 20),
    billing_anchor=st.one_of(st.none(), days(-200, 50)),
)
HISTORIES = st.lists(EVENTS, min_size=1, max_size=7, unique_by=lambda each: (each.source, each.event))
GIVENS = st.builds(
    Given,
    plan=st.sampled_from(["starter", "team"]),
    plan_as_of=st.one_of(st.none(), days(-30, 0)),
    status=st.sampled_from(["active", "active", "suspended"]),
)


@given(history=HISTORIES, by_hand=GIVENS, seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shuffled_repeated_and_cut_histories_end_as_the_model_says(
    database_url, store, history, by_hand, seed
):
    workspace, random = made(database_url, by_hand.plan), Random(seed)  # noqa: S311 - a shuffle
    sent = history + random.choices(history, k=len(history) // 2)
    random.shuffle(sent)
    sent = sent[: random.randint(1, len(sent))]
    if by_hand.status == "suspended":
        applied(store, workspace, StatusChange(status="suspended"))
    place = random.randint(0, len(sent))
    known: list[Event] = []
    now = by_hand if by_hand.plan_as_of is None else Given(by_hand.plan, None, by_hand.status)

    for number, event in enumerate([*sent[:place], None, *sent[place:]]):
        if event is None:
            now = by_hand
            if by_hand.plan_as_of is not None:
                applied(store, workspace, PlanChange(plan=by_hand.plan, as_of=by_hand.plan_as_of))
            continue
        before = (subscriptions_of(known).get(event.subscription), state_of(known, now, DEFAULTS, at=NOW))
        is_new = event not in known
        known += [event] if is_new else []
        after = (subscriptions_of(known)[event.subscription], state_of(known, now, DEFAULTS, at=NOW))

        state = put(store, workspace, event)

        assert state.replayed == (not is_new), number
        told = [(before[0], before[1].plan, before[1].status), (after[0], after[1].plan, after[1].status)]
        if not is_new:
            assert not state.applied
        elif told[0] != told[1]:
            assert state.applied, number
        assert (state.plan, state.status) == (after[1].plan, after[1].status)

    moments = [NOW, *(NOW + n * DAY / 2 for n in range(1, 24))]
    assert states_then(database_url, workspace, moments) == [
        state_of(known, now, DEFAULTS, at=at) for at in moments
    ]
    [(anchor,)] = rows(database_url, "SELECT subscribed_at FROM authz.workspaces WHERE slug = %s", workspace)
    assert anchor_of(known) in {None, anchor}


def test_a_subscription_gives_its_plan_and_what_ends_by_time_ends_without_a_write(
    database_url, store, workspace
):
    tell(store, workspace, "team", "trialing", trial_ends_at=NOW + DAY, seats=4)

    assert as_of_then(database_url, workspace, NOW) == State("team", "active", 4)
    assert as_of_then(database_url, workspace, NOW + DAY) == State("starter", "active", None)


def test_grace_counts_from_the_first_of_consecutive_failures(database_url, store, workspace):
    for number, ago in enumerate((9, 6, 1)):
        tell(store, workspace, "pro", "past_due", NOW - ago * DAY, event=f"e{number}")
    assert as_of_then(database_url, workspace, NOW).status == "suspended"

    tell(store, workspace, "pro", "active", NOW - 8 * DAY, event="paid")  # comes late

    assert as_of_then(database_url, workspace, NOW) == State("pro", "active", None)
    assert as_of_then(database_url, workspace, NOW + DAY).status == "suspended"


def test_the_end_of_an_old_subscription_takes_nothing_that_a_newer_one_gives(store, workspace):
    tell(store, workspace, "pro", "active", NOW - 3 * DAY, subscription="old")
    tell(store, workspace, "team", "active", NOW - 2 * DAY, subscription="new")

    assert tell(store, workspace, "pro", "canceled", NOW, subscription="old").plan == "team"


def test_an_event_counts_once_and_is_not_another_one(store, workspace):
    first = tell(store, workspace, "pro", event="evt_1")
    again = tell(store, workspace, "pro", event="evt_1")

    assert (first.applied, first.replayed) == (True, False)
    assert (again.applied, again.replayed, again.plan) == (False, True, "pro")
    with pytest.raises(EventReused):
        tell(store, workspace, "team", event="evt_1")
    assert tell(store, workspace, "team", event="evt_1", source="stripe").plan == "team"


def test_what_has_no_name_is_named_by_what_it_says(store, workspace):
    assert not tell(store, workspace, "pro").replayed
    assert tell(store, workspace, "pro").replayed
    assert not tell(store, workspace, "pro", seats=3).replayed


@pytest.mark.parametrize(
    "change",
    [
        PlanChange(plan="pro", as_of=NOW + DAY, overrule=True),
        StatusChange(status="suspended", as_of=NOW + DAY, overrule=True),
        SubscriptionChange(plan="pro", status="active", as_of=NOW + DAY),
    ],
    ids=["plan", "status", "subscription"],
)
def test_a_date_that_is_to_come_is_refused(store, workspace, change):
    with pytest.raises(BadQuestion) as refused:
        applied(store, workspace, change)

    assert refused.value.code == "as_of_in_the_future"


def test_a_date_four_minutes_ahead_is_a_clock_that_is_not_quite_right(store, workspace):
    ahead = datetime.now(UTC) + timedelta(minutes=4)

    assert applied(store, workspace, PlanChange(plan="pro", as_of=ahead)).applied


def test_what_names_nothing_is_refused(store, workspace):
    with pytest.raises(UnknownPlan):
        tell(store, workspace, "gold")
    with pytest.raises(UnknownWorkspace):
        tell(store, "nowhere")


def test_a_plan_that_was_given_later_wins_over_plan_and_seats_and_not_over_a_suspension(
    database_url, store, workspace
):
    tell(store, workspace, "pro", "active", NOW - 2 * DAY, seats=25, event="a")
    applied(store, workspace, PlanChange(plan="team", as_of=NOW - DAY))
    assert as_of_then(database_url, workspace, NOW) == State("team", "active", None)

    tell(store, workspace, "pro", "unpaid", NOW - 2 * DAY, event="b")
    assert as_of_then(database_url, workspace, NOW) == State("team", "suspended", None)

    tell(store, workspace, "pro", "active", NOW, event="c")
    assert as_of_then(database_url, workspace, NOW) == State("pro", "active", None)


def test_an_operators_suspension_ends_by_an_operator_alone(store, workspace):
    applied(store, workspace, StatusChange(status="suspended", reason="abuse"))
    assert tell(store, workspace, "pro", event="a").status == "suspended"
    tell(store, workspace, "pro", "unpaid", NOW, event="b")

    state = applied(store, workspace, StatusChange(status="active"))

    assert (state.status, state.applied) == ("suspended", True)
    assert tell(store, workspace, "pro", "active", NOW + timedelta(seconds=9), event="c").status == "active"


def test_a_status_has_a_clock_of_its_own_and_overrule_skips_its_order(store, workspace):
    applied(store, workspace, StatusChange(status="suspended", as_of=NOW))

    late = applied(store, workspace, StatusChange(status="active", as_of=NOW - DAY))
    overruled = applied(store, workspace, StatusChange(status="active", as_of=NOW - DAY, overrule=True))

    assert (late.applied, late.status) == (False, "suspended")
    assert (overruled.applied, overruled.status) == (True, "active")


def test_an_overruled_plan_is_still_as_old_as_it_says(store, workspace):
    tell(store, workspace, "pro", "active", NOW - DAY)
    applied(store, workspace, PlanChange(plan="starter", as_of=NOW))

    state = applied(store, workspace, PlanChange(plan="team", as_of=NOW - 2 * DAY, overrule=True))

    assert (state.applied, state.plan) == (True, "pro")


def test_an_override_until_the_plan_changes_ends_with_the_plan_and_does_not_come_back(store, workspace):
    override(store, workspace, "analytics")
    assert applied(store, workspace, PlanChange(plan="team")).features == {}
    assert applied(store, workspace, PlanChange(plan="starter")).features == {}


def test_an_override_until_the_plan_changes_ends_when_the_trial_does(database_url, store, workspace):
    tell(store, workspace, "pro", "trialing", trial_ends_at=NOW + DAY)
    state = override(store, workspace, "team_sessions")

    [shown] = state.overrides
    assert (shown.until_plan_change, shown.expires_at) == (True, None)
    [(ends,)] = rows(
        database_url,
        """SELECT f.expires_at FROM authz.workspace_features AS f
        JOIN authz.workspaces AS w ON w.id = f.workspace_id WHERE w.slug = %s""",
        workspace,
    )
    assert ends == NOW + DAY
    assert tell(store, workspace, "pro", "active", NOW).features == {"team_sessions": True}


def override(store, workspace, feature):
    return applied(store, workspace, OverridesChange(features={feature: True}, until_plan_change=True))


def test_news_of_a_deleted_workspace_take_effect_when_it_is_restored(database_url, store, workspace):
    [(id_,)] = rows(database_url, "SELECT id FROM authz.workspaces WHERE slug = %s", workspace)
    delete = """UPDATE authz.workspaces SET deleted_at = now(), deleted_by = 'x', members_before = '[]'
        WHERE id = %s"""
    rows(database_url, delete, id_)

    tell(store, workspace, "team")
    rows(database_url, "SELECT authz.restore_workspace(%s)::text", id_)

    assert as_of_then(database_url, workspace, NOW) == State("team", "active", None)


def test_every_helper_of_the_applications_sql_shows_what_holds_now(database_url, store, workspace):
    rows(
        database_url,
        """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
        SELECT w.id, w.slug, 'owner' FROM authz.workspaces AS w WHERE w.slug = %s RETURNING user_id""",
        workspace,
    )
    tell(store, workspace, "team", "trialing", NOW - 2 * DAY, trial_ends_at=NOW + timedelta(days=30))
    query = """SELECT u.plan_tier, u.status, authz.has_feature_access(u.workspace_id, 'team_sessions'),
        f.facts ->> 'plan', f.facts ->> 'status',
        authz.facts_for(ARRAY[%(w)s], ARRAY[%(w)s], ARRAY['']) -> 0 ->> 4,
        authz.facts_for(ARRAY[%(w)s], ARRAY[%(w)s], ARRAY['members']) -> 0 ->> 5,
        authz.plain_facts(ARRAY[%(w)s], ARRAY[%(w)s]) -> 'rows' -> 0 ->> 4,
        authz.plain_facts(ARRAY[%(w)s], ARRAY[%(w)s]) -> 'rows' -> 0 ->> 5
        FROM authz.get_user_workspaces(%(w)s) AS u JOIN authz.member_facts AS f ON f.slug = u.slug"""

    def shown():
        with psycopg.connect(database_url) as connection:
            return connection.execute(query, {"w": workspace}).fetchall()

    assert shown() == [("team", "active", True, *("team", "active") * 3)]

    ended = NOW - timedelta(seconds=1)
    rows(  # as if the trial had ended, with no write since
        database_url,
        """UPDATE authz.workspaces SET turns_at = %s,
            turns = jsonb_build_array(turns -> 0 || jsonb_build_object('at', %s::timestamptz))
        WHERE slug = %s""",
        ended,
        ended,
        workspace,
    )
    assert shown() == [("starter", "active", False, *("starter", "active") * 3)]


def test_the_history_tells_all_of_it(database_url):
    """All that the tests above have done, and what it had become at a moment that is to come."""
    assert rows(database_url, "SELECT * FROM authz.unaccounted()") == []
    [(wrong,)] = rows(
        database_url,
        """SELECT count(*)
        FROM (SELECT now() + make_interval(days => d) AS at FROM generate_series(0, 9) AS d) AS m
        CROSS JOIN LATERAL authz.workspaces_at(m.at) AS t
        JOIN authz.workspaces AS w ON w.id = t.workspace_id
        WHERE (t.plan, t.status) IS DISTINCT FROM (
            authz.plan_at(w.plan_tier, w.turns_at, w.turns, m.at),
            authz.status_at(w.status, w.turns_at, w.turns, m.at)
        )""",
    )
    assert wrong == 0
