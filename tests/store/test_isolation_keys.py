"""What compares rows past all policies: each kind leaks between workspaces before `isolate`, not after."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors, sql

from tests.postgres_server import rows, run
from tests.store.conftest import APP, isolate
from tests.store.isolated_keys import DEFINITION, Key, both, does

pytestmark = pytest.mark.postgres

FIELDS = "workspace_id uuid REFERENCES authz.workspaces (id), key text NOT NULL, value text, at int4range"


def in_table(definition: str, becomes: str) -> Key:
    return Key(made=(f"CREATE TABLE x.t ({FIELDS}, CONSTRAINT k {definition})",), becomes=becomes)


def with_index(definition: str, becomes: str) -> Key:
    return Key(
        made=(f"CREATE TABLE x.t ({FIELDS})", f"CREATE UNIQUE INDEX k ON x.t USING btree {definition}"),
        becomes=f"CREATE UNIQUE INDEX k ON x.t USING btree {becomes}",
    )


KEYS = {
    "primary key": in_table("PRIMARY KEY (key)", "PRIMARY KEY (workspace_id, key)"),
    "unique constraint": in_table("UNIQUE (key) DEFERRABLE", "UNIQUE (workspace_id, key) DEFERRABLE"),
    "constraint that includes the workspace": in_table(
        "UNIQUE (key) INCLUDE (workspace_id)", "UNIQUE (workspace_id, key) INCLUDE (workspace_id)"
    ),
    "unique without a value": in_table(
        "UNIQUE NULLS NOT DISTINCT (value)", "UNIQUE NULLS NOT DISTINCT (workspace_id, value)"
    ),
    "exclusion of equal keys": in_table(
        "EXCLUDE USING btree (key WITH =)", "EXCLUDE USING btree (workspace_id WITH =, key WITH =)"
    ),
    "exclusion of overlaps in part": in_table(
        "EXCLUDE USING gist (at WITH &&) WHERE (key <> '')",
        "EXCLUDE USING gist (workspace_id WITH =, at WITH &&) WHERE ((key <> ''::text))",
    ),
    "exclusion that includes the workspace": in_table(
        "EXCLUDE USING gist (at WITH &&) INCLUDE (workspace_id)",
        "EXCLUDE USING gist (workspace_id WITH =, at WITH &&) INCLUDE (workspace_id)",
    ),
    "unique index": with_index("(key)", "(workspace_id, key)"),
    "partial index": with_index("(key) WHERE key <> ''", "(workspace_id, key) WHERE (key <> ''::text)"),
    "index on an expression": with_index("(lower(key))", "(workspace_id, lower(key))"),
    "index that includes the workspace": with_index(
        "(key) INCLUDE (workspace_id)", "(workspace_id, key) INCLUDE (workspace_id)"
    ),
    "index in an order of its own": with_index(
        "(key COLLATE \"C\" text_pattern_ops DESC NULLS LAST) WITH (fillfactor='70')",
        "(workspace_id, key COLLATE \"C\" text_pattern_ops DESC NULLS LAST) WITH (fillfactor='70')",
    ),
    "unique generated column": Key(
        made=(
            (
                f"CREATE TABLE x.t ({FIELDS}, low text GENERATED ALWAYS AS (lower(key)) STORED"
                " CONSTRAINT k UNIQUE)"
            ),
        ),
        becomes="UNIQUE (workspace_id, low)",
    ),
}


REFUSED = (errors.UniqueViolation, errors.ExclusionViolation)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_that_told_of_other_workspaces_tells_no_more(x, database_url, key):
    run(database_url, *key.made)
    with pytest.raises(REFUSED):
        both(database_url, key, enters=False)
    run(database_url, "TRUNCATE x.t")

    assert isolate(database_url, *key.tables) == []
    assert rows(database_url, DEFINITION) == [(key.becomes,)]
    assert isolate(database_url, *key.tables) == []
    assert rows(database_url, DEFINITION) == [(key.becomes,)]
    both(x, key, enters=True)
    with pytest.raises(REFUSED):  # within the workspace it is what it was
        does(x, "sam", "solo", key.second, enters=True)


def test_what_goes_with_a_key_stays_with_it(x, database_url):
    run(
        database_url,
        f"CREATE TABLE x.t ({FIELDS}, CONSTRAINT p PRIMARY KEY (key))",
        "CREATE UNIQUE INDEX k ON x.t (key)",
        "COMMENT ON CONSTRAINT p ON x.t IS 'it''s a key'",
        "COMMENT ON INDEX x.k IS 'an index'",
        "ALTER TABLE x.t REPLICA IDENTITY USING INDEX k, CLUSTER ON p",
    )
    assert isolate(database_url, "x.t") == []

    kept = """
        SELECT obj_description(c.oid), obj_description('x.k'::regclass, 'pg_class'),
            k.indisreplident, p.indisclustered
        FROM pg_index AS k, pg_index AS p JOIN pg_constraint AS c ON c.conindid = p.indexrelid
        WHERE k.indexrelid = 'x.k'::regclass AND p.indexrelid = 'x.p'::regclass
    """
    assert rows(database_url, kept) == [("it's a key", "an index", True, True)]


def test_names_that_need_quotes_are_no_obstacle(x, database_url):
    run(
        database_url,
        'CREATE TABLE x."A (b" ("K (y" text PRIMARY KEY, "Up" text REFERENCES x."A (b" ON DELETE SET NULL)',
        'CREATE UNIQUE INDEX "I USING btree (" ON x."A (b" (lower("K (y"))',
    )

    assert isolate(database_url, 'x."A (b"') == []
    indexes = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'x.\"A (b\"'::regclass"
    assert all("(workspace_id, " in definition for (definition,) in rows(database_url, indexes))


def test_the_numbers_of_a_sequence_cannot_be_set_back(x, database_url):
    run(
        database_url,
        "CREATE TABLE x.t (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY)",
        f"GRANT ALL ON SEQUENCE x.t_id_seq TO {APP}",
    )
    again = "SELECT setval('x.t_id_seq', 1)"
    rows(x, again)
    isolate(database_url, "x.t")

    with pytest.raises(errors.InsufficientPrivilege):
        rows(x, again)
    assert rows(x, "SELECT nextval('x.t_id_seq')") == [(2,)]


def test_a_right_that_was_passed_on_is_revoked_with_the_first(x, database_url):
    run(
        database_url,
        "CREATE TABLE x.t (key text)",
        f"GRANT ALL ON x.t TO {APP} WITH GRANT OPTION",
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(APP)))
        connection.execute("GRANT TRUNCATE ON x.t TO authz_sidecar")
    isolate(database_url, "x.t")

    holds = "SELECT has_table_privilege('authz_sidecar', 'x.t', 'TRUNCATE')"
    assert rows(database_url, holds) == [(False,)]
