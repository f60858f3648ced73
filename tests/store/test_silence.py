"""A silent PostgreSQL holds up a handful of questions; a slow one only those that ask for something slow."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import psycopg
import pytest

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.store.connections import Query
from sidecar.store.migrate import migrate
from tests.postgres_server import a_server_folder, rows
from tests.store.asking import (
    AT_ONCE_S,
    DEADLINE_S,
    GRACE_S,
    LOCKED,
    SLOW,
    START,
    a_pool,
    ask,
    asking,
    connect_all,
    until,
)
from tests.store.proxy import Proxy
from tests.values import the_catalog

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

SIZE = 4
MOSTLY = 0.9  # of the questions: on a busy machine one may be late by itself


@pytest.fixture
def proxy(database_url):
    with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def folder():
    with a_server_folder() as folder:
        with EmbeddedPostgres(folder) as server:
            migrate(server.url, catalog=the_catalog(), revision="dev")
        yield folder


@contextmanager
def paused(server):
    """The server and all that it runs, as by SIGSTOP; goes on at the end."""
    pids = [server.process_id, *(pid for (pid,) in rows(server.url, "SELECT pid FROM pg_stat_activity"))]
    for pid in pids:
        tell(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            tell(pid, signal.SIGCONT)


def tell(pid, what):
    with suppress(ProcessLookupError):  # the session of the query above
        os.kill(pid, what)


@contextmanager
def a_lock(url, number):
    with psycopg.connect(url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (number,))
        yield
        holder.rollback()


def share_answered(answers):
    return sum(answer.ok for answer in answers) / len(answers)


def open_the_breaker(pool):
    """By one question that is late; then of two at a time one is turned away."""
    assert not ask(pool).ok
    assert until(lambda: is_open(pool))


def is_open(pool):
    tries = threading.Thread(target=ask, args=(pool,))
    tries.start()
    sleep(0.05)
    turned_away = ask(pool).outage
    tries.join()
    return "silent" in turned_away


@pytest.mark.slow
def test_a_paused_server_makes_a_handful_wait_and_the_first_answer_ends_it(folder):
    with EmbeddedPostgres(folder) as server, a_pool(server.url, size=SIZE) as pool:
        connect_all(pool, size=SIZE)
        with asking(pool, threads=64) as answers:
            assert until(lambda: len(answers) > 500)
            with paused(server):
                assert until(lambda: "silent" in answers[-1].outage)
                since = monotonic()  # who asked before did not know yet
                sleep(5 * DEADLINE_S)
                during = [answer for answer in answers if answer.began > since]
            assert until(lambda: answers[-1].ok, within_s=DEADLINE_S + GRACE_S)
            sleep(0.2)
            after = len(answers)
            sleep(0.5)
            healed = answers[after:]

    assert len(during) > 500
    assert not any(answer.ok for answer in during)
    waited = [answer for answer in during if "silent" not in answer.outage]
    assert 1 <= len(waited) <= 5 + 2  # one at a time, each for its deadline
    at_once = sorted(answer.took_s for answer in during if "silent" in answer.outage)
    assert len(at_once) > 0.9 * len(during)
    assert at_once[len(at_once) * 9 // 10] < AT_ONCE_S
    assert len(healed) > 100
    assert share_answered(healed) > MOSTLY


def test_the_answer_to_the_one_that_tries_lets_all_others_in(proxy):
    with a_pool(proxy.url) as pool:
        connect_all(pool)
        proxy.silent = True
        open_the_breaker(pool)
        proxy.cut()
        proxy.silent = False

        assert until(lambda: ask(pool).ok)
        assert [ask(pool).outage for _ in range(20)] == [""] * 20


def test_an_error_from_the_server_lets_them_in_too(proxy):
    broken = Query(name=b"broken", sql=b"SELECT 1 / 0 + $1::int")
    with a_pool(proxy.url) as pool:
        connect_all(pool)
        proxy.silent = True
        open_the_breaker(pool)
        proxy.cut()
        proxy.silent = False

        assert until(lambda: "22012" in ask(pool, query=broken).outage)
        assert ask(pool).ok


@pytest.mark.parametrize("pause_s", [0.0, 0.5])
def test_what_is_locked_holds_up_nobody_else(database_url, pause_s):
    """Nobody had an answer while it waited, and it asks again at once: but a new connection has an answer."""
    with a_pool(database_url, size=SIZE) as pool, a_lock(database_url, 1):
        connect_all(pool, size=SIZE)
        locked, others = [], []
        for _ in range(6):
            locked.append(ask(pool, query=LOCKED, value=b"1"))
            sleep(pause_s)
            again = threading.Thread(target=lambda: locked.append(ask(pool, query=LOCKED, value=b"1")))
            again.start()
            sleep(0.002)
            others.append(ask(pool, within_s=2))
            again.join()

    assert ["in time" in answer.outage for answer in locked] == [True] * 12
    assert [answer.outage for answer in others] == [""] * 6


def test_what_is_locked_for_many_holds_up_nobody_else(database_url):
    with a_pool(database_url, size=SIZE) as pool, a_lock(database_url, 1):
        connect_all(pool, size=SIZE)
        with asking(pool, threads=SIZE - 1, query=LOCKED, value=b"1") as locked:
            others = []
            while len(locked) < 6 * (SIZE - 1):
                others.append(ask(pool))
                sleep(0.03)

    assert not any(answer.ok for answer in locked)
    assert [answer.outage for answer in others] == [""] * len(others)


def test_a_connection_is_made_for_each_who_waits_not_only_for_the_first_two(database_url):
    with a_pool(database_url, size=SIZE) as pool, a_lock(database_url, 1):
        of_locked = {"query": LOCKED, "value": b"1", "within_s": 3}
        locked = [threading.Thread(target=ask, args=(pool,), kwargs=of_locked) for _ in range(SIZE - 1)]
        for each in locked:
            each.start()
        answer = ask(pool, within_s=2)
        for each in locked:
            each.join()

    assert answer.ok


def test_while_nobody_new_is_let_in_all_share_the_connections_that_there_are(folder):
    """A postmaster that hangs, or a name server that is dead: the sessions that are there go on."""
    with EmbeddedPostgres(folder) as server, a_pool(server.url, size=8) as pool:
        assert ask(pool, within_s=10).ok
        os.kill(server.process_id, signal.SIGSTOP)
        try:
            busy = threading.Thread(target=ask, args=(pool,), kwargs={"query": SLOW, "within_s": 5})
            busy.start()
            sleep(0.02)
            waits = ask(pool, within_s=5)
            busy.join()
            with asking(pool, threads=8) as answers:
                sleep(1)
        finally:
            os.kill(server.process_id, signal.SIGCONT)

    assert waits.ok
    assert waits.took_s < 1
    assert len(answers) > 100
    assert share_answered(answers) > MOSTLY


def test_a_lock_timeout_is_an_answer(database_url):
    with a_pool(database_url, lock_timeout_s=0.05) as pool, a_lock(database_url, 1):
        outages = [ask(pool, query=LOCKED, value=b"1").outage for _ in range(5)]

        assert all("55P03" in outage for outage in outages)
        assert ask(pool).ok


def test_nobody_waits_in_line_behind_the_silence(proxy):
    """Not even while every place is held by somebody whose deadline is far away."""
    in_line = []
    with a_pool(proxy.url, size=2) as pool:
        connect_all(pool, size=2)
        proxy.silent = True
        patient = [threading.Thread(target=ask, args=(pool,), kwargs={"within_s": 6}) for _ in range(2)]
        waits = threading.Thread(target=lambda: in_line.append(ask(pool, within_s=5)))
        for each in (*patient, waits):
            each.start()
            sleep(0.05)

        open_the_breaker(pool)
        waits.join()
        proxy.silent = False

        assert until(lambda: ask(pool).ok)  # while the places are still held
        assert all(each.is_alive() for each in patient)
        proxy.cut()
        for each in patient:
            each.join()

    [answer] = in_line
    assert "silent" in answer.outage
    assert answer.took_s < 4


def test_to_be_refused_is_no_silence_and_connects_are_not_a_busy_loop(proxy):
    with a_pool(proxy.url, size=8) as pool:
        proxy.refuse()
        began = monotonic()
        knocks = Knocks(proxy.port)
        with asking(pool, threads=16, pause_s=0) as answers:
            sleep(1)
        took = monotonic() - began
        knocks.close()

    assert all("silent" not in answer.outage for answer in answers)
    assert max(answer.took_s for answer in answers) < DEADLINE_S
    assert 5 < knocks.count < 110 * took  # two threads, each with a pause of 20 ms


def test_to_be_refused_ends_the_silence(proxy):
    with a_pool(proxy.url) as pool:
        connect_all(pool)
        proxy.silent = True
        open_the_breaker(pool)
        proxy.refuse()
        assert until(lambda: "refused" in ask(pool).outage)
        with asking(pool, threads=SIZE) as answers:
            sleep(0.2)

    assert all("refused" in answer.outage for answer in answers)


class Knocks:
    """Ends every connection to *port* at once."""

    def __init__(self, port):
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.count += 1
            client.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_a_server_that_accepts_and_says_nothing(database_url):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"postgresql://postgres@127.0.0.1:{deaf.getsockname()[1]}/x"
        with a_pool(url) as pool:
            open_the_breaker(pool)
            with asking(pool, threads=32) as answers:
                sleep(4 * DEADLINE_S)

    assert not any(answer.ok for answer in answers)
    assert sum(answer.took_s > DEADLINE_S / 2 for answer in answers) <= 4 + 2


def test_a_server_that_trickles_is_late_and_then_silent(proxy):
    with a_pool(proxy.url) as pool:
        connect_all(pool)
        proxy.trickle_s = 0.05
        open_the_breaker(pool)

        tries = [ask(pool) for _ in range(3)]
        assert all(not each.ok and each.took_s < DEADLINE_S + GRACE_S for each in tries)

        proxy.trickle_s = 0.0
        assert until(lambda: ask(pool).ok)


def test_a_pooler_that_lets_everybody_in_hides_no_silence(proxy):
    with a_pool(proxy.url) as pool:
        connect_all(pool)
        proxy.mute = True
        open_the_breaker(pool)
        with asking(pool, threads=32) as answers:
            sleep(4 * DEADLINE_S)
        proxy.mute = False
        healed = until(lambda: ask(pool).ok)

    assert not any(answer.ok for answer in answers)
    assert sum(answer.took_s > DEADLINE_S / 2 for answer in answers) <= 4 + 2
    assert healed


def test_what_is_dropped_late_is_not_cancelled(database_url):
    """PQcancel blocks: the server's own statement_timeout ends what nobody waits for."""
    with Proxy(database_url) as proxy, a_pool(proxy.url, size=1) as pool, a_lock(database_url, 1):
        assert ask(pool, within_s=5).ok
        late = ask(pool, query=LOCKED, value=b"1")
        assert until(lambda: ask(pool).ok)
        waits = rows(
            database_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )

    assert "in time" in late.outage
    assert proxy.accepted == 2  # the one that was dropped, and the one after it
    assert waits == [(1,)]


