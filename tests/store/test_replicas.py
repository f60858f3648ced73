"""Checks that read a streaming replica: real servers, and every way in which one can be of no use."""

from __future__ import annotations

import random
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic, sleep

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sidecar.errors import DatabaseNotMigrated, FactsUnavailable
from sidecar.store.migrate import migrate
from tests.postgres_server import rows, run, url_of
from tests.store.asking import until
from tests.store.proxy import Proxy
from tests.store.renaming import Written, published
from tests.store.replicating import (
    ADD,
    BOUND_S,
    MIA,
    REMOVE,
    a_demo_pair,
    reading,
    replay_paused,
    waiting_for_the_standby,
)
from tests.store.standby import another_standby
from tests.store.test_renames import WORLD

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

ADAM, NOBODY = ("adam", "acme"), ("nobody", "acme")
OVERRIDE = (
    "INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled)"
    " SELECT id, 'feature', 'extra', false FROM authz.workspaces WHERE slug = 'acme'"
)
REPLAYED = """SELECT authz.replayed_facts('{adam}', '{acme}', '{""}', NULL)"""
GRACE_S = 0.02  # of two monotonic clocks that are read one after the other


@pytest.fixture(scope="module")
def pair():
    with a_demo_pair() as pair:
        yield pair


@pytest.fixture
def said(caplog):
    """What was logged about replicas, without the level."""
    caplog.set_level("INFO", logger="sidecar")
    return lambda: [record.getMessage() for record in caplog.records if "replica" in record.getMessage()]


def test_a_check_reads_the_replica_and_says_how_old_that_is(pair):
    with reading(pair.primary, pair.standby) as asked:
        asked.wait_until_used()
        facts = [asked.ask(MIA) for _ in range(50)]
        [by_primary] = asked.primary.facts([MIA], [()], deadline=monotonic() + 2)

    assert {each.role for each in facts} == {"member"}
    assert all(0 <= each.lag_ms <= BOUND_S * 1000 for each in facts)
    assert asked.by == {"replica": 50}
    assert by_primary is not None
    assert by_primary == replace(facts[-1], at=by_primary.at)
    assert by_primary.lag_ms is None


def test_whoever_was_removed_before_the_bound_is_not_allowed_though_the_replica_stands_still(pair):
    chance = random.Random(7)  # noqa: S311 - no secret
    with reading(pair.primary, pair.standby) as asked:
        for _ in range(2):
            run(pair.primary, ADD)
            pair.catch_up()
            asked.wait_until_used()
            with replay_paused(pair):
                sleep(chance.uniform(0, 0.12))
                run(pair.primary, REMOVE)
                removed_at = monotonic()
                while (now := monotonic()) < removed_at + 4 * BOUND_S:
                    facts = asked.ask(MIA)
                    assert facts is None or now < removed_at + BOUND_S + GRACE_S
                    sleep(chance.uniform(0, 0.01))
    run(pair.primary, ADD)


def test_with_remote_apply_whoever_was_removed_is_gone_when_the_call_returns(pair):
    """150 times, by SQL alone. The trigger sets it because a sidecar has announced that it reads replicas."""
    stale = 0
    with reading(pair.primary, pair.standby) as asked, waiting_for_the_standby(pair):
        asked.wait_until_used()
        with psycopg.connect(pair.primary, autocommit=True) as changes:
            for _ in range(150):
                changes.execute(ADD.encode())
                changes.execute(REMOVE.encode())
                stale += asked.ask(MIA) is not None
        assert asked.by["primary"] >= 150  # of whoever is a stranger to the replica
    run(pair.primary, ADD)

    assert stale == 0


def test_a_change_waits_for_replicas_only_while_a_sidecar_reads_them(pair):
    changes = (
        REMOVE,
        "UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'mia'",
        "UPDATE authz.workspaces SET status = 'suspended' WHERE slug = 'acme'",
        "UPDATE authz.workspaces SET plan_tier = (SELECT min(name) FROM authz.plans) WHERE slug = 'acme'",
        OVERRIDE,
        "DELETE FROM authz.workspaces WHERE slug = 'acme'",
        "DELETE FROM authz.users WHERE id = 'mia'",
    )
    found = {}
    for announced in (False, True):
        run(pair.primary, "DELETE FROM authz.replica_reads")
        if announced:
            run(pair.primary, "SELECT authz.announce_replica_reads()")
        found[announced] = [commits_by(pair.primary, change) for change in changes]
    harmless = commits_by(pair.primary, "UPDATE authz.workspaces SET name = 'Acme 2' WHERE slug = 'acme'")

    assert found == {False: ["on"] * len(changes), True: ["remote_apply"] * len(changes)}
    assert harmless == "on"


def value_of(connection, query):
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def commits_by(url, change):
    """What synchronous_commit is when *change* would be committed."""
    with psycopg.connect(url) as connection:
        connection.execute(change.encode())
        level = value_of(connection, "SHOW synchronous_commit")
        connection.rollback()
    return level


