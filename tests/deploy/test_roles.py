"""deploy/postgres/roles.sql on a cluster of its own: both logins suffice, and neither is a superuser."""

from __future__ import annotations

import psycopg
import pytest

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts
from sidecar.store.world import load
from tests.deploy.manifests import ROOT
from tests.postgres_server import DEMO_WORLD, a_server_folder, rows, run, url_of

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SQL = (ROOT / "deploy/postgres/roles.sql").read_text()


@pytest.fixture(scope="module")
def superuser():
    with a_server_folder() as folder, EmbeddedPostgres(folder) as server:
        run(server.url, "CREATE DATABASE app ENCODING 'UTF8' TEMPLATE template0")
        url = url_of(server.url, "app")
        run(url, SQL)
        yield url


def as_login(superuser, name):
    return superuser.replace("//postgres@", f"//{name}@")


def test_the_owner_migrates_and_the_sidecar_reads_facts_and_no_more(superuser):
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    migrated = migrate(as_login(superuser, "owner"), catalog=compiled.catalog, revision=compiled.revision)
    load(as_login(superuser, "owner"), DEMO_WORLD)
    serving = as_login(superuser, "sidecar")
    store = PostgresFacts(serving, catalog=compiled.catalog, pool_size=1)
    store.open()
    store.close()

    assert migrated.findings == ()
    assert rows(serving, "SELECT authz.catalog_revision()") == [(compiled.revision,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(serving, "SELECT * FROM authz.workspaces")


def test_no_login_is_a_superuser_or_makes_others(superuser):
    found = rows(
        superuser,
        "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication"
        " FROM pg_roles WHERE rolname IN ('owner', 'sidecar') ORDER BY 1",
    )

    assert found == [("owner", False), ("sidecar", False)]
