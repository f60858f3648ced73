"""What stands around an isolated table: its owner, views, functions, other tables, other policies."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.postgres_server import rows, run
from tests.store.conftest import APP, SELECT_VALUES, entered, values_in

pytestmark = pytest.mark.postgres

ACME = ["notes of acme", "plan of acme"]
SOLO = ["plan of solo"]
OWNER = "authz_test_table_owner"
FUNCTION = """
    CREATE FUNCTION public.all_values() RETURNS text LANGUAGE sql SECURITY DEFINER
    RETURN (SELECT string_agg(key || ' ' || (value #>> '{}'), ',' ORDER BY key) FROM public.kv_store_b9a572ea)
"""


@pytest.fixture
def owner(app, database_url):
    """The table belongs to an ordinary role, as it should."""
    run(
        database_url,
        f"DROP ROLE IF EXISTS {OWNER}",
        f"CREATE ROLE {OWNER} IN ROLE authz_app",
        f"GRANT CREATE ON SCHEMA public TO {OWNER}",
        f"ALTER TABLE kv_store_b9a572ea OWNER TO {OWNER}",
    )
    yield OWNER
    run(
        database_url,
        "ALTER TABLE kv_store_b9a572ea OWNER TO CURRENT_USER",
        f"DROP OWNED BY {OWNER} CASCADE",
        f"DROP ROLE {OWNER}",
    )


def made_by(database_url: str, role: str, *statements: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"SET ROLE {role}".encode())
        for statement in statements:
            connection.execute(statement.encode())


def test_the_owner_of_the_table_sees_what_they_have_entered(owner, database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute(f"SET ROLE {owner}".encode())
        with pytest.raises(errors.ObjectNotInPrerequisiteState), connection.transaction():
            values_in(connection)
        connection.execute("SELECT authz.enter('sam', 'solo')")
        assert values_in(connection) == SOLO
        with (
            pytest.raises(errors.InsufficientPrivilege, match="row-level security"),
            connection.transaction(),
        ):
            connection.execute("UPDATE kv_store_b9a572ea SET workspace_id = gen_random_uuid()")
        assert connection.execute("DELETE FROM kv_store_b9a572ea").rowcount == 1


@pytest.mark.parametrize("options", ["", "WITH (security_invoker)", "WITH (security_barrier)"])
@pytest.mark.parametrize("maker", [APP, OWNER])
def test_a_view_shows_what_was_entered_whoever_of_them_made_it(app, owner, database_url, maker, options):
    made_by(
        database_url,
        maker,
        f"CREATE VIEW public.everything {options} AS {SELECT_VALUES}",
        f"GRANT SELECT ON public.everything TO {APP}",
    )
    try:
        for user, workspace, expected in (("adam", "acme", ACME), ("sam", "solo", SOLO)):
            with entered(app, user, workspace) as connection:
                assert [value for (value,) in connection.execute("TABLE public.everything")] == expected
        with psycopg.connect(app) as connection, pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.execute("TABLE public.everything")
    finally:
        run(database_url, "DROP VIEW public.everything")


@pytest.mark.parametrize("maker", [APP, OWNER])
def test_a_function_with_the_rights_of_its_owner_is_bound_too(app, owner, database_url, maker):
    made_by(database_url, maker, FUNCTION, f"GRANT EXECUTE ON FUNCTION public.all_values() TO {APP}")
    try:
        with entered(app, "sam", "solo") as connection:
            assert connection.execute("SELECT public.all_values()").fetchall() == [("plan of solo",)]
        with psycopg.connect(app) as connection, pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.execute("SELECT public.all_values()")
    finally:
        run(database_url, "DROP FUNCTION public.all_values()")


def test_a_view_of_a_superuser_shows_everything_unless_it_asks_as_its_invoker(app, database_url):
    """The limit that docs/isolation.md states: to such an owner no policy applies, here as anywhere."""
    run(
        database_url,
        f"CREATE VIEW public.open AS {SELECT_VALUES}",
        f"CREATE VIEW public.closed WITH (security_invoker) AS {SELECT_VALUES}",
        f"GRANT SELECT ON public.open, public.closed TO {APP}",
    )
    try:
        with entered(app, "sam", "solo") as connection:
            assert len(connection.execute("TABLE public.open").fetchall()) == 4
            assert [value for (value,) in connection.execute("TABLE public.closed")] == SOLO
    finally:
        run(database_url, "DROP VIEW public.open, public.closed")


def test_a_policy_of_the_application_narrows_and_never_widens(app, database_url):
    run(
        database_url,
        "CREATE TABLE public.drafts (author text, workspace_id uuid, body text)",
        "CREATE POLICY everybody ON public.drafts USING (true) WITH CHECK (true)",
        f"GRANT ALL ON public.drafts TO {APP}",
        "SELECT authz.isolate('public.drafts')",
        """INSERT INTO public.drafts (author, body, workspace_id)
        SELECT 'x', w.slug, w.id FROM authz.workspaces AS w""",
    )
    try:
        with entered(app, "sam", "solo") as connection:
            assert connection.execute("SELECT body FROM public.drafts").fetchall() == [("solo",)]
        run(
            database_url,
            "DROP POLICY everybody ON public.drafts",
            "CREATE POLICY own ON public.drafts USING (author = 'sam')",
            "SELECT authz.isolate('public.drafts')",  # adds no policy that would let everybody in
        )
        with entered(app, "sam", "solo") as connection:
            assert connection.execute("SELECT body FROM public.drafts").fetchall() == []
            connection.execute("INSERT INTO public.drafts (author, body) VALUES ('sam', 'mine')")
            assert connection.execute("SELECT body FROM public.drafts").fetchall() == [("mine",)]
    finally:
        run(database_url, "DROP TABLE public.drafts")


def test_a_foreign_key_within_the_workspace_tells_nothing_of_others(app, database_url):
    run(
        database_url,
        """CREATE TABLE public.comments (
            workspace_id uuid NOT NULL, key text NOT NULL, body text,
            FOREIGN KEY (workspace_id, key) REFERENCES kv_store_b9a572ea (workspace_id, key) ON DELETE CASCADE
        )""",
        f"GRANT ALL ON public.comments TO {APP}",
        "SELECT authz.isolate('public.comments')",
    )
    try:
        with entered(app, "sam", "solo") as connection:
            connection.execute("INSERT INTO public.comments (key, body) VALUES ('plan', 'good')")
            for key in ("notes", "nowhere"):  # the one is in acme, the other nowhere
                with pytest.raises(errors.ForeignKeyViolation) as refused, connection.transaction():
                    connection.execute("INSERT INTO public.comments (key, body) VALUES (%s, 'x')", (key,))
                assert "is not present in table" in (refused.value.diag.message_detail or "")
            connection.execute("DELETE FROM kv_store_b9a572ea WHERE key = 'plan'")
            assert connection.execute("SELECT count(*) FROM public.comments").fetchone() == (0,)
    finally:
        run(database_url, "DROP TABLE public.comments")


def test_isolate_warns_of_what_it_leaves_open(app, database_url):
    heard: list[str] = []
    with psycopg.connect(database_url) as connection:
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
        connection.execute(
            """CREATE TABLE public.parents (id integer PRIMARY KEY, email text);
            CREATE UNIQUE INDEX parents_email ON public.parents (lower(email));
            CREATE TABLE public.children (parent_id integer REFERENCES public.parents (id));
            INSERT INTO public.parents VALUES (1)"""
        )
        connection.execute("SELECT authz.isolate('public.parents')")
        connection.rollback()

    assert heard == [
        "public.parents has rows of no workspace, which nobody will see: give them one, and isolate it again",
        "public.parents_email is unique across workspaces: each can find out what another has there",
        "public.parents_pkey is unique across workspaces: each can find out what another has there",
        (
            "public.children refers to public.parents by children_parent_id_fkey, and is not isolated:"
            " whoever writes there can find out what each workspace has"
        ),
    ]


def test_only_the_owner_of_the_schema_isolates(app, owner, database_url):
    with psycopg.connect(app) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("SELECT authz.isolate('public.kv_store_b9a572ea')")
    with psycopg.connect(database_url) as connection:
        connection.execute(f"SET ROLE {owner}".encode())
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT authz.isolate('public.kv_store_b9a572ea')")


def test_whoever_bypasses_row_security_is_not_bound(app, database_url):
    """A superuser, or a role with BYPASSRLS as Supabase's service_role: never the application's login."""
    assert len(rows(database_url, SELECT_VALUES)) == 4
    assert rows(database_url, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = %s", APP) == [
        (False,)
    ]
