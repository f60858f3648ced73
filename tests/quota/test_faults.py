"""Cut off, restarted, made to wait: nothing that was taken is lost, and nothing is taken twice."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import fields
from functools import partial
from itertools import count
from time import sleep

import psycopg
import pytest

from sidecar.errors import DependencyError, FactsUnavailable, UnknownReservation, UsageContended
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.quota.model import Charge
from sidecar.store.migrate import migrate
from tests.postgres_server import a_server_folder, rows
from tests.quota.place import Place, at_once, until
from tests.store.proxy import Proxy

pytestmark = pytest.mark.postgres

CRASHES = 3


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    return True


@pytest.fixture
def proxy(quota_url):
    with Proxy(quota_url) as proxy:
        yield proxy


@pytest.fixture
def far(proxy, rules):
    """The same place, behind a network that can fail."""
    far = Place(proxy.url, rules, connections=1)
    with pytest.raises(UnknownReservation):
        far.release("none")  # a connection that was used before is made again
    yield far
    far.close()


class Lost:
    """Asks, and loses the answer of what was done."""

    def __init__(self, proxy):
        self.proxy = proxy

    def answer_to(self, ask, *, done):
        """What the asker hears in the end, or what is raised; *done*: it was carried out."""
        heard = []
        asking = threading.Thread(target=lambda: heard.extend(at_once(1, lambda _: ask())))
        self.proxy.lag_s = 0.3
        asking.start()
        until(done)
        self.proxy.cut()  # the answer is on its way still
        self.proxy.lag_s = 0
        asking.join()
        return heard[0]


def test_an_answer_that_got_lost_is_asked_for_again_by_its_key(place, far, proxy):
    acme = place.workspace("small")
    place.ask("record", acme)

    answer = Lost(proxy).answer_to(
        partial(far.ask, "record", acme, amounts={"minutes": 2}, idempotency_key="k"),
        done=lambda: place.used(acme, "minutes") == 3,
    )

    assert (answer.allowed, answer.replayed, answer.quota["minutes"].used) == (True, True, 3)
    assert place.used(acme, "minutes") == 3


def test_without_a_key_nobody_asks_again_and_the_outage_says_that_it_may_have_happened(place, far, proxy):
    acme = place.workspace("small")
    place.ask("record", acme)

    outage = Lost(proxy).answer_to(
        partial(far.ask, "record", acme, amounts={"minutes": 2}),
        done=lambda: place.used(acme, "minutes") == 3,
    )

    assert type(outage) is FactsUnavailable
    assert place.used(acme, "minutes") == 3


@pytest.mark.parametrize("way", ["commit", "release", "refund"])
def test_what_settles_is_asked_for_again_and_done_once(place, far, proxy, way):
    acme = place.workspace("small")
    held = place.ask("record", acme, "reserve", amounts={"minutes": 4}).reservation.id
    place.ask("record", acme, amounts={"minutes": 2}, idempotency_key="k")
    ask = {"commit": partial(far.commit, held), "release": partial(far.release, held)}.get(
        way, partial(far.refund, acme, "k")
    )
    after = {"commit": (6, 0), "release": (2, 0), "refund": (0, 4)}[way]

    def figures():
        usage = place.usage(acme, "minutes")
        return usage.used, usage.reserved

    answer = Lost(proxy).answer_to(ask, done=lambda: figures() == after)

    assert answer.replayed is True
    assert figures() == after


@pytest.mark.parametrize("lock", ["authz.workspace_usage WHERE workspace_id", "authz.workspaces WHERE id"])
def test_whoever_waits_too_long_for_a_lock_gives_up_and_takes_nothing(place, rules, lock):
    acme = place.workspace("small")
    held = place.ask("record", acme, "reserve").reservation.id
    late = place.ask("record", acme, "reserve").reservation.id
    place.ask("record", acme, idempotency_key="k")
    place.ask("create", acme, resource="r")
    place.expire(late)
    hasty = Place(place.url, rules, connections=2, lock_timeout_s=0.05)
    asks = [
        partial(hasty.ask, "record", acme),
        partial(hasty.ask, "record", acme, idempotency_key="new"),
        partial(hasty.ask, "record", acme, "reserve"),
        partial(hasty.commit, late),
    ]
    if "usage" in lock:
        asks += [
            partial(hasty.commit, held),
            partial(hasty.release, held),
            partial(hasty.refund, acme, "k"),
            partial(hasty.give_back, acme, "projects", "r"),
        ]

    with psycopg.connect(place.url) as holder:
        holder.execute(f"SELECT 1 FROM {lock} = %s FOR UPDATE", (acme.id,))
        before = place.ledger_of(acme)
        for ask in asks:
            with pytest.raises(UsageContended, match="55P03"):
                ask()
        assert hasty.ask("record", acme, "check").allowed  # who only looks waits for nobody
    assert place.ledger_of(acme) == before
    assert hasty.ask("record", acme, idempotency_key="new").replayed is False
    assert hasty.commit(held).replayed is False
    hasty.close()


def test_a_counter_is_not_held_while_the_policy_is_asked(place, rules):
    """A policy that takes its time makes nobody wait: no lock is there before the ledger is asked."""
    acme = place.workspace("small")
    asked = threading.Event()
    answer = threading.Event()

    class Slow:
        name, revision = "slow", rules.policy.revision

        def verdict(self, situation, /, *, deadline):
            asked.set()
            answer.wait(30)
            return rules.policy.verdict(situation, deadline=deadline)

    slow = Place(place.url, rules, connections=1)
    slow.authorizer.policy = Slow()
    waiting = threading.Thread(target=slow.ask, args=("record", acme))
    waiting.start()
    asked.wait(30)
    hasty = Place(place.url, rules, connections=1, lock_timeout_s=0.05)

    taken = hasty.ask("record", acme, amounts={"minutes": 9})
    answer.set()
    waiting.join()

    assert (taken.allowed, place.used(acme, "minutes")) == (True, 10)
    slow.close()
    hasty.close()


def test_no_time_is_sent_to_the_ledger():
    """So no clock but the database's can be wrong: see test_processes for one that is.

    frees_at comes from the database, is told to who asks again, and decides nothing.
    """
    assert {each.name for each in fields(Charge) if "time" in str(each.type)} == {"frees_at"}


def test_a_database_that_crashes_again_and_again_loses_nothing_and_doubles_nothing(rules):
    """kill -9 of one of its processes, which ends all the others at once, while many spend."""
    with a_server_folder() as folder, EmbeddedPostgres(folder) as server:
        migrate(server.url, catalog=rules.catalog, revision=rules.revision)
        place = Place(server.url, rules, connections=8)
        acme = place.workspace("endless")
        over, outages, keys = threading.Event(), [], count()

        def spend(number):
            """Each key until it is answered."""
            answered = 0
            while not over.is_set():
                key = f"{number}-{next(keys)}"
                while True:
                    try:
                        assert place.ask("record", acme, idempotency_key=key).allowed
                        break
                    except DependencyError as outage:
                        outages.append(outage)
                        sleep(0.02)
                answered += 1
            return answered

        def crash(number):
            if number:
                return spend(number)
            try:
                for _ in range(CRASHES):
                    sleep(0.4)
                    until(lambda: (pid := a_session_of_the_sidecar(server.url)) and kill(pid))
            finally:
                over.set()
            return 0

        answered = at_once(7, crash)

        used, keys_kept, lines, miscounted = until(partial(what_is_kept, server.url))
        place.close()
        assert used == keys_kept == lines == sum(answered)
        assert miscounted == 0
        assert len(outages) >= CRASHES


def what_is_kept(url):
    """Of the one counter; None while it recovers: the last crash may come after all had their answer."""
    query = """
        SELECT
            u.used,
            (SELECT count(*) FROM authz.usage_keys),
            (SELECT count(*) FROM authz.usage_ledger),
            (SELECT count(*) FROM authz.miscounts(u.workspace_id))
        FROM authz.workspace_usage AS u
    """
    try:
        [kept] = rows(url, query)
    except psycopg.OperationalError:
        return None
    return kept


def a_session_of_the_sidecar(url):
    """Its process; None while the server has none, or answers nobody."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sidecar' ORDER BY random() LIMIT 1"
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            found = connection.execute(query).fetchone()
    except psycopg.OperationalError:
        return None
    return found[0] if found else None
