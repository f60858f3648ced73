"""Periods tile time, whatever the anchor: no gap, no overlap, and a boundary belongs to the later one."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.postgres

MICROSECOND = timedelta(microseconds=1)
PERIODS = """
    SELECT lower(p), upper(p), lower(after), upper(before)
    FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS asked (per, anchor, at)
    CROSS JOIN LATERAL authz.period_of(per, anchor, at) AS p
    CROSS JOIN LATERAL authz.period_of(per, anchor, upper(p)) AS after
    CROSS JOIN LATERAL authz.period_of(per, anchor, lower(p) - interval '1 microsecond') AS before
"""
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
# The ends of months are where the mistakes are.
anchors = moments | st.builds(
    lambda year, month, back, at: (
        datetime(year, month, monthrange(year, month)[1], tzinfo=UTC) - timedelta(days=back) + at
    ),
    st.integers(1996, 2032),
    st.integers(1, 12),
    st.integers(0, 3),
    st.sampled_from([timedelta(0), timedelta(hours=10), timedelta(days=1) - MICROSECOND]),
)


def months_after(anchor: datetime, months: int) -> datetime:
    """Reckoned here: the anchor's day, or the last day of a month that is too short for it."""
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, monthrange(year, month + 1)[1]))


@pytest.fixture(scope="module")
def connection(quota_url):
    with psycopg.connect(quota_url, autocommit=True) as connection:
        yield connection


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(st.tuples(st.sampled_from(["month", "day"]), anchors, moments), min_size=1, max_size=200)
)
def test_periods_tile_time_for_every_anchor(connection, asked):
    found = connection.execute(PERIODS, tuple(map(list, zip(*asked, strict=True)))).fetchall()

    assert len(found) == len(asked)
    for (per, anchor, at), (start, end, next_start, previous_end) in zip(asked, found, strict=True):
        assert start <= at < end
        assert (next_start, previous_end) == (end, start)
        if per == "day":
            assert (start, end) == (
                at.replace(hour=0, minute=0, second=0, microsecond=0),
                start + timedelta(days=1),
            )
        else:
            months = (start.year - anchor.year) * 12 + start.month - anchor.month
            assert (start, end) == (months_after(anchor, months), months_after(anchor, months + 1))


@pytest.mark.parametrize(
    ("anchor", "starts"),
    [
        ("2023-01-31", ["2023-02-28", "2023-03-31", "2023-04-30", "2023-05-31"]),
        ("2024-01-31", ["2024-02-29", "2024-03-31"]),
        ("2024-02-29", ["2024-03-29", "2024-04-29"]),
    ],
)
def test_a_day_that_a_month_does_not_have_is_its_last_one_and_the_next_month_has_it_again(
    connection, anchor, starts
):
    for start in starts:
        [(before, at)] = connection.execute(
            """SELECT upper(authz.period_of('month', a, s - interval '1 microsecond')),
                lower(authz.period_of('month', a, s))
            FROM (VALUES (%s::timestamptz, %s::timestamptz)) AS asked (a, s)""",
            (f"{anchor}T00:00Z", f"{start}T00:00Z"),
        ).fetchall()

        assert before == at == datetime.fromisoformat(f"{start}T00:00Z")


def test_a_leap_day_comes_back_in_the_next_leap_year(connection):
    [(short, leap)] = connection.execute(
        """SELECT lower(authz.period_of('month', '2024-02-29Z', '2025-02-28 12:00Z')),
            lower(authz.period_of('month', '2024-02-29Z', '2028-02-29 12:00Z'))"""
    ).fetchall()

    assert (short.day, leap.day) == (28, 29)


def test_a_month_of_the_calendar_and_one_of_the_subscription_are_told_apart(place):
    acme = place.workspace("small", subscribed="'2023-01-31 10:00Z'")

    billed, minutes = place.usage(acme, "billed").resets_at, place.usage(acme, "minutes").resets_at

    assert (minutes.day, minutes.hour) == (1, 0)
    assert (billed.day, billed.hour) == (min(31, monthrange(billed.year, billed.month)[1]), 10)
    for action, meter in (("bill", "billed"), ("record", "minutes")):
        assert place.ask(action, acme).quota[meter].resets_at == place.usage(acme, meter).resets_at


def moved(place, at, *, by):
    """What was used of each meter there, to another period."""
    for table in ("workspace_usage", "usage_ledger"):
        query = f"UPDATE authz.{table} SET period_start = period_start + %s::interval WHERE workspace_id = %s"
        place.sql(query, by, at.id)


def test_a_clock_that_goes_back_forgives_nothing(place):
    """A counter of a later period than the clock says: what was used is used."""
    acme = place.workspace("small")
    place.ask("ping", acme, amounts={"daily": 8})
    moved(place, acme, by="1 day")

    assert place.ask("ping", acme, amounts={"daily": 2}).quota["daily"].used == 10
    assert not place.ask("ping", acme, "check").allowed
    assert not place.ask("ping", acme).allowed


def test_a_counter_of_an_older_period_counts_nothing_and_is_written_over(place):
    acme = place.workspace("small")
    place.ask("ping", acme, amounts={"daily": 10}, idempotency_key="old")
    moved(place, acme, by="-1 day")
    place.sql(
        "UPDATE authz.usage_keys SET starts = ARRAY[starts[1] - interval '1 day'] WHERE workspace_id = %s",
        acme.id,
    )

    assert place.usage(acme, "daily").used == 0
    assert place.ask("ping", acme, amounts={"daily": 3}).quota["daily"].used == 3
    assert place.refund(acme, "old").now.usage["daily"].used == 3
    assert place.ledger_of(acme) == [
        ("daily", 10, "consume"),
        ("daily", 3, "consume"),
        ("daily", -10, "release"),
    ]
