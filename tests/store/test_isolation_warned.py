"""What `isolate` cannot rewrite: it refuses, or warns with the statement to run, and is silent after that."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.postgres_server import run
from tests.store.conftest import isolate

pytestmark = pytest.mark.postgres

T = "CREATE TABLE x.t (workspace_id uuid, key text NOT NULL, at int4range)"
F = "CREATE FUNCTION x.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
DEFINER = f"{F} SECURITY DEFINER"
PARENTS = "CREATE TABLE x.parents (workspace_id uuid, a text, b text, UNIQUE (a), UNIQUE (a, b))"

WARNED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "a table that refers to it": (
        ("CREATE TABLE x.t (id text PRIMARY KEY)", "CREATE TABLE x.c (of text REFERENCES x.t)"),
        "x.c refers to x.t by c_of_fkey, and is not isolated",
        "SELECT authz.isolate('x.c');",
    ),
    "a table that refers to it with the workspace": (
        (
            "CREATE TABLE x.t (workspace_id uuid, id text, PRIMARY KEY (workspace_id, id))",
            "CREATE TABLE x.c (workspace_id uuid, id text, FOREIGN KEY (workspace_id, id) REFERENCES x.t)",
        ),
        "x.c refers to x.t by c_workspace_id_id_fkey, and is not isolated",
        "SELECT authz.isolate('x.c');",
    ),
    "a partitioned table that refers to it": (
        (
            "CREATE TABLE x.t (id text PRIMARY KEY)",
            "CREATE TABLE x.c (of text REFERENCES x.t) PARTITION BY HASH (of)",
            "CREATE TABLE x.c1 PARTITION OF x.c FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        ),
        "x.c refers to x.t by c_of_fkey, and is not isolated",
        "ALTER TABLE x.c DROP CONSTRAINT c_of_fkey;",
    ),
    "a table that it refers to": (
        (
            "CREATE TABLE x.p (id text PRIMARY KEY)",
            "CREATE TABLE x.t (of text REFERENCES x.p ON DELETE CASCADE ON UPDATE CASCADE)",
        ),
        (
            "x.t refers by t_of_fkey to x.p, which is not isolated: to delete a row there deletes rows of all"
            " workspaces, to change its key changes them"
        ),
        "SELECT authz.isolate('x.p');",
    ),
    "a table whose rows it keeps": (
        ("CREATE TABLE x.p (id text PRIMARY KEY)", "CREATE TABLE x.t (of text REFERENCES x.p)"),
        "to delete a row there fails because of rows of all workspaces",
        "SELECT authz.isolate('x.p');",
    ),
    "an update that empties the columns": (
        (
            PARENTS,
            "CREATE TABLE x.t (of text REFERENCES x.parents (a) ON UPDATE SET NULL)",
            "SELECT authz.isolate('x.parents')",
        ),
        "x.t refers to x.parents by t_of_fkey without the workspace",
        "ALTER TABLE x.t DROP CONSTRAINT t_of_fkey;",
    ),
    "a full match of two columns": (
        (
            PARENTS,
            "CREATE TABLE x.t (a text, b text, FOREIGN KEY (a, b) REFERENCES x.parents (a, b) MATCH FULL)",
            "SELECT authz.isolate('x.parents')",
        ),
        "x.t refers to x.parents by t_a_b_fkey without the workspace",
        "ALTER TABLE x.t DROP CONSTRAINT t_a_b_fkey;",
    ),
    "rows that refer to another workspace": (
        (
            PARENTS,
            "CREATE TABLE x.t (workspace_id uuid, of text CONSTRAINT k REFERENCES x.parents (a))",
            "INSERT INTO x.parents SELECT id, 'p' FROM authz.workspaces WHERE slug = 'acme'",
            "INSERT INTO x.t SELECT id, 'p' FROM authz.workspaces WHERE slug = 'solo'",
            "SELECT authz.isolate('x.parents')",
        ),
        "k of x.t cannot be put within the workspace: ",
        "rows that refer to a row of another workspace",
    ),
    "an exclusion without an operator class": (
        (T, "DROP EXTENSION btree_gist", "ALTER TABLE x.t ADD CONSTRAINT k EXCLUDE USING gist (at WITH &&)"),
        "x.k excludes rows across workspaces: each can find out what another has there",
        "ALTER TABLE x.t DROP CONSTRAINT k,",
    ),
    "how to get the operator class": (
        (T, "DROP EXTENSION btree_gist", "ALTER TABLE x.t ADD CONSTRAINT k EXCLUDE USING gist (at WITH &&)"),
        "x.k cannot be put within the workspace: ",
        "CREATE EXTENSION IF NOT EXISTS btree_gist; SELECT authz.isolate('x.t');",
    ),
    "an exclusion by hash": (
        (T, "ALTER TABLE x.t ADD CONSTRAINT k EXCLUDE USING hash (key WITH =)"),
        "x.k cannot be put within the workspace: ",
        "btree or gist",
    ),
    "an exclusion of other workspaces": (
        (T, "ALTER TABLE x.t ADD CONSTRAINT k EXCLUDE USING gist (key WITH =, workspace_id WITH <>)"),
        "x.k excludes rows across workspaces",
        "ALTER TABLE x.t DROP CONSTRAINT k;",
    ),
    "a key that a view is grouped by": (
        (
            "CREATE TABLE x.t (id text CONSTRAINT k PRIMARY KEY, title text)",
            "CREATE VIEW x.v WITH (security_invoker) AS SELECT title FROM x.t GROUP BY id",
        ),
        "x.k cannot be put within the workspace: ",
        "Drop what depends on it",
    ),
    "a view of a superuser": (
        (T, "CREATE VIEW x.v AS SELECT key FROM x.t"),
        "the view x.v shows rows of x.t as ",
        "ALTER VIEW x.v SET (security_invoker = true);",
    ),
    "a view of a view": (
        (
            T,
            "CREATE VIEW x.v WITH (security_invoker = on) AS SELECT key FROM x.t",
            "CREATE VIEW x.w AS SELECT key FROM x.v",
        ),
        "the view x.w shows rows of x.t as ",
        "ALTER VIEW x.w SET (security_invoker = true);",
    ),
    "a materialized view": (
        (T, "CREATE MATERIALIZED VIEW x.m AS SELECT key FROM x.t"),
        "the materialized view x.m holds rows of x.t",
        "DROP MATERIALIZED VIEW x.m;",
    ),
    "a rule": (
        (
            T,
            "CREATE TABLE x.log (a text)",
            "CREATE RULE r AS ON INSERT TO x.t DO ALSO INSERT INTO x.log VALUES (new.key)",
        ),
        "the rule r of x.t writes with the rights of its owner",
        "DROP RULE r ON x.t;",
    ),
    "a trigger that may copy": (
        (T, F, "CREATE TRIGGER g AFTER INSERT ON x.t FOR EACH ROW EXECUTE FUNCTION x.f()"),
        "the trigger g of x.t hands its rows to x.f()",
        "DROP TRIGGER g ON x.t;",
    ),
    "a trigger that no policy binds": (
        (T, DEFINER, "CREATE TRIGGER g BEFORE INSERT ON x.t FOR EACH ROW EXECUTE FUNCTION x.f()"),
        "the trigger g of x.t runs x.f() as ",
        "ALTER FUNCTION x.f() SECURITY INVOKER;",
    ),
    "a publication": (
        (T, "CREATE TABLE x.u ()", "CREATE PUBLICATION realtime FOR TABLE x.t, x.u"),
        "x.t is in the publication realtime: subscribers get the rows of all workspaces",
        "ALTER PUBLICATION realtime DROP TABLE x.t;",
    ),
    "a publication of its schema": (
        (T, "CREATE PUBLICATION realtime FOR TABLES IN SCHEMA x"),
        "x.t is in the publication realtime",
        "ALTER PUBLICATION realtime DROP TABLES IN SCHEMA x;",
    ),
    "a publication of all": (
        (T, "CREATE PUBLICATION realtime FOR ALL TABLES"),
        "x.t is in the publication realtime",
        "DROP PUBLICATION realtime;",
    ),
}
NOT_WARNED = {
    "a key within the workspace": f"{T}; ALTER TABLE x.t ADD UNIQUE (key, workspace_id)",
    "an index that is not unique": f"{T}; CREATE INDEX ON x.t (key) INCLUDE (workspace_id)",
    "an exclusion within the workspace": f"{T};"
    " ALTER TABLE x.t ADD EXCLUDE USING gist (at WITH &&, workspace_id WITH =)",
    "a view as its invoker": f"{T}; CREATE VIEW x.v WITH (security_invoker) AS SELECT key FROM x.t",
    "a time of change": f"{T}; {F};"
    " CREATE TRIGGER g BEFORE UPDATE ON x.t FOR EACH ROW EXECUTE FUNCTION x.f()",
    "a trigger that is off": f"{T}; {F}; CREATE TRIGGER g AFTER UPDATE ON x.t EXECUTE FUNCTION x.f();"
    " ALTER TABLE x.t DISABLE TRIGGER g",
    "a publication of others": f"{T}; CREATE TABLE x.u (); CREATE PUBLICATION realtime FOR TABLE x.u",
}
REFUSED = {
    "a partition": "CREATE TABLE x.p (workspace_id uuid) PARTITION BY HASH (workspace_id);"
    " CREATE TABLE x.t PARTITION OF x.p FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    "a generated workspace": "CREATE TABLE x.t (of uuid, workspace_id uuid GENERATED ALWAYS AS (of) STORED)",
}


@pytest.mark.parametrize(("made", "says", "fix"), WARNED.values(), ids=WARNED)
def test_it_warns_of_what_it_cannot_rewrite_and_says_what_to_run(x, database_url, made, says, fix):
    run(database_url, *made)
    try:
        heard = isolate(database_url, "x.t")
    finally:
        run(database_url, "DROP PUBLICATION IF EXISTS realtime")

    assert [hint for message, hint in heard if says in message and fix in hint], heard
    assert all(hint for _, hint in heard), heard


@pytest.mark.parametrize("name", [name for name in WARNED if WARNED[name][2].endswith(";")])
def test_it_is_silent_of_what_was_done_as_it_said(x, database_url, name):
    made, says, fix = WARNED[name]
    run(database_url, *made)
    try:
        [hint] = [hint for message, hint in isolate(database_url, "x.t") if says in message]
        assert fix in hint
        run(database_url, *fix.rstrip(";").split("; "))
        again = isolate(database_url, "x.t")
    finally:
        run(database_url, "DROP PUBLICATION IF EXISTS realtime")

    assert [message for message, _ in again if says in message] == []


@pytest.mark.parametrize("made", NOT_WARNED.values(), ids=NOT_WARNED)
def test_it_is_silent_where_nothing_is_told(x, database_url, made):
    run(database_url, made)
    try:
        assert isolate(database_url, "x.t") == []
    finally:
        run(database_url, "DROP PUBLICATION IF EXISTS realtime")


@pytest.mark.parametrize("made", REFUSED.values(), ids=REFUSED)
def test_it_refuses_what_cannot_be_isolated(x, database_url, made):
    run(database_url, made)

    with (
        psycopg.connect(database_url) as connection,
        pytest.raises((errors.WrongObjectType, errors.DatatypeMismatch)) as refused,
    ):
        connection.execute("SELECT authz.isolate('x.t')")
    assert "x.t" in (refused.value.diag.message_primary or "")
