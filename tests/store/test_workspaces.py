"""What an administrator changes, and what the next question then sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from sidecar.errors import BadQuestion, FactsUnavailable, UnknownPlan, UnknownWorkspace
from sidecar.store.workspaces import WorkspaceStore
from sidecar.workspaces.administration import Override, OverridesChange, PlanChange, StatusChange
from tests.postgres_server import rows
from tests.values import FAR_AWAY

pytestmark = pytest.mark.postgres

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)


@pytest.fixture
def workspace(database_url):
    slug = f"w-{str(uuid4())[:8]}"
    rows(
        database_url,
        "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'W', 'starter')",
        slug,
    )
    return slug


def applied(store, workspace, change):
    return store.apply(workspace, change, actor="ops", deadline=FAR_AWAY)


def set_plan(store, workspace, plan, as_of=None):
    return applied(store, workspace, PlanChange(plan=plan, as_of=as_of))


def override(store, workspace, features=None, limits=None, **more):
    change = OverridesChange(features=features or {}, limits=limits or {}, **more)
    return applied(store, workspace, change)


def test_a_plan_is_set_as_of_now(store, workspace):
    before = datetime.now(UTC)

    state = set_plan(store, workspace, "team")

    assert (state.slug, state.plan, state.status, state.applied) == (workspace, "team", "active", True)
    assert abs(state.as_of - before) < timedelta(minutes=1)


def test_a_workspace_is_named_by_its_id_too(store, workspace):
    id_ = set_plan(store, workspace, "pro").workspace_id

    assert set_plan(store, str(id_).upper(), "team").slug == workspace


def test_news_that_come_late_are_ignored_and_equal_ones_applied(store, workspace):
    set_plan(store, workspace, "team", NOON)

    late = set_plan(store, workspace, "starter", NOON - A_SECOND)
    assert (late.applied, late.plan, late.as_of) == (False, "team", NOON)

    equal = set_plan(store, workspace, "pro", NOON)
    assert (equal.applied, equal.plan, equal.as_of) == (True, "pro", NOON)

    newer = set_plan(store, workspace, "starter", NOON + A_SECOND)
    assert (newer.applied, newer.plan, newer.as_of) == (True, "starter", NOON + A_SECOND)


def test_the_first_news_of_a_plan_are_never_late(store, workspace):
    assert set_plan(store, workspace, "team", datetime(2001, 1, 1, tzinfo=UTC)).applied


def test_a_date_is_the_same_instant_in_every_zone(store, workspace):
    there = NOON.astimezone(tz=None).astimezone(UTC)

    assert set_plan(store, workspace, "team", there).as_of == NOON


def test_overrides_merge_and_null_removes(store, workspace):
    override(store, workspace, {"video_avatar": True, "analytics": False}, {"minutes": 5_000, "scenarios": 3})
    state = override(store, workspace, {"analytics": None}, {"minutes": "unlimited", "members": 0})

    assert state.features == {"video_avatar": True}
    assert state.limits == {"minutes": None, "scenarios": 3, "members": 0}
    assert state.applied


def test_an_expiry_is_of_the_keys_of_its_call(store, workspace):
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    override(store, workspace, {"analytics": True}, reason="pilot")

    state = override(store, workspace, {}, {"minutes": 7}, expires_at=until, reason="trial")

    assert state.overrides == (
        Override(kind="feature", name="analytics", value=True, expires_at=None, reason="pilot"),
        Override(kind="limit", name="minutes", value=7, expires_at=until, reason="trial"),
    )


def test_what_has_expired_is_not_shown(store, workspace):
    state = override(store, workspace, {"analytics": True}, expires_at=datetime.now(UTC) - A_SECOND)

    assert state.overrides == ()


@pytest.mark.parametrize(
    ("features", "limits", "says"),
    [
        ({"telepathy": True}, {}, 'feature "telepathy" is not declared'),
        ({"analytics": "yes"}, {}, 'feature "analytics" is true, false or null, not "yes"'),
        ({"analytics": 1}, {}, 'feature "analytics" is true, false or null, not 1'),
        ({}, {"hours": 1}, 'meter "hours" is not declared'),
        ({}, {"minutes": -1}, 'limit "minutes" is a whole number, "unlimited" or null, not -1'),
        ({}, {"minutes": 1.5}, 'limit "minutes" is a whole number, "unlimited" or null, not 1.5'),
        ({}, {"minutes": "7"}, 'limit "minutes" is a whole number, "unlimited" or null, not "7"'),
        ({}, {"minutes": True}, 'limit "minutes" is a whole number, "unlimited" or null, not true'),
        ({}, {"minutes": 10**20}, 'limit "minutes" is a whole number'),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(store, workspace, features, limits, says):
    with pytest.raises(BadQuestion) as refused:
        override(store, workspace, {"video_avatar": True, **features}, limits)

    assert says in str(refused.value)
    assert override(store, workspace).overrides == ()


def test_what_is_declared_no_more_can_still_be_removed(store, workspace, database_url):
    rows(
        database_url,
        """INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled)
        SELECT id, 'feature', 'telepathy', true FROM authz.workspaces WHERE slug = %s""",
        workspace,
    )

    assert override(store, workspace, {"telepathy": None}).overrides == ()


def test_a_workspace_is_suspended_and_let_in_again(store, workspace):
    suspended = applied(store, workspace, StatusChange(status="suspended", reason="unpaid"))
    active = applied(store, workspace, StatusChange(status="active"))

    assert (suspended.status, suspended.reason, suspended.applied) == ("suspended", "unpaid", True)
    assert (active.status, active.reason, active.applied) == ("active", None, True)


def test_a_status_that_does_not_exist_is_refused(store, workspace):
    with pytest.raises(BadQuestion, match="active or suspended"):
        applied(store, workspace, StatusChange(status="frozen"))  # type: ignore[arg-type] # what it tests


@pytest.mark.parametrize(
    "name", ["nowhere", "186ad6e7-dbb8-446a-b136-35e2b0bd3df9", "", "'", "%s", "ä", "\ud800", "x" * 5_000]
)
def test_a_workspace_that_does_not_exist(store, name):
    with pytest.raises((UnknownWorkspace, BadQuestion)) as unknown:
        set_plan(store, name, "team")

    assert unknown.type is (BadQuestion if name == "\ud800" else UnknownWorkspace)


def test_text_is_never_cut_at_a_nul(store, workspace):
    with pytest.raises(BadQuestion, match="NUL"):
        set_plan(store, f"{workspace}\0", "team")


def test_a_plan_that_is_not_sold(store, workspace):
    with pytest.raises(UnknownPlan, match='plan "gold" is not sold'):
        set_plan(store, workspace, "gold")


def test_an_unknown_workspace_comes_before_an_unknown_plan(store):
    with pytest.raises(UnknownWorkspace):
        set_plan(store, "nowhere", "gold")


def test_nobody_to_ask_is_an_outage():
    store = WorkspaceStore("postgresql://postgres@127.0.0.1:1/x")
    store.open()

    with pytest.raises(FactsUnavailable, match="cannot be reached"):
        set_plan(store, "acme", "team")
    store.close()
