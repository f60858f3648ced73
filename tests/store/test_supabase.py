"""A database as Supabase has it: users in auth.users, the roles of its API, an owner who is no superuser."""

from __future__ import annotations

import json
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Json

from sidecar.store.migrate import migrate
from tests.identity.provider import a_token
from tests.postgres_server import rows, run
from tests.store.conftest import SELECT_VALUES
from tests.values import the_catalog
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres

OWNER = "authz_test_supabase"  # as its `postgres`: may make roles and bypasses row security
ROLES = {
    "anon": "NOLOGIN",
    "authenticated": "NOLOGIN",
    "service_role": "NOLOGIN BYPASSRLS",
    "supabase_auth_admin": "NOLOGIN CREATEROLE",
    OWNER: "NOLOGIN CREATEROLE BYPASSRLS",
}
SHAPE = f"""
    CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, {OWNER};
    CREATE TABLE auth.users (id uuid NOT NULL PRIMARY KEY, email varchar(255));
    ALTER TABLE auth.users OWNER TO supabase_auth_admin;
    GRANT ALL ON auth.users TO {OWNER};
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
    RETURN (NULLIF(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;
    GRANT USAGE, CREATE ON SCHEMA public TO {OWNER};
    GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
        GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
        GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
"""
API_ROLES = ("anon", "authenticated", "service_role")
# As docs/isolation.md shows it: the API calls it before each request, in the transaction of the request.
PRE_REQUEST = """
    CREATE FUNCTION public.enter_workspace() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        workspace CONSTANT text := current_setting('request.headers', true)::json ->> 'x-workspace-id';
    BEGIN
        IF workspace IS NOT NULL THEN
            PERFORM authz.enter(auth.uid()::text, workspace);
        END IF;
    END;
    $$;
    REVOKE ALL ON FUNCTION public.enter_workspace FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.enter_workspace TO anon, authenticated;
    GRANT USAGE ON SCHEMA authz TO authenticated;
    GRANT EXECUTE ON FUNCTION authz.entered_workspace, authz.claimed_workspace TO authenticated
"""


@pytest.fixture(scope="module")
def roles(postgres_server):
    """Those that this server does not have yet, for as long as these tests run."""
    there = {name for (name,) in rows(postgres_server, "SELECT rolname FROM pg_roles")}
    made = [name for name in ROLES if name not in there]
    for name in made:
        run(postgres_server, f"CREATE ROLE {name} {ROLES[name]}")
    yield
    for name in made:
        run(postgres_server, f"DROP ROLE {name}")


@pytest.fixture
def url(roles, empty_database_url):
    """Migrated by its owner, with an isolated kv store, and with nobody signed up yet."""
    database = psycopg.conninfo.conninfo_to_dict(empty_database_url)["dbname"]
    run(
        empty_database_url,
        f"GRANT CREATE ON DATABASE {database} TO {OWNER}",
        # So that they may grant what they did not make: elsewhere on this server somebody has.
        "DO $$ BEGIN CREATE ROLE authz_sidecar NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "DO $$ BEGIN CREATE ROLE authz_app NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        SHAPE,
    )
    separator = "&" if "?" in empty_database_url else "?"
    migrate(
        f"{empty_database_url}{separator}options=-c%20role%3D{OWNER}", catalog=the_catalog(), revision="dev"
    )
    with as_role(empty_database_url, OWNER) as connection:
        connection.execute("CREATE TABLE kv_store_b9a572ea (key text PRIMARY KEY, value jsonb)")
        connection.execute("SELECT authz.isolate('kv_store_b9a572ea')")
    yield empty_database_url
    run(empty_database_url, *(f"DROP OWNED BY {name} CASCADE" for name in ROLES if name != "postgres"))


@contextmanager
def as_role(url, role, *, user=None, workspace=None):
    """A transaction as the API makes it: the role, the claims and the headers are set first."""
    with psycopg.connect(url) as connection:
        connection.execute(f"SET LOCAL ROLE {role}".encode())
        connection.execute(
            "SELECT set_config('request.jwt.claims', %s, true), set_config('request.headers', %s, true)",
            (
                json.dumps({"sub": str(user)} if user else {}),
                json.dumps({"x-workspace-id": workspace} if workspace else {}),
            ),
        )
        yield connection


def signed_up(url, email="zoe@example.com"):
    user = uuid4()
    with as_role(url, "supabase_auth_admin") as connection:
        connection.execute("INSERT INTO auth.users (id, email) VALUES (%s, %s)", (user, email))
    return user


def slug_of(url, user):
    [(slug,)] = rows(url, "SELECT slug FROM authz.get_user_workspaces(%s)", str(user))
    return slug