@pytest.mark.slow
def test_a_restart_under_many_threads(folder):
    with EmbeddedPostgres(folder) as server, Proxy(server.url) as proxy, a_pool(proxy.url, size=8) as pool:
        connect_all(pool, size=8)
        with asking(pool, threads=64) as answers:
            assert until(lambda: len(answers) > 500)
            server.__exit__(None, None, None)
            assert until(lambda: not answers[-1].ok)
            with EmbeddedPostgres(folder) as again:
                proxy.lead_to(again.url)
                accepted = proxy.accepted
                assert until(lambda: answers[-1].ok, within_s=10)
                sleep(0.5)
                after = len(answers)
                sleep(0.5)
                assert all(answer.ok for answer in answers[after:])
                assert proxy.accepted - accepted < 8 + 50  # connections, and tries while it started
                assert pool.answer(START, (), deadline=monotonic() + 5)
        assert max(answer.took_s for answer in answers) < DEADLINE_S + AT_ONCE_S * 5
        assert until(lambda: threads_in_pool() == 0)


def threads_in_pool():
    return sum(thread.name == "postgres-connector" for thread in threading.enumerate())


def test_two_hundred_failed_connects_leave_nothing_behind(proxy):
    with a_pool(proxy.url, size=8) as pool:
        proxy.refuse()
        assert not ask(pool).ok
        files, most_threads = open_files(), 0
        tried = Knocks(proxy.port)
        with asking(pool, threads=8, pause_s=0) as answers:
            while tried.count < 200:
                most_threads = max(most_threads, threads_in_pool())
                sleep(0.005)
        tried.close()
        assert until(lambda: threads_in_pool() == 0)

        assert not any(answer.ok for answer in answers)
        assert most_threads <= 2 + 2  # as many connect, and as many may just be ending
        assert until(lambda: open_files() <= files)


def test_no_thread_to_connect_on_is_an_outage_that_says_so(database_url, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    with a_pool(database_url) as pool:
        with monkeypatch.context() as patched:
            patched.setattr("sidecar.store.connector.Thread.start", start)
            refused = ask(pool)

        assert "no thread to connect on" in refused.outage
        assert ask(pool, within_s=10).ok


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_wait_that_was_in_vain_is_observed(proxy):
    seen = []
    with a_pool(proxy.url, size=1, observe=lambda waited, took: seen.append((waited, took))) as pool:
        assert ask(pool, within_s=5).ok
        proxy.silent = True
        late = ask(pool)
        connecting = ask(pool)

    [_, (waited, took), (waited_to_connect, _)] = seen
    assert (late.ok, connecting.ok) == (False, False)
    assert waited < DEADLINE_S / 4
    assert took >= DEADLINE_S * 0.9
    assert waited_to_connect > 0.05