def test_whoever_is_a_stranger_to_the_replica_is_asked_about_at_the_primary(pair):
    """So whoever joins is let in at once, and one stranger does not change what is said of the others."""
    with reading(pair.primary, pair.standby) as asked:
        run(pair.primary, REMOVE)
        pair.catch_up()
        asked.wait_until_used()
        with replay_paused(pair):
            run(pair.primary, ADD)
            mia, adam, nobody = asked.ask(MIA, ADAM, NOBODY)
            plainly = asked.ask_plainly(MIA, ADAM, NOBODY)

    assert (mia.role, adam.role, nobody) == ("member", "admin", None)
    assert [found and (found[0].role, found[0].lag_ms is None) for found in plainly] == [
        ("member", True),
        ("admin", False),
        None,
    ]
    assert all(found[1] == found[0].at for found in plainly[:2])
    assert asked.by["primary"] >= 1


def test_what_the_primary_says_means_the_same_with_replicas(pair):
    said = FactsUnavailable("PostgreSQL cannot be reached", cause="database_not_migrated")
    with reading(pair.primary, pair.standby) as asked:
        found = [store.meaning(said) for store in (asked.facts, asked.primary)]

    assert [type(each) for each in found] == [DatabaseNotMigrated] * 2


@contextmanager
def silent(proxy, _pair):
    proxy.silent = True
    yield
    proxy.silent = False


@contextmanager
def refused(proxy, _pair):
    proxy.refuse()
    yield
    proxy.accept()


@contextmanager
def slow(proxy, _pair):
    proxy.lag_s = 0.5
    yield
    proxy.lag_s = 0


@contextmanager
def behind(_proxy, pair):
    with replay_paused(pair):
        run(pair.primary, "SELECT pg_switch_wal()")
        yield


@contextmanager
def without_the_function(_proxy, pair):
    """As if the migration had not been replayed yet."""
    run(pair.primary, "ALTER FUNCTION authz.replayed_facts RENAME TO replayed_facts_later")
    pair.catch_up()
    yield
    run(pair.primary, "ALTER FUNCTION authz.replayed_facts_later RENAME TO replayed_facts")


