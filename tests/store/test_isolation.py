"""Isolation as an application uses it: each statement is about the workspace that was entered."""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from tests.postgres_server import rows, run
from tests.store.conftest import SELECT_VALUES, entered, values_in

pytestmark = pytest.mark.postgres

ACME = ["notes of acme", "plan of acme"]
SOLO = ["plan of solo"]


def test_a_member_sees_the_rows_of_the_workspace_and_no_others(app):
    for user, workspace, expected in (("adam", "acme", ACME), ("mia", "acme", ACME), ("sam", "solo", SOLO)):
        with entered(app, user, workspace) as connection:
            assert values_in(connection) == expected


def test_what_one_member_writes_all_members_read(app):
    with entered(app, "adam", "acme") as connection:
        connection.execute("INSERT INTO kv_store_b9a572ea (key, value) VALUES ('score', '7')")
    with entered(app, "mia", "acme") as connection:
        assert "score 7" in values_in(connection)
    with entered(app, "zoe", "zoe") as connection:
        connection.execute("INSERT INTO kv_store_b9a572ea (key, value) VALUES ('score', '8')")  # the same key
        assert values_in(connection) == ["score 8"]


def test_a_workspace_is_entered_by_its_slug_or_its_id(app, database_url):
    [(acme,)] = rows(database_url, "SELECT id FROM authz.workspaces WHERE slug = 'acme'")

    for workspace in ("acme", acme, str(acme), str(acme).upper()):
        with psycopg.connect(app) as connection:
            row = connection.execute("SELECT authz.enter(%s, %s)", ("adam", workspace)).fetchone()

        assert row == (acme,)
        assert isinstance(acme, UUID)


def test_whoever_is_no_member_hears_the_same_whatever_the_reason(app, database_url):
    run(
        database_url,
        """INSERT INTO authz.workspace_memberships
        SELECT id, 'jan', 'janitor' FROM authz.workspaces WHERE slug = 'acme'""",
    )
    heard = set()
    for user, workspace in (
        ("sam", "acme"),
        ("nobody", "acme"),
        ("jan", "acme"),  # in a role that is not declared
        ("adam", "nowhere"),
        ("adam", uuid4()),
        ("adam", "{3f2b8a52-1111-4222-8333-444455556666}"),
        ("adam", ""),
        ("adam", None),
        (None, "acme"),
    ):
        with pytest.raises(errors.InsufficientPrivilege) as refused, entered(app, user, workspace):
            pass
        heard.add((refused.value.sqlstate, refused.value.diag.message_primary))

    assert heard == {("42501", "not a member of this workspace")}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM kv_store_b9a572ea",
        "INSERT INTO kv_store_b9a572ea (key, value) VALUES ('x', '1')",
        "UPDATE kv_store_b9a572ea SET value = '0'",
        "DELETE FROM kv_store_b9a572ea",
        "SELECT FROM kv_store_b9a572ea FOR UPDATE",
        """MERGE INTO kv_store_b9a572ea AS k USING (SELECT 'plan' AS key) AS s ON k.key = s.key
        WHEN MATCHED THEN DELETE""",
    ],
)
def test_a_transaction_that_has_entered_nothing_fails_rather_than_see_an_empty_table(app, statement):
    with psycopg.connect(app) as connection, pytest.raises(errors.ObjectNotInPrerequisiteState) as refused:
        connection.execute(statement)

    assert refused.value.diag.message_primary == "this transaction has entered no workspace"
    assert "authz.enter(user, workspace)" in (refused.value.diag.message_hint or "")


def test_an_entry_ends_with_its_transaction(app):
    with psycopg.connect(app) as connection:
        for end in (connection.commit, connection.rollback):
            connection.execute("SELECT authz.enter('adam', 'acme')")
            assert values_in(connection) == ACME
            end()
            assert connection.execute("SELECT current_setting('authz.entered')").fetchone() == ("",)
            with pytest.raises(errors.ObjectNotInPrerequisiteState):
                values_in(connection)
            connection.rollback()

        connection.autocommit = True  # each statement is a transaction
        connection.execute("SELECT authz.enter('adam', 'acme')")
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            values_in(connection)


@pytest.mark.parametrize(
    "statement", ["UPDATE kv_store_b9a572ea SET value = '\"mine\"'", "DELETE FROM kv_store_b9a572ea"]
)
def test_what_changes_all_rows_changes_those_of_the_workspace(app, database_url, statement):
    with entered(app, "sam", "solo") as connection:
        assert connection.execute(statement).rowcount == 1

    assert [value for (value,) in rows(database_url, SELECT_VALUES) if "solo" not in value] == sorted(
        [*ACME, "plan of piano", *(["plan mine"] if "UPDATE" in statement else [])]
    )


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO kv_store_b9a572ea (workspace_id, key, value) VALUES (%(acme)s, 'x', '1')",
        "INSERT INTO kv_store_b9a572ea (workspace_id, key, value) VALUES (%(nowhere)s, 'x', '1')",
        "INSERT INTO kv_store_b9a572ea (workspace_id, key, value) VALUES (NULL, 'x', '1')",
        "UPDATE kv_store_b9a572ea SET workspace_id = %(acme)s, key = 'x'",
        """INSERT INTO kv_store_b9a572ea (workspace_id, key, value) VALUES (%(acme)s, 'plan', '1')
        ON CONFLICT (workspace_id, key) DO UPDATE SET value = '"stolen"'""",
        """INSERT INTO kv_store_b9a572ea (workspace_id, key, value) VALUES (%(acme)s, 'plan', '1')
        ON CONFLICT DO NOTHING""",
        """MERGE INTO kv_store_b9a572ea AS k USING (SELECT %(acme)s::uuid AS id) AS s ON k.workspace_id = s.id
        WHEN NOT MATCHED THEN INSERT (workspace_id, key, value) VALUES (s.id, 'plan', '1')""",
    ],
)
def test_nothing_is_written_into_another_workspace_nor_learnt_of_what_is_there(app, database_url, statement):
    [(acme,)] = rows(database_url, "SELECT id FROM authz.workspaces WHERE slug = 'acme'")
    before = rows(database_url, SELECT_VALUES)

    with pytest.raises(errors.InsufficientPrivilege) as refused, entered(app, "sam", "solo") as connection:
        connection.execute(statement, {"acme": acme, "nowhere": uuid4()})

    assert "violates row-level security policy" in str(refused.value)
    assert rows(database_url, SELECT_VALUES) == before


