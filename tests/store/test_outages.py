"""PostgreSQL down, slow, silent, restarted: each costs an error within the deadline, and heals by itself."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from contextlib import contextmanager
from time import monotonic, sleep
from urllib.parse import urlsplit

import psycopg
import pytest

from sidecar.errors import ConfigError, FactsUnavailable
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts
from sidecar.store.world import load
from tests.postgres_server import DEMO_WORLD, a_server_folder, rows, run
from tests.store.proxy import Proxy
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

DEADLINE_S = 0.4
GRACE_S = 5.0  # of a busy machine: what is silent is so for longer
ADAM = ("adam", "acme")


@contextmanager
def a_store(url, *, size=3, **more):
    store = PostgresFacts(url, catalog=the_catalog(), pool_size=size, lock_timeout_s=0, **more)
    store.open()
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def proxy(database_url):
    with Proxy(database_url) as proxy:
        yield proxy


def role_of(store, *, within_s=DEADLINE_S):
    [found] = store.facts([ADAM], deadline=monotonic() + within_s)
    return found.role


def outages_in(store, *, questions):
    """How many of *questions* in a row are not answered; each must end by its deadline."""
    outages = 0
    for _ in range(questions):
        began = monotonic()
        try:
            role_of(store)
        except FactsUnavailable:
            outages += 1
        assert monotonic() - began < DEADLINE_S + GRACE_S
    return outages


def use_all_connections(store, *, size=3):
    """So that each connection of the store is connected and idle."""
    threads = [
        threading.Thread(target=role_of, args=(store,), kwargs={"within_s": 5}) for _ in range(4 * size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    role_of(store, within_s=5)


def heals(store, *, within_s):
    began = monotonic()
    while monotonic() - began < within_s:
        if outages_in(store, questions=1) == 0:
            return True
        sleep(0.02)
    return False


def test_nobody_listens(proxy):
    proxy.refuse()
    with a_store(proxy.url) as store:
        with pytest.raises(FactsUnavailable, match="refused"):
            role_of(store)
        proxy.accept()

        assert heals(store, within_s=1)


def test_a_silent_network_costs_one_question_its_deadline_and_not_one_for_each_connection(proxy):
    with a_store(proxy.url) as store:
        use_all_connections(store)
        proxy.silent = True

        assert outages_in(store, questions=1) == 1

        proxy.cut()  # what was sent into the silence stays lost
        proxy.silent = False

        assert outages_in(store, questions=5) == 0


def test_as_long_as_the_silence_lasts_each_question_ends_by_its_deadline(proxy):
    with a_store(proxy.url) as store:
        use_all_connections(store)
        proxy.silent = True

        assert outages_in(store, questions=6) == 6

        proxy.silent = False

        assert heals(store, within_s=4)


def test_connections_that_broke_while_idle_cost_nothing(proxy):
    with a_store(proxy.url) as store:
        use_all_connections(store)
        proxy.cut()

        assert outages_in(store, questions=6) == 0


def test_sessions_that_the_server_ended_cost_nothing(database_url):
    with a_store(database_url) as store:
        use_all_connections(store)
        run(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sidecar'",
        )

        assert outages_in(store, questions=6) == 0


def test_an_outage_of_a_while_is_over_when_it_is_over(proxy):
    with a_store(proxy.url) as store:
        use_all_connections(store)
        proxy.refuse()

        assert outages_in(store, questions=50) == 50

        proxy.accept()

        assert outages_in(store, questions=5) == 0


@contextmanager
def a_lock_on_workspaces(url):
    with psycopg.connect(url) as blocker:
        blocker.execute("LOCK TABLE authz.workspaces IN ACCESS EXCLUSIVE MODE")
        yield
        blocker.rollback()


def test_a_slow_answer_is_an_outage_within_the_deadline(database_url):
    with a_store(database_url) as store:
        use_all_connections(store)
        with a_lock_on_workspaces(database_url), pytest.raises(FactsUnavailable, match="in time"):
            role_of(store)

        assert role_of(store) == "admin"


def test_the_server_gives_up_what_nobody_waits_for(database_url):
    with a_store(database_url, statement_timeout_s=0.1) as store:
        with a_lock_on_workspaces(database_url), pytest.raises(FactsUnavailable, match="57014"):
            role_of(store, within_s=5)

        assert role_of(store) == "admin"


def test_a_late_answer_is_nobody_elses(database_url):
    """The answer to a question that was given up must not come to the next one."""
    with a_store(database_url, size=1) as store:
        for _ in range(3):
            with a_lock_on_workspaces(database_url), pytest.raises(FactsUnavailable):
                store.facts([("mia", "acme")], deadline=monotonic() + 0.05)

            assert role_of(store) == "admin"


def test_all_connections_are_busy(database_url):
    with a_store(database_url, size=1) as store:
        role_of(store)
        with a_lock_on_workspaces(database_url):
            long = threading.Thread(target=outage_of, args=(store,), kwargs={"within_s": 0.6})
            long.start()
            sleep(0.1)
            began = monotonic()
            with pytest.raises(FactsUnavailable, match="busy"):
                role_of(store)
            waited = monotonic() - began
            long.join()

        assert DEADLINE_S <= waited < DEADLINE_S + GRACE_S
        assert role_of(store) == "admin"


def outage_of(store, *, within_s):
    with pytest.raises(FactsUnavailable):
        role_of(store, within_s=within_s)


def test_a_deadline_that_has_passed_asks_nobody(database_url):
    with a_store(database_url) as store, pytest.raises(FactsUnavailable):
        store.facts([ADAM], deadline=monotonic() - 1)


def test_a_connect_that_takes_longer_than_a_question_goes_on_with_the_next(proxy):
    with a_store(proxy.url, size=1) as store:
        proxy.silent = True
        assert outages_in(store, questions=2) == 2

        assert proxy.accepted == 1  # both questions waited for the same one


def test_a_database_that_is_not_there_is_an_outage_that_says_so(database_url):
    wrong = database_url.replace("/authz_test_", "/no_such_")
    with a_store(wrong, size=1) as store, pytest.raises(FactsUnavailable, match="no_such_"):
        role_of(store)


@pytest.mark.parametrize("granted", [True, False])
def test_a_login_needs_the_role_and_nothing_else(database_url, granted):
    run(
        database_url,
        "DROP ROLE IF EXISTS authz_test_login",
        "CREATE ROLE authz_test_login LOGIN PASSWORD 'login'",
        *(["GRANT authz_sidecar TO authz_test_login"] if granted else []),
    )
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    as_login = parts._replace(netloc=f"authz_test_login:login@{host}").geturl()
    try:
        with a_store(as_login, size=1) as store:
            if granted:
                assert role_of(store, within_s=5) == "admin"
            else:
                with pytest.raises(FactsUnavailable, match="permission denied to set role"):
                    role_of(store, within_s=5)
    finally:
        run(database_url, "DROP ROLE authz_test_login")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:geheim@host/db?sslmood=off",
        "postgresql://user:geheim@[host/db",
        "user geheim",
        "pg://%zz",
    ],
)
def test_a_url_that_cannot_be_read_is_a_problem_of_the_configuration_and_not_shown(url):
    for refuses in (
        lambda: PostgresFacts(url, catalog=the_catalog(), pool_size=1),
        lambda: load(url, DEMO_WORLD),
    ):
        with pytest.raises(ConfigError) as refused:
            refuses()

        [problem] = refused.value.problems
        assert problem.pointer == "SIDECAR_DATABASE_URL"
        assert "geheim" not in "".join(traceback.format_exception(refused.value, limit=0))


def test_many_threads_share_few_connections(database_url):
    answers = []
    with a_store(database_url, size=2) as store:

        def ask(user):
            for _ in range(50):
                [found] = store.facts([(user, "acme")], deadline=monotonic() + 10)
                answers.append((user, found and found.role))

        threads = [
            threading.Thread(target=ask, args=(user,)) for user in ("adam", "mia", "pia", "olivia") * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with psycopg.connect(database_url) as connection:
            [(sessions,)] = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'sidecar' AND datname = current_database()"
            ).fetchall()

    assert set(answers) == {("adam", "admin"), ("mia", "member"), ("pia", None), ("olivia", "owner")}
    assert len(answers) == 400
    assert sessions <= 2


@pytest.fixture(scope="module")
def folder():
    """Of a server that can be killed and paused, with the demo world."""
    with a_server_folder() as folder:
        with EmbeddedPostgres(folder) as server:
            migrate(server.url, catalog=the_catalog(), revision="dev")
            load(server.url, DEMO_WORLD)
        yield folder


@pytest.mark.slow
def test_a_restart_heals_by_itself(folder):
    with EmbeddedPostgres(folder) as server, Proxy(server.url) as proxy, a_store(proxy.url) as store:
        use_all_connections(store)
        server.__exit__(None, None, None)

        assert outages_in(store, questions=3) == 3

        with EmbeddedPostgres(folder) as again:
            proxy.lead_to(again.url)

            assert outages_in(store, questions=6) == 0


@pytest.mark.slow
def test_a_server_that_was_killed_and_comes_back(folder):
    with EmbeddedPostgres(folder) as server, Proxy(server.url) as proxy, a_store(proxy.url) as store:
        use_all_connections(store)
        os.kill(server.process_id, signal.SIGKILL)
        while outages_in(store, questions=1) == 0:
            sleep(0.01)  # its sessions live on until they notice

        assert outages_in(store, questions=3) == 3

        server.__exit__(None, None, None)
        with EmbeddedPostgres(folder) as again:
            proxy.lead_to(again.url)

            assert heals(store, within_s=2)


@pytest.mark.slow
def test_a_server_that_is_paused(folder):
    with EmbeddedPostgres(folder) as server, a_store(server.url) as store:
        use_all_connections(store)
        sessions = rows(server.url, "SELECT pid FROM pg_stat_activity WHERE application_name = 'sidecar'")
        paused = [server.process_id, *(pid for (pid,) in sessions)]
        for pid in paused:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert outages_in(store, questions=5) == 5
        finally:
            for pid in paused:
                os.kill(pid, signal.SIGCONT)

        assert heals(store, within_s=1)
        assert outages_in(store, questions=6) == 0
