"""Times as PostgreSQL writes them, in whatever year and zone, and whatever SQL has stored."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sidecar.store.moments import moment_of
from sidecar.store.workspaces import WorkspaceStore
from sidecar.workspaces.administration import PlanChange
from tests.postgres_server import rows
from tests.values import FAR_AWAY

LAST, FIRST = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T12:00:00+01:00", datetime(2026, 11, 24, 11, tzinfo=UTC)),
        ("infinity", LAST),
        ("-infinity", FIRST),
        ("10000-01-01T13:59:59+00:00", LAST),
        ("294276-12-31T23:59:59.999999+00:00", LAST),
        ("9999-12-31T23:59:59-14:00", LAST),
        ("0001-01-01T00:00:00+14:00", FIRST),
        ("0044-03-15T00:00:00+00:00 BC", FIRST),
    ],
)
def test_a_time_that_python_cannot_hold_is_the_first_or_the_last(text, moment):
    assert moment_of(text) == moment


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00:00+00:00"])
def test_what_is_no_time_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".*"):
        moment_of(text)


@pytest.mark.postgres
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize(
    "as_of", ["294276-01-01", "9999-12-31T23:59:59-14:00", "0001-01-01", "4000-01-01 BC"]
)
def test_a_plan_of_any_time_does_not_keep_a_later_change_away(database_url, zone, as_of):
    slug = f"far-{abs(hash((zone, as_of)))}"
    rows(
        database_url,
        "INSERT INTO authz.workspaces (slug, name, plan_tier, plan_as_of) VALUES (%s, 'W', 'starter', %s)",
        slug,
        as_of,
    )
    store = WorkspaceStore(f"{database_url}&options=-c%20TimeZone%3D{zone}")
    store.open()
    try:
        state = store.apply(slug, PlanChange(plan="team"), actor="ops", deadline=FAR_AWAY)
    finally:
        store.close()

    assert state.applied is (not as_of.startswith(("9999", "294276")))
