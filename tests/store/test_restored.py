"""`sidecar migrate` after a restore into another cluster: of an older dump, and without roles."""

from __future__ import annotations

import os
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest

from sidecar.errors import ConfigError
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.settings import shipped
from sidecar.store.contract import GROUPS
from sidecar.store.migrate import migrate
from sidecar.store.pending import pending
from tests.pages import postgres_binaries
from tests.postgres_server import a_server_folder, rows, run, url_of
from tests.store.test_epochs import MANY_TRANSACTIONS, MAY_TAKE, NEW, Reader
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

CATALOG = the_catalog()
BEFORE_EPOCHS = 53
FOR_ALL = """
    SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = 'authz'::regnamespace
    AND p.proname = 'set_plan' AND has_function_privilege('reads_nothing', p.oid, 'EXECUTE')
"""


@pytest.fixture(scope="module")
def another():
    """A second cluster, without roles of ours."""
    with a_server_folder() as folder, EmbeddedPostgres(folder) as server:
        yield server.url


def restored(old, new, *, owner="postgres"):
    """The URL of *old* restored in the cluster *new*, by *owner*, whatever could not be granted."""
    run(
        new,
        "DROP DATABASE IF EXISTS moved WITH (FORCE)",
        *(f"DROP ROLE IF EXISTS {group}" for group in GROUPS),
    )
    run(new, f"CREATE DATABASE moved OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'")
    parts = urlsplit(url_of(new, "moved"))
    target = parts._replace(netloc=parts.netloc.replace("postgres@", f"{owner}@")).geturl()
    script = 'pg_dump --format=custom "$OLD" | pg_restore --no-owner --dbname="$NEW"'
    environment = os.environ | {
        "PATH": f"{postgres_binaries()}:{os.environ['PATH']}",
        "OLD": old,
        "NEW": target,
    }
    subprocess.run(["bash", "-c", script], check=False, capture_output=True, env=environment, timeout=60)
    return target


def test_roles_that_the_new_cluster_lacks_are_made_and_granted_what_they_need(fresh_database_url, another):
    new = restored(fresh_database_url, another)
    run(new, "DROP ROLE IF EXISTS reads_nothing", "CREATE ROLE reads_nothing")
    before = pending(new, revision="dev").findings

    migrated = migrate(new, catalog=CATALOG, revision="dev")

    assert [each for each in before if "the cluster lacks the role" in each] == [
        f"the cluster lacks the role {group}, which no dump has: sidecar migrate makes it,"
        f" or as a superuser: CREATE ROLE {group} NOLOGIN"
        for group in GROUPS
    ]
    assert not [each for each in before if "authz_app lacks" in each]
    assert migrated.repaired[:3] == tuple(f"CREATE ROLE {group} NOLOGIN" for group in GROUPS)
    assert migrated.findings == ()
    assert rows(new, MAY_TAKE) == [(True,)]
    assert rows(new, FOR_ALL) == [(0,)]


def test_a_login_that_may_make_no_roles_says_what_a_superuser_has_to_run(fresh_database_url, another):
    run(another, "DROP DATABASE IF EXISTS moved WITH (FORCE)")
    run(another, "DROP ROLE IF EXISTS restores", "CREATE ROLE restores LOGIN")
    new = restored(fresh_database_url, another, owner="restores")

    with pytest.raises(ConfigError) as refused:
        migrate(new, catalog=CATALOG, revision="dev")

    assert "the cluster lacks the roles authz_app, authz_audit, authz_sidecar" in refused.value.detail
    _, _, statements = refused.value.detail.partition("as a superuser: ")
    run(another, *statements.partition("; then")[0].split("; "))
    assert migrate(new, catalog=CATALOG, revision="dev").findings == ()


def test_an_older_dump_of_a_cluster_with_higher_numbers_ends_its_epoch(empty_database_url, another, tmp_path):
    older = tmp_path / "migrations"
    older.mkdir()
    for path in sorted((shipped("sql") / "migrations").glob("*.sql"))[:BEFORE_EPOCHS]:
        shutil.copy(path, older)
    migrate(empty_database_url, catalog=CATALOG, revision="dev", migrations=older)
    run(empty_database_url, MANY_TRANSACTIONS, NEW.format("old"))
    new = restored(empty_database_url, another)

    migrated = migrate(new, catalog=CATALOG, revision="dev")

    assert migrated.applied[0].startswith(f"{BEFORE_EPOCHS + 1:04}_")
    [warning] = [each for each in migrated.warnings if "epoch" in each]
    assert "this is another cluster or timeline than the one that wrote last" in warning
    assert "epoch 2" in warning
    reader = Reader()
    assert reader.read(new) == ["old"]
    run(new, NEW.format("after"))
    assert reader.read(new) == ["after"]


def test_of_a_database_that_has_not_moved_nothing_is_said(fresh_database_url):
    migrated = migrate(fresh_database_url, catalog=CATALOG, revision="dev")

    assert (migrated.warnings, migrated.repaired) == ((), ())
