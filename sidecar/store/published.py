"""What was published when, and its files, as an auditor reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import psycopg

PUBLISHED = """
    SELECT id, published_at, login, revision, catalog, version
    FROM authz.published(COALESCE(%s, clock_timestamp()))
"""
PUBLICATIONS = "SELECT id, at, login, revision, catalog, version FROM authz.publications(%s, %s)"
KEPT = """
    SELECT id, published_at, login, %(revision)s, catalog, version, plans, bundle
    FROM authz.kept(%(revision)s)
"""
KNOWN_SINCE = "SELECT authz.known_since()"


@dataclass(frozen=True, slots=True)
class Publication:
    """*catalog* is the SHA-256 of plans.yaml, in hexadecimal digits; *version* that of the sidecar."""

    id: int
    at: datetime
    login: str
    revision: str
    catalog: str
    version: str


@dataclass(frozen=True, slots=True)
class Kept:
    publication: Publication
    plans: bytes
    bundle: bytes


def published(connection: psycopg.Connection, at: datetime | None) -> Publication | None:
    """The last one by *at*, or by now."""
    row = connection.execute(PUBLISHED, (at,)).fetchone()
    return Publication(*row) if row else None


def publications(
    connection: psycopg.Connection, since: datetime | None, until: datetime | None
) -> list[Publication]:
    return [Publication(*row) for row in connection.execute(PUBLICATIONS, (since, until))]


def last_kept(connection: psycopg.Connection, revision: str) -> Kept | None:
    """As *revision* was published last; None if it never was."""
    return next(_kept(connection, revision), None)


def files_of(connection: psycopg.Connection, publication: Publication) -> Kept:
    found = _kept(connection, publication.revision)
    return next(each for each in found if each.publication.id == publication.id)


def known_since(connection: psycopg.Connection) -> datetime | None:
    row = connection.execute(KNOWN_SINCE).fetchone()
    return row[0] if row else None


def _kept(connection: psycopg.Connection, revision: str) -> Iterator[Kept]:
    """Each publication of *revision*, the last one first."""
    for row in connection.execute(KEPT, {"revision": revision}):
        yield Kept(Publication(*row[:6]), row[6], row[7])
