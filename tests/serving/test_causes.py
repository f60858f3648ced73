"""What keeps a server from its database, found out against a real one: a cause, and what to do about it."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from time import monotonic
from urllib.parse import urlsplit

import pytest

from sidecar.errors import DependencyError, FactsUnavailable
from sidecar.serving.causes import cause_of
from sidecar.serving.fit import CatalogFit
from sidecar.store.connection_options import DEFAULT_OPTIONS
from sidecar.store.migrate import migrate
from sidecar.store.outage import cause_by_text, foremost
from sidecar.store.postgres import PostgresFacts
from sidecar.store.session import Refused
from tests.postgres_server import run
from tests.servers import free_port
from tests.serving.serving import QUESTION, serving
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

NEXT = {
    "database_refused": "SET ROLE authz_sidecar",
    "database_not_migrated": "sidecar migrate",
    "database_read_only": "SHOW transaction_read_only",
    "database_unreachable": "pg_isready",
}
OPEN = ("/healthz", "/readyz", "/statusz", "/openapi.json", "/plans", "/.well-known/authzen-configuration")


def cause_at(url, options=DEFAULT_OPTIONS):
    with closing(PostgresFacts(url, catalog=the_catalog(), pool_size=1, options=options)) as store:
        store.open()
        deadline = monotonic() + 5
        with pytest.raises(DependencyError) as raised:
            ask(store, deadline)
        return cause_of(raised.value)


def ask(store, deadline):
    CatalogFit(store, the_catalog()).require(deadline=deadline)
    store.require_writable(deadline=deadline)


def as_user(url, user):
    return urlsplit(url)._replace(netloc=f"{user}@").geturl()


def no_such_database(url):
    return urlsplit(url)._replace(path="/no_such_database_is_here").geturl()


def no_such_login(url):
    return as_user(url, "no_such_login_is_here")


def a_login_without_the_role(url):
    run(
        url,
        "DO $$ BEGIN CREATE ROLE not_a_sidecar LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    return as_user(url, "not_a_sidecar")


def without_a_right(url):
    run(url, "REVOKE USAGE ON SCHEMA authz FROM authz_sidecar")
    return url


def read_only(url):
    run(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET default_transaction_read_only = on")
    return url


def nobody_listens(_):
    return f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"


MISTAKES = [
    (no_such_database, "database_refused"),
    (no_such_login, "database_refused"),
    (a_login_without_the_role, "database_refused"),
    (without_a_right, "database_refused"),
    (read_only, "database_read_only"),
    (nobody_listens, "database_unreachable"),
]


@pytest.mark.parametrize(("mistake", "code"), MISTAKES, ids=lambda each: getattr(each, "__name__", ""))
def test_each_mistake_with_the_database_has_its_own_cause_and_a_next_command(
    fresh_database_url, mistake, code
):
    cause = cause_at(mistake(fresh_database_url))

    assert (cause.code, NEXT[code] in cause.do) == (code, True), cause
    assert "postgres@" not in cause.do
    assert "here" not in cause.do


def test_a_role_that_is_refused_after_the_login_is_a_refusal_too(fresh_database_url):
    url = a_login_without_the_role(fresh_database_url)

    assert cause_at(url, replace(DEFAULT_OPTIONS, pooler="session")).code == "database_refused"


def test_a_database_that_was_never_migrated_is_told_so(empty_database_url):
    cause = cause_at(empty_database_url)

    assert (cause.code, NEXT["database_not_migrated"] in cause.do) == ("database_not_migrated", True)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("x failed: FATAL: the database system is starting up", "database_unreachable"),
        ("x failed: FATAL: sorry, too many clients already", "database_refused"),
        ("x failed: session is read-only", "database_read_only"),
        ("x failed: server is in hot standby mode", "database_read_only"),
        ("x failed: Connection refused", "database_unreachable"),
    ],
)
def test_what_a_server_says_for_a_while_only_is_no_refusal(said, code):
    assert cause_by_text(said) == code


@pytest.mark.parametrize(
    ("sqlstate", "code"),
    [("25006", "database_read_only"), ("57P01", "database_unreachable"), ("42501", "database_refused")],
)
def test_a_refusal_has_the_cause_of_its_state_whatever_it_says(sqlstate, code):
    refused = Refused(sqlstate, "FATAL: server is in hot standby mode, the database system is …")

    assert cause_of(refused.outage()).code == code


def test_of_several_hosts_the_one_counts_whose_operator_can_do_most():
    assert foremost(["database_unreachable", "database_read_only"]) == "database_read_only"


def test_a_cause_is_no_matter_of_words():
    error = FactsUnavailable("FATAL: refused (42501), the server takes no writes")

    assert cause_of(error).code == "database_unreachable"


@pytest.mark.slow
def test_a_database_that_becomes_read_only_is_one_line_and_one_when_it_takes_writes_again(
    tmp_path, fresh_database_url, opa, compiled
):
    migrate(fresh_database_url, catalog=compiled.catalog, revision=compiled.revision)
    name = urlsplit(fresh_database_url).path[1:]
    anew = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    with serving(tmp_path, database_url=fresh_database_url, opa_url=opa.url, workers=2) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        run(fresh_database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on", anew)

        assert sidecar.until(
            lambda: {sidecar.status()["database"]["cause"] for _ in range(8)} == {"database_read_only"}
        )
        assert sidecar.until(lambda: sidecar.request("GET", "/readyz")[0] == 503, within_s=10)
        assert sidecar.request("GET", "/readyz?exclude=database")[0] == 200
        run(
            fresh_database_url,
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
            anew,
        )

        assert sidecar.until(lambda: [sidecar.is_ready() for _ in range(8)] == [True] * 8)
        lines = [line for line in sidecar.said.splitlines() if " the database" in line]
        assert sum("(database_read_only)" in line for line in lines) == 1
        assert lines[-1].endswith("the database is as it should be again")


def test_what_is_open_tells_nothing_of_where_the_database_is(tmp_path, opa):
    there = free_port()
    url = f"postgresql://a_login:a_secret@127.0.0.1:{there}/a_database"
    with serving(tmp_path, database_url=url, opa_url=opa.url) as sidecar:
        assert sidecar.until(lambda: sidecar.status()["database"]["cause"] == "database_unreachable")
        asked = [("GET", path, None) for path in OPEN] + [("POST", "/v1/authorize", QUESTION)]
        told = [str(sidecar.request(*each)[1]) for each in asked]

    secrets = ("a_login", "a_secret", "a_database", str(there), str(tmp_path), opa.url.partition("://")[2])
    words = re.compile("|".join(rf"(?<!\w){re.escape(each)}(?!\w)" for each in secrets))
    assert all(told)
    assert [found for found in map(words.search, told) if found] == []
