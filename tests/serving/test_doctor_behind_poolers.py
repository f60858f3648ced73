"""`sidecar doctor` behind a real PgBouncer: what the login begins with, and what the session has by now."""

from __future__ import annotations

from contextlib import contextmanager

import psycopg
import pytest

from sidecar.rego.load import compiled_at
from sidecar.serving.doctor.database import database_checks
from sidecar.settings import Settings, shipped
from sidecar.store.migrate import migrate
from tests.postgres_server import a_database, run
from tests.store.pgbouncer import a_pgbouncer
from tests.store.test_poolers import POOLERS

pytestmark = pytest.mark.postgres

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
NAMES = (
    "database role",
    "database timeouts",
    "database search path",
    "database login defaults",
    "database catalog",
)


@pytest.fixture(scope="module")
def url(postgres_server, migrated_template):
    [block] = POOLERS.read_text().split("```sql\n")[1:2]
    statements = block.partition("```")[0].strip().rstrip(";").split(";")
    for url in a_database(postgres_server, template=migrated_template):
        migrate(url, catalog=COMPILED.catalog, revision=COMPILED.revision)
        run(url, "DROP ROLE IF EXISTS pooled", *statements)
        yield url
        run(url, "DROP ROLE pooled")


@contextmanager
def changed(url, change, back):
    run(url, change)
    try:
        yield
    finally:
        run(url, back)


def checked(url, *, pooler="transaction"):
    """{name: [(state, says, do)]} of those that concern the session."""
    settings = Settings.from_environ(
        {
            "SIDECAR_DATABASE_URL": url,
            "SIDECAR_DATABASE_POOLER": pooler,
            "SIDECAR_PLANS": str(shipped("plans.yaml")),
        }
    )
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    for each in database_checks(settings, COMPILED):
        found.setdefault(each.name, []).append((each.state, each.says, each.do))
    return {name: found[name] for name in ("database", *NAMES) if name in found}


def test_the_login_of_the_documents_is_fine_though_its_timeouts_are_longer_than_ours(url):
    with a_pgbouncer(url, mode="transaction") as through:
        found = checked(f"postgresql://pooled{through}")

    assert {state for checks in found.values() for state, _, _ in checks} == {"ok"}
    assert (
        found["database timeouts"][0][1] == "statement_timeout 5000 ms, lock_timeout 1000 ms, read committed"
    )
    assert found["database login defaults"][0][1] == "a new session of pooled begins as it has to"


def test_behind_a_session_pooler_what_the_sidecar_sets_is_in_force_whatever_the_login_has(url):
    with (
        changed(url, "ALTER ROLE pooled RESET role", "ALTER ROLE pooled SET role = 'authz_sidecar'"),
        a_pgbouncer(url, mode="session") as through,
    ):
        found = checked(f"postgresql://pooled{through}", pooler="session")

    assert {state for checks in found.values() for state, _, _ in checks} == {"ok"}
    assert found["database timeouts"][0][1] == "statement_timeout 1000 ms, lock_timeout 75 ms, read committed"
    assert "database login defaults" not in found


@pytest.mark.parametrize(
    ("change", "back", "name", "says", "do"),
    [
        (
            "ALTER ROLE pooled SET statement_timeout = '0'",
            "ALTER ROLE pooled SET statement_timeout = '5s'",
            "database timeouts",
            "statement_timeout is 0 ms",
            "ALTER ROLE pooled SET statement_timeout = '5s'",
        ),
        (
            "ALTER ROLE pooled RESET role",
            "ALTER ROLE pooled SET role = 'authz_sidecar'",
            "database role",
            "its role is pooled, not authz_sidecar",
            "ALTER ROLE pooled SET role = 'authz_sidecar'",
        ),
        (
            "ALTER ROLE pooled SET search_path = public, pg_catalog",
            "ALTER ROLE pooled RESET search_path",
            "database search path",
            'its search_path has "public" before pg_catalog',
            "ALTER ROLE pooled RESET search_path",
        ),
    ],
    ids=["timeout", "role", "search path"],
)
def test_a_default_that_is_wrong_is_a_finding_with_the_statement(url, change, back, name, says, do):
    with changed(url, change, back), a_pgbouncer(url, mode="transaction") as through:
        found = checked(f"postgresql://pooled{through}")

    assert found.pop(name) == [("finding", says, do)]
    # One that is wrong is told once: by the session of a worker nothing would be found.
    assert found.pop("database catalog") == [("skipped", "not compared: correct the session first", None)]
    assert {state for checks in found.values() for state, _, _ in checks} <= {"ok"}


def test_a_default_that_was_set_right_since_needs_a_new_connection_of_the_pooler(url):
    with changed(url, "ALTER ROLE pooled RESET role", "ALTER ROLE pooled SET role = 'authz_sidecar'"):  # noqa: SIM117 - in this order
        with a_pgbouncer(url, mode="transaction", size=1) as through:
            login = f"postgresql://pooled{through}"
            psycopg.connect(login).close()
            run(url, "ALTER ROLE pooled SET role = 'authz_sidecar'")
            [(state, says, do)] = checked(login)["database role"]

    assert (state, says) == ("finding", "its role is pooled, not authz_sidecar")
    assert "RECONNECT" in do


def test_a_session_that_another_application_has_changed_does_not_hide_a_default_that_lacks(url):
    with (
        changed(url, "ALTER ROLE pooled SET lock_timeout = '0'", "ALTER ROLE pooled SET lock_timeout = '1s'"),
        a_pgbouncer(url, mode="transaction", size=1) as through,
    ):
        login = f"postgresql://pooled{through}"
        with psycopg.connect(login, autocommit=True) as other:
            other.execute("SET lock_timeout = '1s'")
        found = checked(login)

    assert found["database timeouts"][0][0] == "ok"
    assert found["database login defaults"] == [
        (
            "finding",
            "this session differs, but of a new one lock_timeout is 0 ms",
            "ALTER ROLE pooled SET lock_timeout = '1s'",
        )
    ]


@pytest.mark.parametrize(
    ("change", "of_the_database", "in_force"),
    [("ALTER ROLE pooled RESET statement_timeout", "4000", 4000), ("SELECT 1", "0", 5000)],
    ids=["the login has none", "the login has one"],
)
def test_a_default_of_the_database_counts_where_the_login_has_none(url, change, of_the_database, in_force):
    with psycopg.connect(url) as connection:
        name = connection.info.dbname
    with (
        changed(url, change, "ALTER ROLE pooled SET statement_timeout = '5s'"),
        changed(
            url,
            f"ALTER DATABASE {name} SET statement_timeout = {of_the_database}",
            f"ALTER DATABASE {name} RESET statement_timeout",
        ),
        a_pgbouncer(url, mode="transaction") as through,
    ):
        found = checked(f"postgresql://pooled{through}")

    says = f"statement_timeout {in_force} ms, lock_timeout 1000 ms, read committed"
    assert found["database timeouts"] == [("ok", says, None)]
    assert found["database login defaults"][0][0] == "ok"


@pytest.mark.parametrize("settings", [{}, {"ignore_startup_parameters": "options"}])
def test_a_pooler_that_nobody_has_named_is_told(url, settings):
    with a_pgbouncer(url, mode="transaction", **settings) as through:
        found = checked(f"postgresql://pooled{through}", pooler="off")

    told = [do for checks in found.values() for state, _, do in checks if state == "finding"]
    assert told
    assert all("SIDECAR_DATABASE_POOLER" in do for do in told)
