"""Brings a database to the schema that this sidecar needs, and publishes the catalog in it.

Forward only: numbered files, each applied once and never edited afterwards, in one transaction that has all
its locks first, or outside of any ([why](docs/decisions/0064-let-migrations-give-way.md)).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from sidecar.errors import ConfigError, Interrupted, NotAsked
from sidecar.settings import shipped
from sidecar.store.apart import run_apart, runs_apart, statements_in
from sidecar.store.connections import parameters_of
from sidecar.store.contract import contract, differences, private, repair
from sidecar.store.giving_way import Patience, give_way
from sidecar.store.publish import publish
from sidecar.store.restored import begin_epoch, make_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog
    from sidecar.store.publish import Files

TRY_LOCK = "SELECT pg_try_advisory_lock(7022026)"
WAIT_S = 300.0
ENCODING = "SHOW server_encoding"
HAS_SCHEMA = "SELECT to_regnamespace('authz') IS NOT NULL"
HAS_LEDGER = "SELECT to_regclass('authz.migrations') IS NOT NULL"
CREATE_SCHEMA = """
    CREATE SCHEMA authz;
    COMMENT ON SCHEMA authz IS 'Who may do what. Private, but for what authz_sidecar may execute.'
"""
CREATE_LEDGER = """
    CREATE TABLE authz.migrations (
        number integer NOT NULL,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT migrations_pkey PRIMARY KEY (number)
    )
"""
HAS_HISTORY = "SELECT to_regclass('authz.policy_history') IS NOT NULL"
HAS_BEGUN = """
    SELECT EXISTS (
        SELECT FROM authz.outbox
        WHERE workspace_id = '00000000-0000-0000-0000-000000000000' AND kind = 'history.began'
    )
"""
FIND_UNRECORDED = "SELECT authz.find_unrecorded()"
APPLIED = "SELECT number, name, checksum FROM authz.migrations ORDER BY number"
RECORD = "INSERT INTO authz.migrations (number, name, checksum) VALUES (%s, %s, %s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """*locks*: the tables of before that the file locks, each with its mode."""

    number: int
    name: str
    text: str
    locks: Mapping[str, str]

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """The migrations *applied* now, and the *revision* published; *replaced* is the one before.

    *warnings* are one line each: what was lost, since that was accepted, what was moved, and that the
    database is in another cluster. *repaired* are the roles, grants and revokes that were needed, *findings*
    what else differs from the contract, each with what to do.
    """

    applied: tuple[str, ...]
    revision: str
    replaced: str | None
    warnings: tuple[str, ...]
    repaired: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def migrate(
    url: str,
    /,
    *,
    catalog: Catalog,
    revision: str,
    migrations: Path | None = None,
    accept_loss: bool = False,
    files: Files | None = None,
    wait_s: float = WAIT_S,
    says: Callable[[str], None] = lambda _: None,
) -> Migrated:
    """As the owner of the schema, straight to the server: a transaction pooler loses the lock.

    It gives way to whoever holds a lock, for *wait_s* seconds in sum (then NotAsked), and *says* whom it
    waits for.

    ConfigError when files and database contradict each other, or when rows would lose what they refer to;
    with *accept_loss* such rows are dead from then on. *files* are kept as what was published.
    Interrupted when the database refuses.
    """
    known = migrations_in(migrations or shipped("sql") / "migrations")
    with owner_connection(url) as connection:
        patience = Patience(wait_s, says)
        _wait_for_another(connection, patience)
        wanted = missing(connection, known)
        made = make_groups(connection)
        _apply(connection, wanted, patience)
        moved = begin_epoch(connection)

        has_contract = known[-1].name == contract()["migration"]  # else these are other files
        repaired = give_way(connection, lambda: repair(connection), patience=patience) if has_contract else ()

        def find_what_was_before() -> None:
            if _value(connection, HAS_HISTORY) and not _value(connection, HAS_BEGUN):
                connection.execute(FIND_UNRECORDED)  # as was before it was recorded

        give_way(connection, find_what_was_before, patience=patience)
        published = give_way(
            connection,
            lambda: publish(connection, catalog, revision, accept_loss=accept_loss, files=files),
            patience=patience,
        )
        findings = differences(connection) if has_contract else []
    return Migrated(
        applied=tuple(each.name for each in wanted),
        revision=revision,
        replaced=published.replaced,
        warnings=(*moved, *published.warnings),
        repaired=(*made, *repaired),
        findings=tuple(str(each) for each in findings),
    )


@contextmanager
def owner_connection(url: str, /) -> Iterator[psycopg.Connection]:
    """A connection as the schema's owner, in autocommit; other errors are Interrupted.

    NotAsked where the server is not reached, ends the session, or makes it wait too long.
    """
    parameters_of(url)
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10, client_encoding="UTF8") as connection:
            yield connection
    except psycopg.errors.LockNotAvailable as error:
        raise NotAsked("another session holds a lock that is needed: try again when it is done") from error
    except psycopg.OperationalError as error:
        raise NotAsked(f"PostgreSQL: {' '.join(str(error).split())}") from error
    except psycopg.Error as error:
        raise Interrupted(f"PostgreSQL: {' '.join(str(error).split())}") from error


def migrations_in(folder: Path) -> tuple[Migration, ...]:
    """ConfigError unless they are numbered without a gap, and those that run apart can be repeated."""
    found = []
    listed = released()
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        name = re.fullmatch(r"([0-9]{4})_[a-z_]+", path.stem)
        if not name or int(name[1]) != number:
            raise ConfigError(f"{path}: expected the name {number:04}_verb_object.sql")
        text = path.read_text(encoding="utf-8")
        if runs_apart(text):
            try:
                statements_in(text)
            except ValueError as error:
                raise ConfigError(
                    f"{path}: a file without a transaction must be repeatable, which this is not: {error}"
                ) from error
        locks = listed.get(path.stem, {}).get("locks", {})
        found.append(Migration(number=number, name=path.stem, text=text, locks=locks))
    if not found:
        raise ConfigError(f"{folder}: no migrations there")
    return tuple(found)


def released() -> dict[str, dict[str, Any]]:
    """By a file's name its `checksum` and `locks`, as `make schema` has found them."""
    found: dict[str, dict[str, Any]] = json.loads(
        (shipped("sql") / "released.json").read_text(encoding="utf-8")
    )
    return found


