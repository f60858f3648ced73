"""The database's own tests, the dump of its schema, and how our modules may talk to it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from sidecar.settings import shipped
from tests.postgres.schema_text import schema_text
from tests.postgres_server import rows, run

TESTS = sorted((shipped("sql") / "tests").glob("*.sql"))
STORE = Path(__file__).parent.parent.parent / "sidecar" / "store"


@pytest.mark.postgres
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_database_keeps_its_promises(database_url, path):
    run(database_url, path.read_text())


@pytest.mark.postgres
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_test_of_the_database_can_fail(database_url, path):
    """Its assertions are switched on, and one that is wrong is seen."""
    text = path.read_text()
    wrong = text.replace("\nROLLBACK;", "\nDO $$ BEGIN ASSERT false, 'seen'; END $$;\nROLLBACK;")

    assert wrong != text
    with pytest.raises(psycopg.errors.AssertFailure, match="seen"):
        run(database_url, wrong)


@pytest.mark.postgres
def test_the_dumped_schema_is_the_schema(database_url):
    """If it is not: `python -m tests.postgres.schema_text URL > sql/schema.sql` on a migrated database."""
    assert (shipped("sql") / "schema.sql").read_text() == schema_text(database_url)


@pytest.mark.postgres
def test_one_user_who_signs_up_many_times_at_once_has_one_workspace(fresh_database_url):
    def sign_up(_):
        run(fresh_database_url, "SELECT authz.create_default_workspace('twin', 'twin@example.com')")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sign_up, range(8)))

    assert rows(
        fresh_database_url, "SELECT count(*) FROM authz.workspace_memberships WHERE user_id = 'twin'"
    ) == [(1,)]


@pytest.mark.parametrize("path", sorted(STORE.glob("*.py")), ids=lambda path: path.stem)
def test_every_query_is_a_constant(path):
    """psycopg's LiteralString is not enforced by a type checker here, and no linter sees every f-string."""
    calls = re.findall(
        r"\b(?:execute|executemany|answer|_answer|_rows|_state_after)\(\s*([^,)\s]+)", path.read_text()
    )

    allowed = re.compile(r"[A-Z][A-Z_]*|self|query\b.*|connection|migration\.text\.encode\(|used|error")
    assert [argument for argument in calls if not allowed.fullmatch(argument)] == []