def test_an_upsert_of_the_workspaces_own_row_is_one(app):
    upsert = """INSERT INTO kv_store_b9a572ea (key, value) VALUES ('plan', %s)
        ON CONFLICT (workspace_id, key) DO UPDATE SET value = excluded.value"""
    with entered(app, "sam", "solo") as connection:
        connection.execute(upsert.encode(), ('"of the week"',))

        assert values_in(connection) == ["plan of the week"]


def test_a_transaction_that_only_reads_can_enter(app):
    with psycopg.connect(app) as connection:
        connection.read_only = True
        connection.execute("SELECT authz.enter('adam', 'acme')")
        assert values_in(connection) == ACME
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM kv_store_b9a572ea")


def test_a_transaction_that_has_written_elsewhere_can_enter_once(app):
    with psycopg.connect(app) as connection:
        connection.execute("CREATE TEMPORARY TABLE log (line text)")
        connection.execute("INSERT INTO log VALUES ('a request')")
        connection.execute("SELECT authz.enter('adam', 'acme')")
        assert values_in(connection) == ACME
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="already"):
            connection.execute("SELECT authz.enter('adam', 'acme')")


def test_the_workspace_is_verified_once_a_statement_and_not_for_each_row(app, database_url):
    run(
        database_url,
        f"GRANT SET ON PARAMETER track_functions TO {psycopg.conninfo.conninfo_to_dict(app)['user']}",
    )
    with entered(app, "adam", "acme") as connection:
        connection.execute("SET LOCAL track_functions = 'all'")
        connection.execute(
            "INSERT INTO kv_store_b9a572ea (key, value) SELECT n, '1' FROM generate_series(1, 500) AS n"
        )
        connection.execute("SELECT count(*) FROM kv_store_b9a572ea")
        calls = connection.execute(
            "SELECT calls FROM pg_stat_xact_user_functions WHERE funcname = 'entered_workspace'"
        ).fetchone()

    assert calls == (2,)


def test_workers_of_a_parallel_scan_see_no_more(app, database_url):
    run(
        database_url,
        """INSERT INTO kv_store_b9a572ea (workspace_id, key, value)
        SELECT id, n, '1' FROM authz.workspaces, generate_series(1, 5000) AS n WHERE slug <> 'zoe'""",
        "ANALYZE kv_store_b9a572ea",
    )
    with entered(app, "adam", "acme") as connection:
        for setting in (
            "parallel_setup_cost = 0",
            "parallel_tuple_cost = 0",
            "min_parallel_table_scan_size = 0",
            "enable_indexscan = off",
            "enable_bitmapscan = off",
        ):
            connection.execute(f"SET LOCAL {setting}".encode())
        count = "SELECT count(*), min(workspace_id::text) = max(workspace_id::text) FROM kv_store_b9a572ea"
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN (ANALYZE) {count}".encode()))
        counted = connection.execute(count.encode()).fetchone()

    assert "Workers Launched: " in plan
    assert "Workers Launched: 0" not in plan
    assert counted == (5002, True)


def test_the_rows_of_a_workspace_go_with_it(app, database_url):
    run(
        database_url,
        "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('brief', 'Brief', 'team')",
        """INSERT INTO kv_store_b9a572ea (workspace_id, key, value)
        SELECT id, 'x', '"of brief"' FROM authz.workspaces WHERE slug = 'brief'""",
        "DELETE FROM authz.workspaces WHERE slug = 'brief'",
    )

    left = rows(database_url, SELECT_VALUES)
    assert sorted(value for (value,) in left) == sorted([*ACME, *SOLO, "plan of piano"])


def test_what_was_entered_under_a_secret_ends_with_it(app, database_url):
    with entered(app, "adam", "acme") as connection:
        assert values_in(connection) == ACME
        run(database_url, "SELECT authz.rotate_isolation_secret()")
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            values_in(connection)
    with entered(app, "adam", "acme") as connection:
        assert values_in(connection) == ACME


def test_the_signature_is_the_hmac_of_what_it_says(app, database_url):
    with entered(app, "adam", "acme") as connection:
        row = connection.execute(
            "SELECT current_setting('authz.entered'), pg_current_xact_id()::text,"
            " extract(epoch FROM pg_postmaster_start_time())::text"
        ).fetchone()
    [(inner, outer)] = rows(database_url, "SELECT inner_key, outer_key FROM authz.isolation_secret")
    assert row is not None
    workspace, signature = row[0].split(" ")
    key = bytes(each ^ 0x36 for each in inner)

    assert bytes(each ^ 0x5C for each in outer) == key
    assert key[32:] == bytes(32)
    assert len(set(key[:32])) > 16
    message = " ".join([workspace, row[1], row[2]]).encode()
    assert signature == hmac.new(key[:32], message, hashlib.sha256).hexdigest()
