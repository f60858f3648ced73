"""Migrations beside those who read and write for long: questions are answered meanwhile."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from click.testing import CliRunner

from sidecar.cli.migrate import command
from sidecar.errors import ConfigError, Interrupted, NotAsked
from sidecar.settings import shipped
from sidecar.store.apart import statements_in
from sidecar.store.migrate import migrate, migrations_in, released
from tests.postgres_server import rows, run
from tests.store.released import released_anew
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

MIGRATIONS = shipped("sql") / "migrations"
LAST = len(list(MIGRATIONS.glob("*.sql")))
READ_ALL = """
    DO $$ DECLARE name regclass; BEGIN
        FOR name IN SELECT oid FROM pg_class WHERE relnamespace = 'authz'::regnamespace AND relkind = 'r' LOOP
            EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', name);
        END LOOP;
    END $$
"""
APART = """\
-- For a test; which says so.
-- transaction: none

CREATE INDEX CONCURRENTLY outbox_test ON authz.outbox (kind, actor);
COMMENT ON INDEX authz.outbox_test IS 'For a test; it''s here.';
"""
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('authz.outbox_test')"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(MIGRATIONS, tmp_path / "migrations")


def migrated(url, folder, **options):
    return migrate(url, catalog=the_catalog(), revision="dev", migrations=folder, **options)


def with_file(folder, name, text):
    path = folder / f"{LAST + 1:04}_{name}.sql"
    path.write_text(text)
    return path.stem


@contextmanager
def held(url, *statements):
    """One open transaction of another session."""
    with psycopg.connect(url, application_name="pg_dump") as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


@contextmanager
def questions(url):
    """Asked one after the other; yields how many seconds each took."""
    took: list[float] = []
    ended = threading.Event()

    def ask():
        with psycopg.connect(url, autocommit=True) as connection:
            while not ended.is_set():
                began = time.monotonic()
                connection.execute("SELECT count(*) FROM authz.outbox")
                connection.execute("SELECT authz.facts('{adam}', '{acme}')")
                connection.execute("UPDATE authz.workspaces SET name = name WHERE slug = 'solo'")
                took.append(time.monotonic() - began)
                ended.wait(0.01)

    with ThreadPoolExecutor() as threads:
        asking = threads.submit(ask)
        try:
            yield took
        finally:
            ended.set()
            asking.result(30)


def test_questions_are_answered_while_a_migration_waits_for_a_dump_and_a_long_writer(
    fresh_database_url, folder
):
    name = with_file(
        folder,
        "alter_tables",
        "ALTER TABLE authz.workspaces ADD x text; ALTER TABLE authz.outbox ADD x text;",
    )
    heard: list[str] = []
    writer = "UPDATE authz.workspaces SET name = name WHERE slug = 'acme'"
    with questions(fresh_database_url) as took, ThreadPoolExecutor() as threads:
        with held(fresh_database_url, READ_ALL), held(fresh_database_url, writer):
            migrating = threads.submit(migrated, fresh_database_url, folder, says=heard.append)
            time.sleep(3)
            assert not migrating.done()
            while_waiting = list(took)
        assert migrating.result(30).applied == (name,)

    assert len(while_waiting) > 20
    assert max(while_waiting) < 1
    assert "(pid " in heard[0]
    assert "pg_dump, its transaction is " in heard[0]


def test_all_locks_are_had_before_the_first_statement(empty_database_url, folder):
    """Else a file holds its first tables while it waits for the last one, each time that it tries."""
    paths = sorted(folder.glob("*.sql"))
    while not released()[paths[-1].stem]["locks"]:
        paths.pop().unlink()
    last, text = paths[-1], paths[-1].read_text()
    last.unlink()
    migrated(empty_database_url, folder)
    # A sequence is not rolled back: it tells whether the file's first statement was reached.
    run(empty_database_url, "CREATE SEQUENCE public.attempts")
    last.write_text(f"SELECT nextval('public.attempts');\n{text}")
    table = max(released()[last.stem]["locks"])

    with held(empty_database_url, f"LOCK TABLE {table}"), pytest.raises(NotAsked):
        migrated(empty_database_url, folder, wait_s=1)

    assert rows(empty_database_url, "SELECT is_called FROM public.attempts") == [(False,)]
    assert migrated(empty_database_url, folder).applied == (last.stem,)


def test_a_publication_gives_way_to_who_holds_a_row_of_the_catalog(fresh_database_url, folder):
    with (
        questions(fresh_database_url) as took,
        held(fresh_database_url, "SELECT FROM authz.catalog FOR UPDATE"),
        pytest.raises(NotAsked, match="another session holds a lock"),
    ):
        migrate(fresh_database_url, catalog=the_catalog(), revision="next", migrations=folder, wait_s=2)

    assert max(took) < 1
    assert rows(fresh_database_url, "SELECT revision FROM authz.catalog") == [("dev",)]


def test_an_index_is_made_beside_writers_and_waits_for_old_transactions(fresh_database_url, folder):
    name = with_file(folder, "create_index", APART)
    with questions(fresh_database_url) as took, ThreadPoolExecutor() as threads:
        with held(
            fresh_database_url, "DELETE FROM authz.users WHERE false", "SELECT count(*) FROM authz.outbox"
        ):
            first = threads.submit(migrated, fresh_database_url, folder)
            second = threads.submit(migrated, fresh_database_url, folder)
            time.sleep(1)
        done = [first.result(30).applied, second.result(30).applied]

    assert sorted(done) == [(), (name,)]  # the second, which waits, is none of the old transactions
    assert max(took) < 1
    assert rows(fresh_database_url, IS_VALID) == [(True,)]


def test_a_file_without_a_transaction_goes_on_where_it_was_interrupted(fresh_database_url, folder):
    run(
        fresh_database_url,
        "CREATE TABLE authz.doubles (a integer)",
        "INSERT INTO authz.doubles VALUES (1), (1)",
    )
    name = with_file(
        folder,
        "create_unique_index",
        APART + "CREATE UNIQUE INDEX CONCURRENTLY doubles_a ON authz.doubles (a);\n",
    )
    with pytest.raises(Interrupted, match="could not create unique index"):
        migrated(fresh_database_url, folder)
    invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    assert rows(fresh_database_url, invalid) == [("authz.doubles_a",)]
    run(fresh_database_url, "TRUNCATE authz.doubles")

    assert migrated(fresh_database_url, folder).applied == (name,)
    assert rows(fresh_database_url, invalid) == []
    assert rows(fresh_database_url, "SELECT obj_description('authz.outbox_test'::regclass)") == [
        ("For a test; it's here.",)
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE authz.x ()",
        "CREATE INDEX x ON authz.outbox (kind)",
        "DROP INDEX CONCURRENTLY authz.x",
        "UPDATE authz.users SET email = 'a;b'",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS x ON authz.outbox (kind)",
    ],
)
def test_what_cannot_be_repeated_needs_a_transaction(folder, statement):
    with_file(folder, "do_both", f"{APART}\n-- why; indeed\n{statement};")

    with pytest.raises(ConfigError, match="must be repeatable, which this is not: " + statement[:10]):
        migrations_in(folder)


def test_statements_end_at_semicolons_outside_of_texts_and_comments():
    assert [each.split(" ")[0:3:2] for each in statements_in(APART)] == [
        ["CREATE", "CONCURRENTLY"],
        ["COMMENT", "INDEX"],
    ]


def test_a_released_file_never_changes_and_its_locks_are_listed(empty_database_url):
    """If not: restore the file. A new one: `make schema`."""
    assert released_anew(empty_database_url) == released()


def test_check_says_what_would_be_done_and_does_nothing(empty_database_url):
    arguments = ["--database-url", empty_database_url]

    before = CliRunner().invoke(command, [*arguments, "--check"])
    assert rows(empty_database_url, "SELECT to_regnamespace('authz')::text") == [(None,)]
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    after = CliRunner().invoke(command, [*arguments, "--check"])

    assert before.exit_code == 1
    assert before.output.startswith("would apply 0001_create_catalog\n")
    assert "would publish " in before.output
    assert (after.exit_code, after.output[:13]) == (0, "nothing to do")