def test_a_signup_makes_a_workspace_in_its_transaction(url):
    user = signed_up(url)

    assert rows(url, "SELECT name, plan_tier, role FROM authz.get_user_workspaces(%s)", str(user)) == [
        ("zoe", "starter", "owner")
    ]
    with as_role(url, "supabase_auth_admin") as connection:
        other = uuid4()
        connection.execute("INSERT INTO auth.users (id, email) VALUES (%s, NULL)", (other,))
        connection.rollback()
    assert rows(url, "SELECT * FROM authz.get_user_workspaces(%s)", str(other)) == []


def test_a_signup_outlives_our_trouble_and_those_from_before_are_made_up_for(url):
    run(url, "DELETE FROM authz.catalog")
    user = signed_up(url)
    run(url, "INSERT INTO authz.catalog VALUES (true, 'dev', 'starter')")
    assert rows(url, "SELECT * FROM authz.get_user_workspaces(%s)", str(user)) == []

    rows(url, "SELECT authz.create_default_workspace(u.id::text, u.email) FROM auth.users AS u")

    assert [row[:1] for row in rows(url, "SELECT name FROM authz.get_user_workspaces(%s)", str(user))] == [
        ("zoe",)
    ]


def test_deleting_a_user_hands_over_what_they_owned_or_removes_it(url):
    ann, bob = signed_up(url, "ann@example.com"), signed_up(url, "bob@example.com")
    rows(
        url,
        """INSERT INTO authz.workspace_memberships
        SELECT id, %s, 'member' FROM authz.workspaces WHERE name = 'ann'""",
        str(bob),
    )
    with as_role(url, "supabase_auth_admin") as connection:
        connection.execute("DELETE FROM auth.users WHERE id = %s", (ann,))
    assert rows(url, "SELECT name, role FROM authz.get_user_workspaces(%s)", str(bob)) == [
        ("ann", "owner"),
        ("bob", "owner"),
    ]

    with as_role(url, "supabase_auth_admin") as connection:
        connection.execute("DELETE FROM auth.users")
    assert rows(url, "SELECT FROM authz.workspaces") == []


def at_gateway(stage, user, workspace):
    headers = {
        "Authorization": f"Bearer {a_token(sub=str(user), iss=None)}",
        "X-Original-Method": "GET",
        "X-Original-URI": f"/workspaces/{workspace}/analytics",
    }
    answer = stage.client.get("/gw/haproxy", headers=headers, environ_base={"REMOTE_ADDR": "127.0.0.1"})
    return answer.status_code, answer.json["code"]


def test_whoever_is_not_in_auth_users_is_nobody_though_they_have_a_token_and_a_membership(url):
    ann, nobody = signed_up(url, "ann@example.com"), uuid4()
    shop = slug_of(url, ann)
    for user in (str(nobody), "max"):
        rows(
            url,
            """INSERT INTO authz.workspace_memberships
            SELECT id, %s, 'admin' FROM authz.workspaces WHERE slug = %s""",
            user,
            shop,
        )

    with a_people_stage(url) as stage:
        assert stage.get(str(ann), f"/workspaces/{shop}").status_code == 200
        assert at_gateway(stage, ann, shop) == (402, "feature_not_in_plan")
        for user in (str(nobody), "max", str(uuid4())):
            assert stage.get(user, "/workspaces").status_code == 401
            assert stage.get(user, f"/workspaces/{shop}").status_code == 401
            assert at_gateway(stage, user, shop) == (401, "user_unauthenticated")
        assert rows(url, "SELECT id FROM authz.users") == [(str(ann),)]

        with as_role(url, "supabase_auth_admin") as connection:
            connection.execute("DELETE FROM auth.users WHERE id = %s", (ann,))
        assert stage.get(str(ann), "/workspaces").status_code == 401
        assert at_gateway(stage, ann, shop) == (401, "user_unauthenticated")
        rows(url, "INSERT INTO authz.users (id) VALUES (%s)", str(ann))  # who exists, auth.users alone says
        assert stage.get(str(ann), "/workspaces").status_code == 401


def test_a_user_who_is_deleted_softly_is_nobody(empty_database_url):
    run(
        empty_database_url,
        "CREATE SCHEMA auth",
        "CREATE TABLE auth.users (id uuid PRIMARY KEY, email text, deleted_at timestamptz)",
    )
    migrate(empty_database_url, catalog=the_catalog(), revision="dev")
    user = uuid4()
    rows(empty_database_url, "INSERT INTO auth.users (id) VALUES (%s)", user)
    assert rows(empty_database_url, "SELECT authz.standing_of(%s)", str(user)) == [("member",)]

    rows(empty_database_url, "UPDATE auth.users SET deleted_at = now()")

    assert rows(empty_database_url, "SELECT authz.standing_of(%s)", str(user)) == [("nobody",)]


