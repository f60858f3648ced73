"""What a session keeps: prepared statements, cursors, savepoints, and what the next user of a pool finds."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.store.conftest import SELECT_VALUES, entered, values_in

pytestmark = pytest.mark.postgres

ACME = ["notes of acme", "plan of acme"]
SOLO = ["plan of solo"]


def copied(connection: psycopg.Connection) -> list[str]:
    with connection.cursor() as cursor, cursor.copy("COPY kv_store_b9a572ea (key) TO STDOUT") as copy:
        return sorted(row[0] for row in copy.rows())


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
def test_a_prepared_statement_shows_what_its_transaction_has_entered(app, mode):
    with psycopg.connect(app) as connection:
        connection.execute(f"SET plan_cache_mode = {mode}".encode())
        connection.execute("PREPARE all_values AS " + SELECT_VALUES)
        connection.commit()
        for user, workspace, expected in [("adam", "acme", ACME), ("sam", "solo", SOLO)] * 4:
            connection.execute("SELECT authz.enter(%s, %s)", (user, workspace))
            assert [value for (value,) in connection.execute("EXECUTE all_values")] == expected
            connection.commit()
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.execute("EXECUTE all_values")


def test_plans_that_a_function_keeps_show_what_its_transaction_has_entered(app):
    with psycopg.connect(app) as connection:
        connection.execute(
            """CREATE FUNCTION pg_temp.counted() RETURNS bigint LANGUAGE plpgsql AS $$
            BEGIN RETURN (SELECT count(*) FROM kv_store_b9a572ea); END; $$"""
        )
        connection.commit()
        for user, workspace, expected in [("adam", "acme", 2), ("sam", "solo", 1)] * 4:
            connection.execute("SELECT authz.enter(%s, %s)", (user, workspace))
            assert connection.execute("SELECT pg_temp.counted()").fetchone() == (expected,)
            connection.commit()
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.execute("SELECT pg_temp.counted()")


def test_a_cursor_ends_with_its_transaction_unless_it_was_to_be_held(app):
    with psycopg.connect(app) as connection:
        connection.execute("SELECT authz.enter('adam', 'acme')")
        connection.execute("DECLARE brief CURSOR FOR " + SELECT_VALUES)
        connection.execute("DECLARE held CURSOR WITH HOLD FOR " + SELECT_VALUES)
        connection.commit()

        connection.execute("SELECT authz.enter('sam', 'solo')")
        # What it was read for, as a variable of the application would keep it: a pool must discard it.
        assert [value for (value,) in connection.execute("FETCH ALL FROM held")] == ACME
        assert values_in(connection) == SOLO
        with pytest.raises(errors.InvalidCursorName):
            connection.execute("FETCH ALL FROM brief")


def test_a_cursor_that_is_to_be_held_reads_nothing_after_its_transaction(app):
    with psycopg.connect(app) as connection:
        connection.execute("DECLARE held CURSOR WITH HOLD FOR " + SELECT_VALUES)
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.commit()


def test_an_entry_goes_with_the_savepoint_that_is_rolled_back_and_stays_with_one_that_is_kept(app):
    with psycopg.connect(app) as connection:
        connection.execute("SAVEPOINT a")
        connection.execute("SELECT authz.enter('sam', 'solo')")
        connection.execute("ROLLBACK TO a")
        connection.execute("SAVEPOINT b")
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            values_in(connection)
        connection.execute("ROLLBACK TO b")

        connection.execute("SAVEPOINT c")
        connection.execute("SELECT authz.enter('adam', 'acme')")
        connection.execute("RELEASE c")
        assert values_in(connection) == ACME
        connection.execute("SAVEPOINT d")
        connection.execute("SET LOCAL authz.entered = ''")
        connection.execute("ROLLBACK TO d")
        assert values_in(connection) == ACME


def test_a_failed_entry_leaves_the_transaction_free_to_enter(app):
    with psycopg.connect(app) as connection:
        with pytest.raises(errors.InsufficientPrivilege), connection.transaction():
            connection.execute("SELECT authz.enter('sam', 'acme')")

        connection.execute("SELECT authz.enter('sam', 'solo')")
        assert values_in(connection) == SOLO


def test_copy_sends_the_rows_of_the_workspace_and_takes_none(app):
    with entered(app, "sam", "solo") as connection:
        assert copied(connection) == ["plan"]
        with (
            pytest.raises(
                errors.FeatureNotSupported, match="COPY FROM not supported with row-level security"
            ),
            connection.cursor() as cursor,
            cursor.copy("COPY kv_store_b9a572ea (key, value) FROM STDIN") as copy,
        ):
            copy.write_row(("x", "1"))
    with psycopg.connect(app) as connection, pytest.raises(errors.ObjectNotInPrerequisiteState):
        copied(connection)


def test_what_the_last_user_of_a_pooled_connection_set_is_worth_nothing(app):
    with psycopg.connect(app) as connection:
        connection.execute("SELECT authz.enter('adam', 'acme')")
        entry = connection.execute("SELECT current_setting('authz.entered')").fetchone()
        assert entry is not None
        connection.execute("SELECT set_config('authz.entered', %s, false)", entry)  # for the session
        assert values_in(connection) == ACME
        connection.commit()

        assert connection.execute("SELECT current_setting('authz.entered')").fetchone() == entry
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            values_in(connection)
        connection.rollback()
        connection.execute("SELECT authz.enter('sam', 'solo')")
        assert values_in(connection) == SOLO


def test_a_role_that_a_session_takes_on_changes_neither_what_was_entered_nor_what_is_seen(app, database_url):
    with psycopg.connect(database_url) as connection:  # a superuser's session, who steps down
        connection.execute("SET LOCAL ROLE authz_test_app")
        connection.execute("SELECT authz.enter('adam', 'acme')")
        assert values_in(connection) == ACME
        connection.execute("RESET ROLE")
        connection.execute("SET LOCAL SESSION AUTHORIZATION authz_test_app")
        assert values_in(connection) == ACME
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="already"):
            connection.execute("SELECT authz.enter('sam', 'solo')")
