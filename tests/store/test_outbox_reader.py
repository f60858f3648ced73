"""A login that reads the outbox, with the three grants of docs/database.md: what it may, and what stays."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.postgres_server import run
from tests.store.test_contract import may, migrated, roles, says

pytestmark = pytest.mark.postgres

READER = "authz_test_outbox_reader"
GRANTS = (
    f"GRANT USAGE ON SCHEMA authz TO {READER}",
    f"GRANT SELECT ON authz.outbox TO {READER}",
    f"GRANT EXECUTE ON FUNCTION authz.current_epoch TO {READER}",
)
CHANGES = (
    "INSERT INTO authz.outbox (workspace_id, kind, data) VALUES (gen_random_uuid(), 'member.joined', '{}')",
    "UPDATE authz.outbox SET actor = 'nobody'",
    "DELETE FROM authz.outbox",
    "TRUNCATE authz.outbox",
    "SELECT authz.prune_history(now())",
)


def test_a_reader_of_the_outbox_reads_it_and_nothing_else(fresh_database_url):
    with roles(fresh_database_url, READER):
        run(fresh_database_url, *GRANTS)

        assert says(fresh_database_url) == []
        assert migrated(fresh_database_url).repaired == ()
        assert may(fresh_database_url, READER) == [
            "authz.outbox",
            "authz.current_epoch()",
            "usage of the schema",
        ]
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute(f"SET ROLE {READER}".encode())
            assert connection.execute("SELECT count(*) > 0 FROM authz.outbox").fetchone() == (True,)
            for change in CHANGES:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(change.encode())


@pytest.mark.parametrize(
    "more",
    [
        f"GRANT SELECT ON authz.users TO {READER}",
        f"GRANT INSERT ON authz.outbox TO {READER}",
        f"GRANT EXECUTE ON FUNCTION authz.forget_users TO {READER}",
        f"GRANT SELECT ON authz.outbox TO {READER} WITH GRANT OPTION",
        f"REVOKE SELECT ON authz.outbox FROM {READER}",
    ],
)
def test_whoever_has_more_than_a_reader_needs_loses_all_of_it(fresh_database_url, more):
    """As default privileges or a GRANT on all tables would have given it."""
    with roles(fresh_database_url, READER):
        run(fresh_database_url, *GRANTS, more)

        assert migrated(fresh_database_url).repaired != ()
        assert may(fresh_database_url, READER) == []


def test_the_outbox_is_not_for_everybody(fresh_database_url):
    run(fresh_database_url, *(grant.replace(READER, "PUBLIC") for grant in GRANTS))

    assert len(migrated(fresh_database_url).repaired) == len(GRANTS)