@pytest.mark.parametrize("role", API_ROLES)
def test_the_roles_of_the_api_can_neither_read_nor_execute_anything_of_authz(url, role):
    signed_up(url)
    tables = rows(
        url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'authz'::regnamespace AND relkind IN ('r', 'v')",
    )
    functions = rows(
        url,
        """SELECT format('authz.%I(%s)', p.proname, array_to_string(
            array(SELECT format('NULL::%s', format_type(t, NULL)) FROM unnest(p.proargtypes) AS t), ', '
        )) FROM pg_proc AS p WHERE p.pronamespace = 'authz'::regnamespace""",
    )
    assert len(tables) > 10
    assert len(functions) > 20

    for statement in [f"TABLE authz.{name}" for (name,) in tables] + [
        f"SELECT {call}" for (call,) in functions
    ]:
        with as_role(url, role) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())
    assert (
        rows(
            url,
            """SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = 'authz'::regnamespace AND has_function_privilege(%s, p.oid, 'EXECUTE')""",
            role,
        )
        == []
    )


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_an_isolated_table_is_closed_to_the_api_until_it_is_let_in(url, role):
    for statement in (
        SELECT_VALUES,
        "INSERT INTO kv_store_b9a572ea VALUES ('x', '1')",
        "TRUNCATE kv_store_b9a572ea",
    ):
        with as_role(url, role, user=uuid4()) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_through_the_api_a_user_is_in_the_workspace_that_they_name_and_is_a_member_of(url):
    with as_role(url, OWNER) as connection:
        connection.execute(PRE_REQUEST.encode())
    ann, bob = signed_up(url, "ann@example.com"), signed_up(url, "bob@example.com")
    of_ann, of_bob = slug_of(url, ann), slug_of(url, bob)
    for user, workspace in ((ann, of_ann), (bob, of_bob)):
        with as_role(url, "authenticated", user=user, workspace=workspace) as connection:
            connection.execute("SELECT public.enter_workspace()")
            connection.execute(
                "INSERT INTO kv_store_b9a572ea (key, value) VALUES ('plan', %s)", (Json(workspace),)
            )
            assert connection.execute(SELECT_VALUES).fetchall() == [(f"plan {workspace}",)]

    for role, user in (("authenticated", ann), ("anon", None)):
        with (
            as_role(url, role, user=user, workspace=of_bob) as connection,
            pytest.raises(errors.InsufficientPrivilege, match="not a member of this workspace"),
        ):
            connection.execute("SELECT public.enter_workspace()")
    with as_role(url, "authenticated", user=ann) as connection:
        connection.execute("SELECT public.enter_workspace()")
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.execute(SELECT_VALUES)
    with (
        as_role(url, "authenticated", user=ann, workspace=of_ann) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT authz.enter(%s, %s)", (str(bob), of_bob))


def test_the_service_role_bypasses_all_of_it(url):
    """The limit that docs/isolation.md states."""
    signed_up(url)
    rows(
        url,
        """INSERT INTO kv_store_b9a572ea (workspace_id, key, value)
        SELECT id, 'plan', '1' FROM authz.workspaces""",
    )

    with as_role(url, "service_role") as connection:
        assert connection.execute(SELECT_VALUES).fetchall() == [("plan 1",)]


def test_auditors_are_told_who_exists_and_their_addresses(url):
    ann, bob = signed_up(url, "ann@example.com"), signed_up(url, "bob@example.com")
    strangers = ["nobody", str(uuid4()), str(bob).upper()]
    rows(
        url,
        """INSERT INTO authz.workspace_memberships
        SELECT w.id, u.id, 'member' FROM authz.workspaces AS w, unnest(%s::text[]) AS u (id)
        WHERE w.name = 'ann'""",
        [str(bob), *strangers],
    )
    [(workspace,)] = rows(url, "SELECT id FROM authz.workspaces WHERE name = 'ann'")

    for of in (None, workspace):
        [(members,)] = rows(url, "SELECT members FROM authz.people(%s) WHERE name = 'ann'", of)
        assert {each["user"]: (each["exists"], each["email"]) for each in members} == {
            str(ann): (True, "ann@example.com"),
            str(bob): (True, "bob@example.com"),
            **dict.fromkeys(strangers, (False, None)),
        }
    assert rows(url, "SELECT sum(people)::integer FROM authz.audience()") == [(3,)]
