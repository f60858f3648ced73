"""Sessions that are of no use any more are dropped, with their idle siblings; and none gets too old."""

from __future__ import annotations

import threading
from time import monotonic

import pytest

from sidecar.store.connection_options import ConnectionOptions
from sidecar.store.connections import Query
from tests.postgres_server import rows, run
from tests.store.asking import a_pool, ask, connect_all, until

pytestmark = pytest.mark.postgres

# It fails once, with what $1 says, and then answers.
FAILS_ONCE = b"SELECT public.fails_once($1)"
ONCE = Query(name=b"once", sql=FAILS_ONCE)
ONCE_NOT_REPEATABLE = Query(name=b"once_not_repeatable", sql=FAILS_ONCE, repeatable=False)


@pytest.fixture(scope="module")
def url(database_url):
    run(
        database_url,
        "CREATE SEQUENCE public.tries",
        """CREATE FUNCTION public.fails_once(code text) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            IF nextval('public.tries') = 1 THEN
                RAISE EXCEPTION 'so it is' USING ERRCODE = code;
            END IF;
            RETURN 'answered';
        END $$""",
        """CREATE FUNCTION public.fails(code text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = code; END $$""",
    )
    return database_url


@pytest.fixture
def pool(url):
    run(url, "ALTER SEQUENCE public.tries RESTART")
    with a_pool(url) as pool:
        connect_all(pool)
        yield pool


def backends(url):
    return {
        pid
        for (pid,) in rows(
            url,
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'sidecar'",
        )
    }


@pytest.mark.parametrize("code", ["25006", "53300", "26000", "42P05"])
@pytest.mark.parametrize("query", [ONCE, ONCE_NOT_REPEATABLE])
def test_what_had_no_effect_is_asked_again_on_a_new_connection(pool, url, code, query):
    before = backends(url)
    answered = pool.answer(query, (code.encode(),), deadline=monotonic() + 10)

    assert answered == b"answered"
    assert until(lambda: not before & backends(url))


@pytest.mark.parametrize("code", ["57P01", "57P02", "57P03"])
def test_of_a_server_that_shuts_down_all_is_dropped_and_only_a_read_is_asked_again(pool, url, code):
    before = backends(url)
    take = ask(pool, within_s=10, query=ONCE_NOT_REPEATABLE, value=code.encode())
    gone = until(lambda: not before & backends(url))
    run(url, "ALTER SEQUENCE public.tries RESTART")
    read = ask(pool, within_s=10, query=ONCE, value=code.encode())

    assert f"so it is ({code})" in take.outage
    assert gone
    assert read.ok


def test_another_error_drops_nothing(pool, url):
    before = backends(url)

    assert "23505" in ask(pool, within_s=10, query=ONCE, value=b"23505").outage
    assert backends(url) == before


def test_a_busy_sibling_is_not_dropped(pool):
    slow = Query(name=b"slow", sql=b"SELECT pg_sleep(0.5)::text || $1")
    waits = []
    asks = threading.Thread(target=lambda: waits.append(ask(pool, within_s=10, query=slow)))
    asks.start()
    assert not ask(pool, within_s=10, query=ONCE_NOT_REPEATABLE, value=b"57P01").ok
    asks.join(20)

    assert waits[0].ok


def test_what_fails_again_is_not_asked_for_ever(pool, url):
    always = Query(name=b"always", sql=b"SELECT public.fails($1)")

    assert "so it is (25006)" in ask(pool, within_s=10, query=always, value=b"25006").outage


def test_no_connection_gets_older_than_is_said(url):
    with a_pool(url, options=ConnectionOptions(max_age_s=0.5)) as pool:
        connect_all(pool)
        before, began = backends(url), monotonic()
        asked = []
        while before & backends(url):
            asked.append(ask(pool, within_s=5).outage)
            assert monotonic() - began < 5
        took_s = monotonic() - began
        assert until(lambda: not backends(url))  # the idle ones too

    assert len(before) == 4
    assert set(asked) == {""}
    assert took_s < 2
