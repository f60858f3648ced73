"""The database's own tests, and how our modules may talk to it."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from sidecar.settings import shipped
from tests.postgres_server import run

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


@pytest.mark.parametrize("path", sorted(STORE.glob("*.py")), ids=lambda path: path.stem)
def test_every_query_is_a_constant(path):
    """psycopg's LiteralString is not enforced by a type checker here, and no linter sees every f-string."""
    text = path.read_text()
    calls = re.findall(r"\b(?<!loop\.)(?:execute|executemany|answer|_answer|_rows)\(\s*([^,)\s]+)", text)

    # What is `.encode`d is of our files, or has a name as the catalogs quote it: no parameter can be one.
    allowed = re.compile(
        r"[A-Z][A-Z_]*|self|query\b.*|connection|(migration\.text|statement|dropping)\.encode\(|used|error|setup\.first_statements|asked(\.query)?"
    )
    assert [argument for argument in calls if not allowed.fullmatch(argument)] == []
    # What goes by `ask` is a Query: its text is a literal, or that of another with a setting before it.
    texts = re.findall(r"\bsql=([^\s,)]+)", text)
    assert [
        sql
        for sql in texts
        if not sql.startswith('b"') and sql not in {"query.sql", "TAKE.sql", "CONSUME.sql"}
    ] == []
