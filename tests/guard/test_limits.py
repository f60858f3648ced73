from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sidecar.guard.answers import decision_from
from sidecar.guard.limits import limit_fields
from tests.guard.values import a_denial, a_grant, a_quota

# RFC 9651, as far as these fields use it: a List of Strings with Integers as parameters.
_ITEM = r'"[ !#-\[\]-~]*"(;[a-z*][a-z0-9_.*-]*=-?[0-9]{1,15})*'
LIST = re.compile(rf"{_ITEM}(,[ \t]*{_ITEM})*", re.ASCII)


def fields_of(*answers):
    return dict(limit_fields(decision_from(answer) for answer in answers))


def test_a_quota_is_told_as_a_policy_and_what_is_left_of_it():
    fields = fields_of(a_grant(quota={"minutes": a_quota()}))

    assert fields == {"RateLimit-Policy": '"minutes";q=100', "RateLimit": '"minutes";r=3;t=561600'}
    assert datetime(2026, 11, 24, 12, tzinfo=UTC) + timedelta(seconds=561_600) == datetime(
        2026, 12, 1, tzinfo=UTC
    )


def test_several_meters_are_a_list_and_parse_as_one():
    fields = fields_of(a_grant(quota={"minutes": a_quota(), "scenarios": a_quota(resets_at=None)}))

    assert fields["RateLimit"] == '"minutes";r=3;t=561600, "scenarios";r=3'
    assert all(LIST.fullmatch(value) for value in fields.values())


def test_unlimited_is_not_told():
    unlimited = a_quota(limit=None, remaining=None)

    assert fields_of(a_grant(quota={"minutes": unlimited})) == {}
    assert fields_of(a_grant()) == {}


def test_above_the_limit_nothing_is_left():
    over = a_quota(limit=100, used=150, remaining=0, over_by=50)

    assert fields_of(a_denial(quota={"minutes": over}))["RateLimit"].startswith('"minutes";r=0;')


def test_a_reset_that_is_over_is_now_and_part_of_a_second_is_a_second():
    past, soon = ("2026-11-24T11:59:00Z", "2026-11-24T12:00:00.1Z")

    assert fields_of(a_grant(quota={"m": a_quota(resets_at=past)}))["RateLimit"] == '"m";r=3;t=0'
    assert fields_of(a_grant(quota={"m": a_quota(resets_at=soon)}))["RateLimit"] == '"m";r=3;t=1'


def test_a_reservation_that_ends_first_is_when_there_is_more():
    held = a_quota(reserved=3, remaining=0, grows_at="2026-11-24T12:00:30Z")

    assert fields_of(a_grant(quota={"m": held}))["RateLimit"] == '"m";r=0;t=30'
    assert fields_of(a_grant(quota={"m": held | {"resets_at": None}}))["RateLimit"] == '"m";r=0;t=30'


def test_numbers_are_those_that_a_structured_field_can_hold():
    huge = a_quota(limit=10**18, remaining=10**18)

    assert LIST.fullmatch(fields_of(a_grant(quota={"m": huge}))["RateLimit"])


def test_of_two_decisions_the_later_one_counts():
    before, after = a_grant(quota={"m": a_quota(remaining=3)}), a_grant(quota={"m": a_quota(remaining=2)})

    assert fields_of(before, after)["RateLimit"].startswith('"m";r=2;')
