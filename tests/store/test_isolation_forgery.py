"""An ordinary role that cheats: it may run whatever SQL it likes, and has entered one workspace or none."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest
from psycopg import errors

from tests.postgres_server import rows
from tests.store.conftest import entered, values_in

pytestmark = pytest.mark.postgres

SOLO = ["plan of solo"]
CLAIM = "SELECT set_config('authz.entered', %s, true)"


@pytest.fixture(scope="module")
def acme(database_url):
    [(id_,)] = rows(database_url, "SELECT id::text FROM authz.workspaces WHERE slug = 'acme'")
    return id_


def entry_of(connection: psycopg.Connection) -> str:
    row = connection.execute("SELECT current_setting('authz.entered')").fetchone()
    assert row is not None
    return str(row[0])


def sees_nothing(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as refused, connection.transaction():
        values_in(connection)
    assert refused.value.sqlstate == "55000"


def test_the_name_of_a_workspace_is_no_entry(app, acme):
    with psycopg.connect(app) as connection:
        for claim in (
            acme,
            f"{acme} ",
            f"{acme} {'0' * 64}",
            f"{acme} {'f' * 64}",
            "",
            " ",
            "acme",
            "x" * 100_000,
        ):
            connection.execute(CLAIM, (claim,))
            sees_nothing(connection)
        connection.execute(f"SET authz.entered = '{acme}'".encode())
        connection.commit()
        sees_nothing(connection)


def test_an_own_signature_is_worth_nothing_under_another_name(app, acme):
    with entered(app, "sam", "solo") as connection:
        entry = entry_of(connection)
        solo, signature = entry.split(" ")
        wrong = [
            f"{acme} {signature}",
            f"{solo} {signature[:-1]}",
            f"{solo} {signature.upper()}",
            f"{solo} {signature} ",
            f"{solo.upper()} {signature}",
            f"{solo} {signature[::-1]}",
        ]
        for claim in wrong:
            connection.execute(CLAIM, (claim,))
            sees_nothing(connection)
            with pytest.raises(psycopg.Error), connection.transaction():
                connection.execute("INSERT INTO kv_store_b9a572ea (key, value) VALUES ('x', '1')")
        connection.execute(CLAIM, (entry,))
        assert values_in(connection) == SOLO


def test_the_signature_of_another_transaction_is_worth_nothing(app):
    with entered(app, "adam", "acme") as one, psycopg.connect(app) as other:
        entry = entry_of(one)
        other.execute(CLAIM, (entry,))
        sees_nothing(other)  # that has no number yet
        other.execute("SELECT pg_current_xact_id()")
        sees_nothing(other)
        other.rollback()
        other.execute("SELECT authz.enter('sam', 'solo')")
        other.execute(CLAIM, (entry,))
        sees_nothing(other)

        one.commit()  # and no more in the session that it was made for
        one.execute("SELECT authz.enter('adam', 'acme')")
        later = entry_of(one)
        one.execute(CLAIM, (entry,))
        sees_nothing(one)
        assert later != entry


@pytest.mark.parametrize(
    "forget",
    [
        "SELECT 1",
        "SET LOCAL authz.entered = ''",
        "RESET authz.entered",
        "SET LOCAL authz.entered TO DEFAULT",
        "RESET ALL",
        "DISCARD PLANS",
        "DISCARD SEQUENCES",
        "SELECT pg_advisory_unlock_all()",
        "SELECT pg_advisory_unlock_shared(7024, pg_backend_pid())",
        """SELECT pg_advisory_lock_shared(7024, pg_backend_pid()),
        pg_advisory_unlock_shared(7024, pg_backend_pid())""",
        "CLOSE ALL",
        "SELECT set_config('authz.entered', '', true), set_config('authz.entered', '', false)",
    ],
)
def test_nobody_makes_a_transaction_forget_that_it_has_entered(app, forget):
    with entered(app, "sam", "solo") as connection:
        with suppress(errors.UndefinedObject):
            connection.execute(forget.encode())

        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="already"):
            connection.execute("SELECT authz.enter('adam', 'acme')")


def test_an_expression_that_was_injected_stays_in_the_workspace(app):
    injected = """
        SELECT set_config('authz.entered', '', true), authz.enter('adam', 'acme'), key FROM kv_store_b9a572ea
    """
    with (
        pytest.raises(errors.ObjectNotInPrerequisiteState, match="already"),
        entered(app, "sam", "solo") as connection,
    ):
        connection.execute(injected)


def test_a_block_that_catches_its_errors_gets_no_further(app):
    with entered(app, "sam", "solo") as connection:
        connection.execute(
            """DO $$ BEGIN
                PERFORM set_config('authz.entered', '', true);
                PERFORM authz.enter('adam', 'acme');
            EXCEPTION WHEN OTHERS THEN
                RAISE NOTICE '%', SQLERRM;
            END $$"""
        )

        assert values_in(connection) == SOLO


def test_row_security_cannot_be_switched_off(app):
    with entered(app, "sam", "solo") as connection:
        connection.execute("SET LOCAL row_security = off")
        with pytest.raises(errors.InsufficientPrivilege, match="would be affected by row-level security"):
            values_in(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE kv_store_b9a572ea",
        "ALTER TABLE kv_store_b9a572ea DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE kv_store_b9a572ea NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY authz_workspace ON kv_store_b9a572ea",
        "CREATE POLICY mine ON kv_store_b9a572ea USING (true)",
        "CREATE TABLE public.probe (id uuid, key text, FOREIGN KEY (id, key) REFERENCES kv_store_b9a572ea)",
        """CREATE TRIGGER spy BEFORE UPDATE ON kv_store_b9a572ea FOR EACH ROW
        EXECUTE FUNCTION suppress_redundant_updates_trigger()""",
        "CREATE RULE spy AS ON INSERT TO kv_store_b9a572ea DO ALSO NOTHING",
        "CREATE TABLE public.child () INHERITS (kv_store_b9a572ea)",
        "CREATE STATISTICS public.s ON workspace_id, key FROM kv_store_b9a572ea",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
        "CREATE OR REPLACE FUNCTION authz.entered_workspace() RETURNS uuid LANGUAGE sql RETURN NULL",
        "SELECT authz.signed('acme', pg_current_xact_id())",
        "TABLE authz.isolation_secret",
    ],
)
def test_an_ordinary_role_may_not(app, statement):
    with (
        pytest.raises((errors.InsufficientPrivilege, errors.InvalidParameterValue)),
        entered(app, "sam", "solo") as connection,
    ):
        connection.execute(statement.encode())


def test_a_cheap_function_is_shown_no_row_of_others(app):
    with entered(app, "sam", "solo") as connection:
        connection.execute(
            """CREATE FUNCTION pg_temp.shown(value jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
            BEGIN
                PERFORM set_config('my.seen', concat(current_setting('my.seen', true), value), true);
                RETURN true;
            END $$"""
        )
        connection.execute("SELECT FROM kv_store_b9a572ea WHERE pg_temp.shown(value)")
        seen = connection.execute("SELECT current_setting('my.seen')").fetchone()

    assert seen == ('"of solo"',)


def test_statistics_show_no_value_of_others(app, database_url):
    rows(database_url, "ANALYZE kv_store_b9a572ea")
    with entered(app, "sam", "solo") as connection:
        seen = connection.execute("SELECT * FROM pg_stats WHERE tablename = 'kv_store_b9a572ea'").fetchall()

    assert seen == []
    assert rows(database_url, "SELECT * FROM pg_stats WHERE tablename = 'kv_store_b9a572ea'") != []


def test_whoever_keeps_a_session_from_entering_has_opened_nothing(app):
    with psycopg.connect(app) as victim, psycopg.connect(app) as hostile:
        hostile.execute("SELECT pg_advisory_lock(7024, %s)", (victim.info.backend_pid,))
        with pytest.raises(errors.LockNotAvailable), victim.transaction():
            victim.execute("SELECT authz.enter('sam', 'solo')")
        sees_nothing(victim)
