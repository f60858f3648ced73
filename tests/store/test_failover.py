"""A failover: whoever takes writes is found, and nobody is answered by a primary that was."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sidecar.store.connection_options import DEFAULT_OPTIONS, ConnectionOptions
from sidecar.store.connections import Query
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts
from sidecar.store.resolver import Resolver
from sidecar.store.world import load
from tests.postgres_server import DEMO_WORLD, rows, run
from tests.store.asking import a_pool, ask, asking, connect_all, until
from tests.store.proxy import Proxy
from tests.store.standby import a_pair
from tests.store.test_silence import paused
from tests.values import the_catalog

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

FAILOVER = Path(__file__).parents[2] / "docs/operations/failover.md"
RECOVERS_IN_S = 3.0  # what is promised
TAKE = Query(
    name=b"take", sql=b"INSERT INTO public.taken (by) VALUES ($1) RETURNING id::text", repeatable=False
)


@pytest.fixture(scope="module")
def pair():
    """Fresh for the first of this file; then it is promoted."""
    with a_new_pair() as pair:
        yield pair


@contextmanager
def a_new_pair():
    with a_pair() as pair:
        migrate(pair.primary, catalog=the_catalog(), revision="dev")
        load(pair.primary, DEMO_WORLD)
        run(
            pair.primary,
            "CREATE TABLE public.taken (id bigint GENERATED ALWAYS AS IDENTITY, by text)",
            "GRANT ALL ON public.taken TO authz_sidecar",
        )
        pair.catch_up()
        yield pair


def url_of_both(pair, **more):
    hosts = [str(conninfo_to_dict(url)["host"]) for url in (pair.primary, pair.standby)]
    return make_conninfo(pair.primary, host=",".join(hosts), **more)


@contextmanager
def facts_on(url, *, loop=None, size=4):
    store = PostgresFacts(url, catalog=the_catalog(), pool_size=size)
    store.open(loop)
    try:
        yield store
    finally:
        store.close()


def run_as_documented(url, where):
    """The block of docs/operations/failover.md that begins so; what its last statement answers."""
    [block] = re.findall(rf"```sql\n-- {where}[^\n]*\n(.*?)```", FAILOVER.read_text(), re.DOTALL)
    answers = [rows(url, statement) for statement in block.split(";") if statement.strip()]
    return answers[-1]


def role_of_mia(store):
    """None if they are no member."""
    [facts] = store.facts([("mia", "acme")], (("minutes",),), deadline=monotonic() + 5)
    return facts and facts.role


def test_a_standby_is_asked_only_where_the_url_or_the_options_say_so(pair):
    standby_first = make_conninfo(
        url_of_both(pair),
        host=",".join(str(conninfo_to_dict(url)["host"]) for url in (pair.standby, pair.primary)),
    )
    in_recovery = Query(name=b"recovery", sql=b"SELECT pg_is_in_recovery()")
    any_of_them = ConnectionOptions(target_session_attrs="any")
    found = {}
    for name, url, options in (
        ("both", standby_first, DEFAULT_OPTIONS),
        ("any", standby_first, any_of_them),
        ("url", make_conninfo(pair.standby, target_session_attrs="any"), DEFAULT_OPTIONS),
    ):
        with a_pool(url, options=options) as pool:
            found[name] = pool.answer(in_recovery, (), deadline=monotonic() + 10)
    with a_pool(pair.standby) as pool:
        said = ask(pool, within_s=5).outage

    assert found == {"both": b"f", "any": b"t", "url": b"t"}
    assert "session is read-only" in said


def test_whoever_was_removed_is_not_allowed_by_a_primary_that_was(pair):
    """The old primary still answers reads: its sessions are open, and it says that it takes no writes."""
    both = url_of_both(pair)
    with a_loop() as loop, facts_on(both) as store, facts_on(both, loop=loop) as on_loop:
        for each in (store, on_loop):
            connect_all(each.connections)
            assert role_of_mia(each) is not None
        with asking(store.connections, threads=4, query=TAKE) as takes:
            pair.catch_up()
            run_as_documented(pair.standby, "on the standby")
            run_as_documented(pair.primary, "on the old primary")
            since = monotonic()
            run(
                pair.standby,
                "DELETE FROM authz.workspace_memberships AS m USING authz.workspaces AS w"
                " WHERE w.id = m.workspace_id AND w.slug = 'acme' AND m.user_id = 'mia'",
            )
            roles = [role_of_mia(each) for _ in range(100) for each in (store, on_loop)]
            sleep(0.5)

    assert run_as_documented(pair.standby, "on the new primary") == [(False, "off")]
    assert set(roles) == {None}
    after = [each for each in takes if each.began > since]
    assert len(after) > 20
    assert [each.outage for each in after if each.began > since + 1.0 and each.outage] == []
    granted = sum(each.ok for each in after)
    [(written,)] = rows(pair.standby, "SELECT count(*) FROM public.taken")
    assert written >= granted


@contextmanager
def a_loop():
    """It runs on a thread, as a worker's runs on its main one."""
    loop = asyncio.new_event_loop()
    runs = threading.Thread(target=loop.run_forever)
    runs.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        runs.join(10)
        loop.close()


def test_when_the_first_host_falls_silent_the_one_that_is_promoted_is_found():
    with a_new_pair() as pair, a_pool(url_of_both(pair)) as pool:
        connect_all(pool)
        with asking(pool, threads=8, query=TAKE) as takes:
            assert until(lambda: len(takes) > 50)
            pair.catch_up()
            with paused(pair.primary_server):
                sleep(1)
                pair.promote()
                since = monotonic()
                sleep(RECOVERS_IN_S + 1)
    late = [each for each in takes if each.began > since + RECOVERS_IN_S]

    assert len(late) > 100
    assert [each.outage for each in late if each.outage] == []


def test_when_the_name_moves_from_a_silent_server_the_new_one_is_found(database_url, monkeypatch):
    """What the name server says is all that is made up."""
    with Proxy(database_url) as old, Proxy(database_url, host="127.0.0.2", port=old.port):
        addresses = ["127.0.0.1"]
        asked = []

        def resolve(name, *_, **__):
            asked.append(monotonic())
            return [(2, 1, 6, "", (address, 0)) for address in addresses]

        monkeypatch.setattr("sidecar.store.addresses.getaddrinfo", resolve)
        monkeypatch.setattr("sidecar.store.connections.RESOLVER", Resolver())
        with a_pool(make_conninfo(old.url, host="db.example")) as pool:
            connect_all(pool)
            with asking(pool, threads=8) as answers:
                old.silent = True
                sleep(1)
                addresses[:] = ["127.0.0.2"]
                since = monotonic()
                sleep(RECOVERS_IN_S + 1)
    late = [each for each in answers if each.began > since + RECOVERS_IN_S]

    assert len(late) > 100
    assert [each.outage for each in late if each.outage] == []
    assert all(after - before >= 0.99 for before, after in pairwise(asked))
