"""A database's rights and shape, compared with what the migrations make of an empty one."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from sidecar.store.contract import contract, differences
from sidecar.store.migrate import migrate
from sidecar.store.pending import pending
from tests.postgres_server import a_database, rows, run
from tests.store.contract_text import USERS, contract_anew
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

OWNER, REPORTING, AUTHENTICATED = "authz_test_contract_owner", "reporting_test", "authenticated_test"
DEFAULTS = tuple(
    f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT {what} TO {to}"
    for what in ("ALL ON TABLES", "ALL ON SEQUENCES", "ALL ON FUNCTIONS", "ALL ON TYPES", "ALL ON SCHEMAS")
    for to in (REPORTING, f"{AUTHENTICATED} WITH GRANT OPTION", "PUBLIC")
)
MAY = """
    SELECT c.oid::regclass::text FROM pg_class AS c
    WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind IN ('r', 'v') AND (
        has_table_privilege('{role}', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        OR has_any_column_privilege('{role}', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
    UNION ALL SELECT c.oid::regclass::text FROM pg_class AS c
    WHERE c.relnamespace = 'authz'::regnamespace
      AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('{role}', c.oid, 'USAGE, SELECT, UPDATE') END
    UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc AS p
    WHERE p.pronamespace = 'authz'::regnamespace AND has_function_privilege('{role}', p.oid, 'EXECUTE')
    UNION ALL SELECT 'usage of the schema' WHERE has_schema_privilege('{role}', 'authz', 'USAGE, CREATE')
"""


def may(url, role):
    return [name for (name,) in rows(url, MAY.replace("{role}", role))]


def migrated(url):
    return migrate(url, catalog=the_catalog(), revision="dev")


def says(url):
    with psycopg.connect(url, autocommit=True) as connection:
        return sorted(each.says for each in differences(connection))


@contextmanager
def roles(url, *names):
    run(
        url,
        *(
            statement
            for name in names
            for statement in (f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name}")
        ),
    )
    try:
        yield
    finally:
        for name in names:
            run(url, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def test_the_contract_is_what_the_migrations_make(postgres_server, empty_database_url):
    """If not: `make schema`."""
    with ExitStack() as stack:
        others = [
            stack.enter_context(contextmanager(a_database)(postgres_server, template="template0"))
            for _ in USERS[1:]
        ]
        anew = contract_anew([empty_database_url, *others])

    assert json.loads(json.dumps(anew)) == contract()


def test_a_database_that_was_just_migrated_does_not_differ(database_url):
    assert says(database_url) == []


def test_default_privileges_of_the_owner_open_nothing(empty_database_url):
    database = psycopg.conninfo.conninfo_to_dict(empty_database_url)["dbname"]
    groups = (
        f"DO $$ BEGIN CREATE ROLE {name} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        for name in ("authz_sidecar", "authz_app", "authz_audit")
    )
    with roles(empty_database_url, OWNER, REPORTING, AUTHENTICATED):
        run(empty_database_url, f"GRANT CREATE ON DATABASE {database} TO {OWNER}", *groups, *DEFAULTS)
        separator = "&" if "?" in empty_database_url else "?"
        done = migrated(f"{empty_database_url}{separator}options=-c%20role%3D{OWNER}")

        assert may(empty_database_url, REPORTING) == []
        assert may(empty_database_url, AUTHENTICATED) == []
        assert (done.repaired, done.findings) == ((), ())


def test_grants_by_hand_are_revoked_and_missing_ones_granted(fresh_database_url):
    with roles(fresh_database_url, REPORTING, AUTHENTICATED):
        run(
            fresh_database_url,
            f"GRANT USAGE, CREATE ON SCHEMA authz TO {REPORTING}, PUBLIC",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA authz TO {REPORTING}",
            f"GRANT UPDATE (name), SELECT (slug) ON authz.workspaces TO {REPORTING}",
            f"GRANT SELECT ON authz.members TO {REPORTING} WITH GRANT OPTION",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA authz TO {REPORTING}",
            f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA authz TO {AUTHENTICATED}, PUBLIC",
            "GRANT EXECUTE ON FUNCTION authz.forget_users TO authz_app",
            "REVOKE EXECUTE ON FUNCTION authz.catalog_revision FROM authz_sidecar",
            "REVOKE USAGE ON SCHEMA authz FROM authz_app",
            "REVOKE SELECT ON authz.users FROM CURRENT_USER",
        )
        with psycopg.connect(fresh_database_url) as connection:
            connection.execute(f"SET ROLE {REPORTING}".encode())
            connection.execute(f"GRANT SELECT ON authz.members TO {AUTHENTICATED}".encode())
        before = says(fresh_database_url)
        checked = pending(fresh_database_url, revision="dev")
        done = migrated(fresh_database_url)

        assert f"{REPORTING} has SELECT on TABLE authz.isolation_secret" in before
        assert f"{REPORTING} has UPDATE (name) on TABLE authz.workspaces" in before
        assert "PUBLIC has CREATE on SCHEMA authz" in before
        assert "authz_sidecar lacks EXECUTE on FUNCTION authz.catalog_revision()" in before
        assert any(each.endswith("the owner, lacks SELECT on TABLE authz.users") for each in before)
        assert len(checked.findings) == len(before)
        assert not checked.is_nothing
        assert done.findings == ()
        assert says(fresh_database_url) == []
        assert may(fresh_database_url, REPORTING) == []
        # docs/isolation.md has them granted, and so they stay.
        assert may(fresh_database_url, AUTHENTICATED) == [
            "authz.claimed_workspace()",
            "authz.entered_workspace()",
        ]


def test_what_isolation_has_operators_grant_stays(fresh_database_url):
    with roles(fresh_database_url, AUTHENTICATED):
        run(
            fresh_database_url,
            f"GRANT USAGE ON SCHEMA authz TO {AUTHENTICATED}",
            f"GRANT EXECUTE ON FUNCTION authz.entered_workspace, authz.claimed_workspace TO {AUTHENTICATED}",
        )
        done = migrated(fresh_database_url)

        assert (done.repaired, done.findings) == ((), ())
        assert len(may(fresh_database_url, AUTHENTICATED)) == 3


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("ALTER TABLE authz.workspaces ADD note text", "column authz.workspaces.note is not of this version"),
        (
            "ALTER TABLE authz.outbox ALTER kind DROP NOT NULL",
            "column authz.outbox.kind is text, not text NOT NULL",
        ),
        ("ALTER TABLE authz.outbox DISABLE TRIGGER ALL", "is CREATE TRIGGER"),
        (
            "DROP INDEX authz.deleted_users_deleted_at_idx",
            "index authz.deleted_users_deleted_at_idx is missing",
        ),
        ("CREATE INDEX mine ON authz.outbox (kind)", "index authz.mine is not of this version"),
        (
            "ALTER TABLE authz.clock DROP CONSTRAINT clock_only_row_check",
            "clock_only_row_check on authz.clock is missing",
        ),
        ("ALTER FUNCTION authz.accept_clock SECURITY DEFINER", "function authz.accept_clock() was changed"),
        (
            "ALTER FUNCTION authz.facts(text[], text[]) RESET ALL",
            "function authz.facts(text[],text[]) was changed",
        ),
        (
            "CREATE FUNCTION authz.mine() RETURNS int LANGUAGE sql RETURN 1",
            "function authz.mine() is not of this version",
        ),
        ("CREATE POLICY p ON authz.users", "policy p on authz.users is not of this version"),
        (
            "ALTER TABLE authz.users ENABLE ROW LEVEL SECURITY",
            "table authz.users is persistence p, row security t",
        ),
        (
            "CREATE RULE r AS ON DELETE TO authz.users DO INSTEAD NOTHING",
            "rule r on authz.users is not of this version",
        ),
        (
            "CREATE TABLE public.child () INHERITS (authz.users)",
            "child public.child of authz.users is not of this",
        ),
        ("CREATE OR REPLACE VIEW authz.mine AS SELECT 1 AS one", "view authz.mine is not of this version"),
        ("CREATE TYPE authz.mine AS ENUM ('a')", "type authz.mine is not of this version"),
        (
            "CREATE STATISTICS authz.mine ON kind, actor FROM authz.outbox",
            "statistics object authz.mine is not of this",
        ),
        (
            "ALTER TABLE authz.users OWNER TO reporting_test",
            "TABLE authz.users belongs to reporting_test, not to ",
        ),
        (
            "ALTER DEFAULT PRIVILEGES IN SCHEMA authz GRANT SELECT ON TABLES TO reporting_test",
            "default privileges on new",
        ),
        ("GRANT pg_read_all_data TO reporting_test", "reporting_test may do what pg_read_all_data may"),
        ("GRANT reporting_test TO authz_app", "authz_app is a member of reporting_test"),
        ("ALTER ROLE authz_audit BYPASSRLS", "authz_audit is more than a group"),
    ],
)
def test_what_is_not_of_the_contract_is_told_and_left(database_url, statement, finding):
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE ROLE reporting_test")
        connection.execute(statement.encode())
        found = differences(connection)
        connection.rollback()

    assert any(finding in each.says for each in found), [each.says for each in found]
    assert all(each.do for each in found)
    assert says(database_url) == []


def test_a_database_of_another_version_is_told_in_one_line(fresh_database_url, empty_database_url):
    run(
        fresh_database_url,
        "DELETE FROM authz.migrations WHERE number = (SELECT max(number) FROM authz.migrations)",
    )

    assert says(empty_database_url) == ["the database has no schema authz of ours"]
    [line] = says(fresh_database_url)
    assert line.startswith("the database is at 00")
