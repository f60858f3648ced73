"""PostgreSQL, OPA or the name server is silent while 64 clients ask: nobody waits for it in line."""

from __future__ import annotations

import json
from contextlib import contextmanager
from time import sleep
from urllib.parse import urlsplit

import pytest

from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.resolver import EVERY_S
from tests.postgres_server import process_of
from tests.servers import opa_process
from tests.serving.meanwhile import ASK, Clients, Others, Seen, request
from tests.serving.names import a_name_server, asking_it
from tests.serving.processes import children_of, stopped
from tests.serving.serving import QUESTION, serving
from tests.serving.stand import WELL, in_time, seen_by
from tests.store.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

NO_FACTS, NO_ENGINE = "503 facts_unavailable", "503 policy_engine_unavailable"
# Who has waited for a thread until the deadline, before it was known that there is no answer to be had.
OVERLOADED = "503 overloaded"
KEPT, FRESH = 48, 16
PAUSE_S = 0.2  # so that the clients themselves leave the processors of a small machine alone
ASKED = {
    "check": ASK,
    "consume": request("POST", "/v1/authorize", json.dumps(QUESTION | {"mode": "consume"}).encode()),
    "batch": request("POST", "/v1/authorize/batch", json.dumps({"questions": [QUESTION] * 20}).encode()),
    "entitlements": request("GET", "/v1/workspaces/acme/entitlements?user=adam"),
}


@contextmanager
def ready(folder, **settings):
    with serving(folder, **{"workers": 1, "deadline_ms": 300} | settings) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        yield sidecar


@pytest.fixture(scope="module")
def proxy(database):
    with Proxy(database) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def behind_a_proxy(proxy, opa, tmp_path_factory):
    with ready(tmp_path_factory.mktemp("sidecar"), database_url=proxy.url, opa_url=opa.url) as sidecar:
        yield sidecar


def healthy_again(sidecar):
    return sidecar.until(lambda: all(sidecar.ask()[0] == 200 for _ in range(20)), within_s=15)


def watched(sidecar, silence, what=ASK):
    """What 64 clients see before, during and at the end of *silence*(), and who works for the sidecar."""
    before = children_of(sidecar.process.pid)

    def once():
        with Others(sidecar.port, what, kept=KEPT, fresh=FRESH, pause_s=PAUSE_S) as others:
            sleep(0.5)
            with silence():
                sleep(3)
            assert healthy_again(sidecar)
            sleep(0.5)
        return others

    others = in_time(once)
    assert children_of(sidecar.process.pid) == before
    return others


def told(others):
    """As seen_by, where to be overloaded is the same as to be without facts."""
    return seen_by(others) | {"answers": set(others.seen.answers) - {OVERLOADED}}


@pytest.mark.parametrize("what", ASKED)
def test_a_postgresql_that_is_stopped_holds_up_nobody(behind_a_proxy, database, what):
    others = watched(behind_a_proxy, lambda: stopped(process_of(database)), ASKED[what])

    assert told(others) == WELL | {"answers": {"200", NO_FACTS}}


@contextmanager
def nothing_passes(proxy):
    """As a network without a route: what is sent is lost, and who connects hears nothing."""
    proxy.silent = True
    try:
        yield
    finally:
        proxy.silent = False
        proxy.cut()


def test_a_network_that_loses_everything_holds_up_nobody(behind_a_proxy, proxy):
    others = watched(behind_a_proxy, lambda: nothing_passes(proxy))

    assert told(others) == WELL | {"answers": {"200", NO_FACTS}}


@contextmanager
def nobody_listens(proxy):
    proxy.refuse()
    try:
        yield
    finally:
        proxy.accept()


def test_a_postgresql_that_is_away_holds_up_nobody(behind_a_proxy, proxy):
    others = watched(behind_a_proxy, lambda: nobody_listens(proxy))

    assert told(others) == WELL | {"answers": {"200", NO_FACTS}}


def test_three_hundred_clients_are_told_as_soon(behind_a_proxy, database):
    """Each by its own deadline, not by how many came before."""
    with stopped(process_of(database)), Clients(behind_a_proxy.port, kept=300, pause_s=1.0) as clients:
        sleep(2)

    assert set(clients.seen.answers) - {OVERLOADED} == {NO_FACTS}
    assert clients.seen.lost == []
    assert clients.seen.worst_s < 2.0
    assert healthy_again(behind_a_proxy)


@pytest.mark.opa
def test_an_opa_that_is_stopped_holds_up_only_who_needs_it(
    policies_with_context, fresh_database_url, tmp_path
):
    """What is known without it is answered as if nothing were."""
    compiled = compiled_at(shipped("plans.yaml"), policies_with_context)
    migrate(fresh_database_url, catalog=compiled.catalog, revision=compiled.revision)
    context = {"ip": "10.0.0.1"}
    asks_opa = request("POST", "/v1/authorize", json.dumps(QUESTION | {"context": context}).encode())
    askers: list[Seen] = []

    def once():
        with (
            Clients(sidecar.port, asks_opa, kept=KEPT, fresh=FRESH, pause_s=PAUSE_S) as asking,
            Others(sidecar.port) as others,
        ):
            sleep(0.5)
            with stopped(opa):
                sleep(3)
            assert sidecar.until(lambda: sidecar.ask(context=context)[0] == 200, within_s=10)
            sleep(0.5)
        askers.append(asking.seen)
        return others

    with (
        opa_process(bundle(compiled)) as (url, opa),
        ready(
            tmp_path, database_url=fresh_database_url, opa_url=url, policies=policies_with_context
        ) as sidecar,
    ):
        others = in_time(once)

    # Just when it falls silent, all threads wait for it: for one deadline, and never again.
    answers = others.seen.answers
    assert seen_by(others) | {"answers": set(answers) - {OVERLOADED, NO_FACTS}} == WELL
    assert answers["200"] > 0.9 * answers.total()
    assert set(askers[-1].answers) - {OVERLOADED, NO_FACTS} == {"200", NO_ENGINE}
    assert askers[-1].lost == []
    assert askers[-1].worst_s < 1.0


@contextmanager
def no_names(server, proxy):
    """Who was connected must connect again, and for that ask for the name."""
    server.silent = True
    sleep(EVERY_S + 0.1)  # what was resolved before counts no more
    proxy.cut()
    try:
        yield
    finally:
        server.silent = False


def test_a_name_server_that_is_silent_holds_up_nobody(database, opa, tmp_path):
    with a_name_server() as names, Proxy(database) as proxy:
        parts = urlsplit(proxy.url)
        url = parts._replace(netloc=parts.netloc.replace("127.0.0.1", "database.example")).geturl()
        with ready(tmp_path, before=asking_it(tmp_path, names), database_url=url, opa_url=opa.url) as sidecar:
            others = watched(sidecar, lambda: no_names(names, proxy))

    assert names.asked > 0
    assert told(others) == WELL | {"answers": {"200", NO_FACTS}}
