"""`sidecar doctor` about replicas: real ones, that are well or not."""

from __future__ import annotations

from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from sidecar.serving.doctor.replicas import replica_checks
from sidecar.settings import Settings
from tests.postgres_server import run
from tests.servers import free_port
from tests.store.replicating import a_demo_pair, replay_paused

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def pair():
    with a_demo_pair() as pair:
        yield pair


def lines(pair, *urls, **more):
    environ = {
        "SIDECAR_DATABASE_URL": pair.primary,
        "SIDECAR_PLANS": "plans.yaml",
        "SIDECAR_FACTS_URLS": " ".join(urls),
    }
    settings = Settings.from_environ(environ | {f"SIDECAR_{name}": value for name, value in more.items()})
    return [str(check) for check in replica_checks(settings)]


def test_a_replica_that_is_well_says_how_far_behind_it_is(pair):
    [first, second] = lines(pair, pair.standby, pair.standby, FACTS_MAX_LAG_MS="5000")

    assert first.startswith("ok       replica 1: reachable, in recovery, at most ")
    assert second.startswith("ok       replica 2: ")


def test_without_replicas_it_says_nothing(pair):
    assert lines(pair) == []


@contextmanager
def paused(pair):
    with replay_paused(pair):
        run(pair.primary, "SELECT pg_switch_wal()")
        yield pair.standby


@contextmanager
def promoted(pair):
    yield pair.primary


@contextmanager
def away(_pair):
    yield f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"


@contextmanager
def without_the_role(pair):
    run(pair.primary, "CREATE ROLE no_sidecar LOGIN")
    pair.catch_up()
    yield urlsplit(pair.standby)._replace(netloc="no_sidecar@").geturl()


@contextmanager
def not_migrated(pair):
    run(pair.primary, "ALTER FUNCTION authz.replayed_facts RENAME TO replayed_facts_later")
    pair.catch_up()
    yield pair.standby
    run(pair.primary, "ALTER FUNCTION authz.replayed_facts_later RENAME TO replayed_facts")
    pair.catch_up()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (paused, "more than a second behind the primary: it is not read; see docs/operations/replicas.md"),
        (promoted, "never read: it takes writes, so it is no replica (any more)"),
        (away, "Connection refused"),
        (without_the_role, 'permission denied to set role "authz_sidecar"'),
        (not_migrated, "it has not replayed the migrations of this version; run `sidecar migrate`"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_replica_that_would_not_be_read_says_why_and_what_to_do(pair, spoil, says):
    with spoil(pair) as url:
        [line] = lines(pair, url)

    assert line.startswith("finding  replica 1: ")
    assert says in line