@contextmanager
def without_a_right(_proxy, pair):
    run(pair.primary, "REVOKE EXECUTE ON FUNCTION authz.replayed_facts FROM authz_sidecar")
    pair.catch_up()
    yield
    run(pair.primary, "GRANT EXECUTE ON FUNCTION authz.replayed_facts TO authz_sidecar")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (silent, "did not answer in time|is silent"),
        (refused, "cannot be reached"),
        (slow, "did not answer in time|is silent"),
        (behind, "further behind"),
        (without_the_function, "not replayed what this version needs"),
        (without_a_right, "permission denied"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_replica_that_is_of_no_use_is_left_with_one_line_and_used_again_with_one(pair, said, spoil, words):
    with Proxy(pair.standby) as proxy, reading(pair.primary, proxy.url) as asked:
        asked.wait_until_used()
        with spoil(proxy, pair):
            began = monotonic()
            answers = []
            while monotonic() < began + 0.6:
                answers.append(asked.ask(ADAM, within_s=0.5))
            asked.wait_until_not_used()
            asked.by.clear()
            answers += [asked.ask(ADAM) for _ in range(20)]
            assert asked.by == {"primary": 20}
        asked.wait_until_used()
        answers.append(asked.ask(ADAM))
        assert asked.by["replica"] == 1

    assert {each.role for each in answers} == {"admin"}
    [goes, comes] = said()
    assert goes.startswith("no facts are read from replica 1 of SIDECAR_FACTS_URLS: ")
    assert re.search(words, goes)
    assert comes == "facts are read from replica 1 again"


def test_while_the_primary_is_away_nothing_older_than_the_bound_is_told(pair, said):
    with Proxy(pair.primary) as proxy, reading(proxy.url, pair.standby) as asked:
        asked.wait_until_used()
        proxy.silent = True
        since = monotonic()
        outages = 0
        while (now := monotonic()) < since + 0.6:
            try:
                facts = asked.ask(ADAM, within_s=0.15)
            except FactsUnavailable:
                outages += 1
            else:
                assert facts.lag_ms <= BOUND_S * 1000
                assert now < since + BOUND_S + GRACE_S
        proxy.silent = False
        assert until(lambda: asked.uses() and asked.ask(ADAM).lag_ms is not None, within_s=10)

    assert outages >= 2
    assert [line for line in said() if "replica 1" in line] == []  # the replica is well
    assert [line.split(":")[0] for line in said()] == [
        "no facts are read from any replica",
        "the primary says again what it has written",
    ]


@pytest.mark.long
def test_the_position_is_of_before_the_facts(pair):
    """Whatever was committed up to the position is in them, while the replica replays all the time."""
    committed: list[tuple[int, int]] = []  # how far the log was once a version was committed
    over = threading.Event()

    def change():
        with psycopg.connect(pair.primary, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            while not over.is_set():
                version = value_of(
                    connection,
                    "UPDATE authz.workspaces SET facts_version = facts_version + 1 WHERE slug = 'acme'"
                    " RETURNING facts_version",
                )
                position = value_of(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'")
                committed.append((int(position), version))

    changes = threading.Thread(target=change)
    changes.start()
    found = []
    with psycopg.connect(pair.standby, autocommit=True) as replica:
        until_ = monotonic() + 1.5
        while monotonic() < until_:
            answer = value_of(replica, REPLAYED)
            found.append((answer[0], answer[4][0][10]))
    over.set()
    changes.join(10)

    assert len(found) > 100
    assert len({version for _, version in found}) > 50
    for position, version in found:
        newest = max((each for at, each in committed if at <= position), default=0)
        assert version >= newest


@pytest.mark.long
def test_a_server_with_another_history_is_no_replica(pair, said):
    """Promoted; of another cluster; behind a primary that was, whose log is longer than the new one's."""
    lines = 0
    with a_demo_pair() as other, another_standby(other) as left_behind:
        other.promote()
        run(other.standby, REMOVE)
        for _ in range(3):
            run(other.primary, "SELECT pg_switch_wal()")
        assert reaches(left_behind, other.primary)
        for primary, replica in (
            (other.primary, other.standby),
            (pair.primary, left_behind),
            (other.standby, left_behind),
        ):
            with reading(primary, replica) as asked:
                lines += 1
                assert until(lambda wanted=lines: len(said()) == wanted)  # type: ignore[misc] # a number
                found = [asked.ask(MIA) for _ in range(20)]
                assert asked.by == {"primary": 20}
                assert {each is None for each in found} == {primary == other.standby}

    writes, stranger, timeline = said()
    assert "it takes writes" in writes
    assert "another cluster" in stranger
    assert "another primary or timeline" in timeline


@pytest.mark.long
def test_after_a_failover_a_replica_that_follows_the_new_primary_is_read_again():
    """Nothing is written but by the sidecar itself, which begins the epoch of the new primary."""
    with a_demo_pair() as pair, another_standby(pair) as third:
        hosts = ",".join(str(conninfo_to_dict(url)["host"]) for url in (pair.primary, pair.standby))
        with reading(make_conninfo(pair.primary, host=hosts), third) as asked:
            asked.wait_until_used()
            pair.catch_up()
            pair.promote()
            read_only = "ALTER SYSTEM SET default_transaction_read_only = on"
            run(pair.primary, read_only, "SELECT pg_reload_conf()")
            follow(third, pair.standby)
            assert until(lambda: lag_of(asked) is None, within_s=10)
            assert until(lambda: lag_of(asked) is not None, within_s=20)
            run(pair.standby, REMOVE)
            sleep(BOUND_S + GRACE_S)
            assert asked.ask(MIA) is None


def follow(standby, primary):
    conninfo = make_conninfo(primary).replace("'", "''")
    run(standby, f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'", "SELECT pg_reload_conf()")


def lag_of(asked):
    """None where the primary answers, or nobody does."""
    try:
        return asked.ask(ADAM).lag_ms
    except FactsUnavailable:
        return None


def reaches(replica, primary):
    """Whether *replica* has replayed what is written until now."""
    [(written,)] = rows(primary, "SELECT pg_current_wal_lsn()::text")
    return until(lambda: rows(replica, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written) == [(True,)])


@pytest.mark.long
def test_names_are_those_that_the_replica_has_though_the_primary_has_others(pair):
    """A catalog is published while the replica stands still: it stores the names of the one before."""
    run(pair.primary, "CREATE DATABASE renaming")
    primary, replica = (url_of(each, "renaming") for each in (pair.primary, pair.standby))
    before, after = Written().catalog(), Written(roles={"viewer": None, "author": "editor"}).catalog()
    migrate(primary, catalog=before, revision="r0")
    run(primary, WORLD)
    pair.catch_up()
    roles = set()
    with reading(primary, replica, catalog=before, revision="r0") as asked:
        asked.wait_until_used()
        with replay_paused(pair):
            published(primary, after, "r1")
            until_ = monotonic() + 3 * BOUND_S
            while monotonic() < until_:
                roles.add(asked.ask(("ann", "one")).role)
        asked.by.clear()
        asked.wait_until_used()
        roles.add(asked.ask(("ann", "one")).role)

    assert roles == {"editor"}
    assert asked.by == {"replica": 1}


def test_of_two_replicas_the_one_that_is_well_is_read(pair):
    with Proxy(pair.standby) as proxy, reading(pair.primary, proxy.url, pair.standby) as asked:
        asked.wait_until_used(1)
        asked.wait_until_used(2)
        proxy.refuse()
        asked.wait_until_not_used(1)
        asked.by.clear()
        found = {asked.ask(ADAM).role for _ in range(20)}

    assert found == {"admin"}
    assert asked.by["replica"] >= 18