def missing(connection: psycopg.Connection, known: Sequence[Migration]) -> tuple[Migration, ...]:
    """What is not applied yet. ConfigError if what was applied is not what is *known*."""
    if _value(connection, ENCODING) != "UTF8":
        raise ConfigError("the database's encoding must be UTF8, so that it can hold every name")
    if not _value(connection, HAS_LEDGER):
        return tuple(known)
    there = {number: (name, checksum) for number, name, checksum in connection.execute(APPLIED)}
    if there and max(there) > len(known):
        raise ConfigError(
            f"the database is at {there[max(there)][0]}, and this sidecar ends at {known[-1].name}:"
            " use the sidecar that migrated it, or a newer one"
        )
    for migration in known:
        name, checksum = there.get(migration.number, (migration.name, migration.checksum))
        if (name, checksum) != (migration.name, migration.checksum):
            raise ConfigError(
                f"{migration.name}.sql is not what was applied as {name}: restore it, and write a new"
                " migration"
            )
    return tuple(each for each in known if each.number not in there)


def _wait_for_another(connection: psycopg.Connection, patience: Patience) -> None:
    """Two migrations at once: the second waits, and finds nothing to do.

    It asks again and again: a statement that waits has a snapshot, for whose end CONCURRENTLY would wait.
    """
    while not _value(connection, TRY_LOCK):
        if not patience.left_s:
            raise NotAsked("another `sidecar migrate` is at work: try again when it is done")
        time.sleep(0.1)


def _apply(connection: psycopg.Connection, wanted: Sequence[Migration], patience: Patience) -> None:
    with connection.transaction(), private(connection):
        if not _value(connection, HAS_SCHEMA):
            connection.execute(CREATE_SCHEMA)
        if not _value(connection, HAS_LEDGER):
            connection.execute(CREATE_LEDGER)
    for migration in wanted:
        record = (migration.number, migration.name, migration.checksum)
        if runs_apart(migration.text):
            run_apart(connection, migration.text, patience=patience)
            connection.execute(RECORD, record)
            continue

        def apply(migration: Migration = migration, record: tuple[int, str, str] = record) -> None:
            with private(connection):
                connection.execute(migration.text.encode())
            connection.execute(RECORD, record)

        give_way(connection, apply, patience=patience, locks=migration.locks)


def _value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
