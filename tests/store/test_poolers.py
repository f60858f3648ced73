"""Behind a pooler the same answers come, or the words for what is wrong with it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from time import monotonic

import pytest

from sidecar.errors import FactsUnavailable
from sidecar.serving.causes import cause_of
from sidecar.store.condition import condition_of
from sidecar.store.connecting import session_faults
from sidecar.store.connection_options import ConnectionOptions
from sidecar.store.connections import Query
from sidecar.store.postgres import PostgresFacts
from tests.postgres_server import a_database, run
from tests.store.asking import a_pool, ask
from tests.store.pgbouncer import a_pgbouncer
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

POOLERS = Path(__file__).parents[2] / "docs/operations/poolers.md"
LOGINS = ("pooled", "bare")
WORKSPACES = ("acme", "solo", "piano")


@pytest.fixture(scope="module")
def url(postgres_server, migrated_template):
    """With two logins in authz_sidecar: `pooled` as the page says, and `bare`."""
    [block] = re.findall(r"```sql\n(.*?)```", POOLERS.read_text(), re.DOTALL)
    drop = [f"DROP ROLE IF EXISTS {login}" for login in LOGINS]
    for url in a_database(postgres_server, template=migrated_template):
        run(url, *drop, *block.strip().rstrip(";").split(";"))
        run(url, "CREATE ROLE bare LOGIN IN ROLE authz_sidecar")
        yield url
        run(url, *(f"DROP ROLE {login}" for login in LOGINS))


def options_for(pooler):
    return ConnectionOptions(pooler=pooler)


def roles_of_adam(url, *, pooler, threads=6, times=20):
    """What many threads hear at once, on more connections than the pooler has to the server."""
    store = PostgresFacts(url, catalog=the_catalog(), pool_size=4, options=options_for(pooler))
    store.open()
    heard = []

    def asks():
        for number in range(times):
            asked = [("adam", WORKSPACES[number % 3]), ("adam", "acme")]
            heard.append([each and each.role for each in store.facts(asked, deadline=monotonic() + 10)][1])
            store.workspaces_of("adam", after=None, limit=5, deadline=monotonic() + 10)

    try:
        all_of_them = [threading.Thread(target=asks) for _ in range(threads)]
        for each in all_of_them:
            each.start()
        for each in all_of_them:
            each.join(30)
    finally:
        store.close()
    return heard


@pytest.mark.parametrize(
    ("pooler", "login", "settings"),
    [
        ("transaction", "pooled", {"pool_mode": "transaction"}),
        ("transaction", "pooled", {"pool_mode": "statement"}),
        ("session", "bare", {"pool_mode": "session", "default_pool_size": "8"}),
        # What is left of the one before must not be in the way.
        ("session", "bare", {"pool_mode": "session", "default_pool_size": "8", "server_reset_query": ""}),
    ],
    ids=["transaction", "statement", "session", "session without a reset"],
)
def test_many_threads_are_answered_through_pgbouncer(url, pooler, login, settings):
    with a_pgbouncer(url, mode="session", **settings) as through:
        for _ in range(2):
            heard = roles_of_adam(f"postgresql://{login}{through}", pooler=pooler)

            assert heard == ["admin"] * 120


def test_without_the_setting_pgbouncer_is_refused_in_words(url):
    with a_pgbouncer(url, mode="transaction", ignore_startup_parameters="options") as through:
        said = refusal(f"postgresql://bare{through}", pooler="off")

    assert (
        "its role is bare, not authz_sidecar: if a pooler stands between, set SIDECAR_DATABASE_POOLER" in said
    )
    assert "statement_timeout is 0 ms" in said


@pytest.mark.parametrize("settings", [{}, {"ignore_startup_parameters": "options"}])
def test_without_the_setting_the_cause_is_the_session_whatever_pgbouncer_does_with_it(url, settings):
    with a_pgbouncer(url, mode="transaction", **settings) as through:
        error = refused(f"postgresql://bare{through}", pooler="off")

    assert error.cause == "wrong_session"
    assert "SIDECAR_DATABASE_POOLER" in cause_of(error).do


def test_a_login_without_defaults_is_refused_and_each_default_is_named(url):
    with a_pgbouncer(url, mode="transaction") as through:
        login = f"postgresql://bare{through}"
        said = refusal(login, pooler="transaction")
        faults = [str(each) for each in faults_of(login)]

        assert faults == [
            "its role is bare, not authz_sidecar: ALTER ROLE bare SET role = 'authz_sidecar'",
            "statement_timeout is 0 ms: ALTER ROLE bare SET statement_timeout = '5s'",
            "lock_timeout is 0 ms: ALTER ROLE bare SET lock_timeout = '1s'",
        ]
        assert "; ".join(faults) in said
        assert session_faults(login, options=options_for("transaction")) == faults
        assert faults_of(f"postgresql://pooled{through}") == ()


def faults_of(url):
    return condition_of(url, lock_timeout_s=0.1, options=options_for("transaction")).faults


@pytest.mark.parametrize(
    ("setting", "value", "fault"),
    [
        ("search_path", "public, pg_catalog", 'its search_path has "public" before pg_catalog'),
        ("default_transaction_isolation", "serializable", "default_transaction_isolation is serializable"),
        ("statement_timeout", "6s", "statement_timeout is 6000 ms"),
        ("lock_timeout", "5500ms", "lock_timeout is 5500 ms"),
        ("default_transaction_read_only", "on", "the server takes no writes: session is read-only"),
    ],
)
def test_a_login_with_a_wrong_default_is_refused(url, setting, value, fault):
    quoted = value if setting == "search_path" else f"'{value}'"
    before = {"statement_timeout": "5s", "lock_timeout": "1s"}.get(setting)
    run(url, f"ALTER ROLE pooled SET {setting} = {quoted}")
    try:
        with a_pgbouncer(url, mode="transaction") as through:
            said = refusal(f"postgresql://pooled{through}", pooler="transaction")
    finally:
        back = f"SET {setting} = '{before}'" if before else f"RESET {setting}"
        run(url, f"ALTER ROLE pooled {back}")

    assert fault in said


def refusal(url, *, pooler):
    return str(refused(url, pooler=pooler))


def refused(url, *, pooler):
    store = PostgresFacts(url, catalog=the_catalog(), pool_size=2, options=options_for(pooler))
    store.open()
    try:
        with pytest.raises(FactsUnavailable) as raised:
            store.revision(deadline=monotonic() + 5)
    finally:
        store.close()
    return raised.value


@pytest.mark.parametrize("pooler", ["transaction", "session"])
def test_an_answer_of_a_server_that_became_read_only_is_not_used(url, pooler):
    """Each statement asks, since a pooler reports what it remembers."""
    turn = Query(name=b"turn", sql=b"SELECT set_config('default_transaction_read_only', 'on', false)")
    pid = Query(name=b"pid", sql=b"SELECT pg_backend_pid()")
    login = url.replace("postgres@", "pooled@")
    with a_pool(login, size=1, options=options_for(pooler), statement_timeout_s=5) as pool:
        before = pool.answer(pid, (), deadline=monotonic() + 5)
        assert pool.answer(turn, (), deadline=monotonic() + 5) == b"on"
        after = pool.answer(pid, (), deadline=monotonic() + 5)

        assert before != after
        assert ask(pool, within_s=5).ok
