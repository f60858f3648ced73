"""Quota is spent through PgBouncer as without it: no more than the limit, and nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sidecar.store.connection_options import ConnectionOptions
from tests.postgres_server import run
from tests.quota.place import Place
from tests.store.pgbouncer import a_pgbouncer

pytestmark = pytest.mark.postgres

DEFAULTS = {"role": "authz_sidecar", "statement_timeout": "5s", "lock_timeout": "1s"}


@pytest.fixture(params=["transaction", "session"])
def place(request, quota_url, rules):
    run(
        quota_url,
        "DROP ROLE IF EXISTS pooled",
        "CREATE ROLE pooled LOGIN IN ROLE authz_sidecar",
        *(f"ALTER ROLE pooled SET {name} = '{value}'" for name, value in DEFAULTS.items()),
    )
    with a_pgbouncer(quota_url, mode=request.param, size=8) as through:
        options = ConnectionOptions(pooler=request.param)
        place = Place(
            quota_url, rules, connections=4, through=f"postgresql://pooled{through}", options=options
        )
        yield place
        assert place.miscounts() == []
        place.close()
    run(quota_url, "DROP ROLE pooled")


def test_what_is_consumed_at_once_is_the_limit_and_each_key_counts_once(place):
    acme = place.workspace("small")

    def consume(number):
        return place.ask("record", acme, idempotency_key=f"k{number % 12}").allowed

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(consume, range(60)))

    assert place.used(acme, "minutes") == 10


def test_a_reservation_is_committed_and_another_is_released(place):
    acme = place.workspace("small")
    first = place.ask("record", acme, "reserve", amounts={"minutes": 4}, ttl_s=60).reservation
    second = place.ask("record", acme, "reserve", amounts={"minutes": 6}, ttl_s=60).reservation
    assert not place.ask("record", acme).allowed
    place.commit(first.id)
    place.release(second.id)

    assert sum(place.ask("record", acme).allowed for _ in range(8)) == 6
