"""A store of workspaces, an application with a login of its own, and the seed's kv store under isolation."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sidecar.store.workspaces import WorkspaceStore
from tests.postgres_server import run

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = "authz_test_app"


@pytest.fixture(scope="module")
def store(database_url: str) -> Iterator[WorkspaceStore]:
    store = WorkspaceStore(database_url)
    store.open()
    yield store
    store.close()


@pytest.fixture(scope="module")
def app_url(database_url: str) -> Iterator[str]:
    """Of an ordinary login: in authz_app, and with every privilege on the kv store that can be granted."""
    run(
        database_url,
        f"DROP ROLE IF EXISTS {APP}",
        f"CREATE ROLE {APP} LOGIN PASSWORD 'app' IN ROLE authz_app",
        "CREATE TABLE kv_store_b9a572ea (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL)",
        f"GRANT ALL ON kv_store_b9a572ea TO {APP}",
        f"GRANT CREATE ON SCHEMA public TO {APP}",
        "SELECT authz.isolate('kv_store_b9a572ea')",
    )
    yield make_conninfo(database_url, user=APP, password="app")  # noqa: S106 - of a test's own role
    run(database_url, f"DROP OWNED BY {APP} CASCADE", f"DROP ROLE {APP}")


@pytest.fixture
def app(app_url: str, database_url: str) -> str:
    """The URL of the application; the kv store holds `plan` of acme, solo and piano, and `notes` of acme."""
    run(
        database_url,
        "TRUNCATE kv_store_b9a572ea",
        """INSERT INTO kv_store_b9a572ea (workspace_id, key, value)
        SELECT w.id, 'plan', to_jsonb('of ' || w.slug) FROM authz.workspaces AS w WHERE w.slug <> 'zoe'
        UNION ALL
        SELECT w.id, 'notes', '"of acme"' FROM authz.workspaces AS w WHERE w.slug = 'acme'""",
    )
    return app_url


@pytest.fixture
def x(app_url: str, database_url: str) -> Iterator[str]:
    """The URL of the application, and an empty schema `x` for its tables."""
    run(
        database_url,
        "CREATE EXTENSION IF NOT EXISTS btree_gist",
        "DROP SCHEMA IF EXISTS x CASCADE",
        "CREATE SCHEMA x",
        f"GRANT USAGE ON SCHEMA x TO {APP}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA x GRANT ALL ON TABLES TO {APP}",
    )
    yield app_url
    run(database_url, "DROP SCHEMA x CASCADE", "DROP EXTENSION IF EXISTS btree_gist")


def isolate(url: str, *tables: str) -> list[tuple[str, str]]:
    """What it warns of, each with its hint."""
    heard: list[tuple[str, str]] = []
    with psycopg.connect(url) as connection:
        connection.add_notice_handler(
            lambda notice: heard.append((notice.message_primary or "", notice.message_hint or ""))
        )
        for table in tables:
            connection.execute("SELECT authz.isolate(%s)", (table,))
    return heard


@contextmanager
def entered(url: str, user: str | None, workspace: object) -> Iterator[psycopg.Connection]:
    """One transaction of one session."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT authz.enter(%s, %s)", (user, workspace))
        yield connection


def values_in(connection: psycopg.Connection) -> list[str]:
    """Each ends in the slug of its workspace."""
    return [row[0] for row in connection.execute(SELECT_VALUES)]


SELECT_VALUES = "SELECT key || ' ' || (value #>> '{}') FROM public.kv_store_b9a572ea ORDER BY 1"
