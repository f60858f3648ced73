from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sidecar.decisions.model import Quota
from sidecar.guard import limits
from sidecar.guard.answers import Quota as GuardQuota
from sidecar.guard.answers import decision_from
from sidecar.quota.ratelimit import limit_fields
from tests.guard.values import a_grant

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIGURES = st.integers(0, 10**18)
MOMENTS = st.none() | st.floats(-3e6, 3e6).map(lambda seconds: NOW + timedelta(seconds=seconds))
QUOTAS = st.builds(
    Quota,
    limit=st.none() | FIGURES,
    used=FIGURES,
    reserved=FIGURES,
    resets_at=MOMENTS,
    frees_at=MOMENTS,
)


def a_quota(*, limit: int | None = 100, used: int = 97, resets_in_s: float | None = None) -> Quota:
    resets_at = None if resets_in_s is None else NOW + timedelta(seconds=resets_in_s)
    return Quota(limit=limit, used=used, reserved=0, resets_at=resets_at)


def as_the_guard_reads(quota: Quota) -> GuardQuota:
    return GuardQuota(
        limit=quota.limit,
        used=quota.used,
        reserved=quota.reserved,
        remaining=quota.remaining,
        resets_at=quota.resets_at,
        over_by=quota.over_by,
        grows_at=quota.grows_at,
    )


def test_each_limited_meter_has_what_is_left_and_when_it_resets():
    quotas = {"minutes": a_quota(resets_in_s=59.1), "seats": a_quota(), "calls": a_quota(limit=None)}

    assert limit_fields(quotas, at=NOW) == [
        ("RateLimit-Policy", '"minutes";q=100, "seats";q=100'),
        ("RateLimit", '"minutes";r=3;t=60, "seats";r=3'),
    ]


def test_without_a_limited_meter_there_are_no_fields():
    assert limit_fields({"calls": a_quota(limit=None)}, at=NOW) == []
    assert limit_fields({}, at=NOW) == []


def test_above_the_limit_nothing_is_left_and_a_past_reset_is_now():
    fields = dict(limit_fields({"minutes": a_quota(used=150, resets_in_s=-60)}, at=NOW))

    assert fields["RateLimit"] == '"minutes";r=0;t=0'


@given(st.dictionaries(st.sampled_from(["minutes", "scenarios", "seats"]), QUOTAS))
def test_a_guard_in_a_backend_writes_the_same_fields(quotas):
    """The guard has its own code for this, since it imports nothing of the sidecar's."""
    document = a_grant(facts={"at": NOW.isoformat(), "cached": False})
    decision = decision_from(document)
    as_read = {meter: as_the_guard_reads(quota) for meter, quota in quotas.items()}

    assert limits.limit_fields([replace(decision, quota=as_read)]) == limit_fields(quotas, at=NOW)
