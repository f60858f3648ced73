"""Brings a database to the schema that this sidecar needs, and publishes the catalog in it.

Forward only: numbered files, each applied once, in one transaction, and never edited afterwards.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from sidecar.errors import ConfigError, Interrupted, NotAsked
from sidecar.settings import shipped
from sidecar.store.connections import parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog

LOCK = "SELECT pg_advisory_lock(7022026)"
WAIT_FOR_ANOTHER = "SET lock_timeout = '60s'"
WAIT_FOR_A_TABLE = "SET lock_timeout = '5s'"
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
APPLIED = "SELECT number, name, checksum FROM authz.migrations ORDER BY number"
RECORD = "INSERT INTO authz.migrations (number, name, checksum) VALUES (%s, %s, %s)"

REVISION = "SELECT revision FROM authz.catalog"
PUT_ROLES = """
    WITH gone AS (DELETE FROM authz.roles WHERE name <> ALL (%(names)s::text[]))
    INSERT INTO authz.roles (name, rank) SELECT * FROM unnest(%(names)s::text[]) WITH ORDINALITY
    ON CONFLICT (name) DO UPDATE SET rank = excluded.rank
"""
PUT_ACTION_ROLES = """
    WITH gone AS (
        DELETE FROM authz.action_roles
        WHERE (action, role) NOT IN (SELECT * FROM unnest(%(actions)s::text[], %(roles)s::text[]))
    )
    INSERT INTO authz.action_roles (action, role) SELECT * FROM unnest(%(actions)s::text[], %(roles)s::text[])
    ON CONFLICT DO NOTHING
"""
PUT_FEATURES = """
    WITH gone AS (DELETE FROM authz.features WHERE name <> ALL (%(names)s::text[]))
    INSERT INTO authz.features (name) SELECT unnest(%(names)s::text[]) ON CONFLICT DO NOTHING
"""
PUT_METER = """
    INSERT INTO authz.meters (name, kind, per, anchor) VALUES (%s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, per = excluded.per, anchor = excluded.anchor
"""
PUT_PLANS = """
    INSERT INTO authz.plans (name, rank) SELECT * FROM unnest(%(names)s::text[]) WITH ORDINALITY
    ON CONFLICT (name) DO UPDATE SET rank = excluded.rank
"""
PUT_REVISION = """
    INSERT INTO authz.catalog AS c (revision, default_plan) VALUES (%s, %s)
    ON CONFLICT (only_row) DO UPDATE
    SET revision = excluded.revision,
        default_plan = excluded.default_plan,
        published_at = CASE c.revision WHEN excluded.revision THEN c.published_at ELSE now() END
"""
DROP_PLANS = "DELETE FROM authz.plans WHERE name <> ALL (%(names)s::text[])"
DROP_PLAN_FEATURES = "DELETE FROM authz.plan_features"
DROP_PLAN_LIMITS = "DELETE FROM authz.plan_limits"
PUT_PLAN_FEATURE = "INSERT INTO authz.plan_features (plan, feature) VALUES (%s, %s)"
PUT_PLAN_LIMIT = "INSERT INTO authz.plan_limits (plan, meter, at_most) VALUES (%s, %s, %s)"
HOLDERS = """
    SELECT plan_tier, count(*), (array_agg(slug ORDER BY slug))[:5]
    FROM authz.workspaces WHERE plan_tier <> ALL (%(names)s::text[])
    GROUP BY plan_tier ORDER BY plan_tier
"""
ROLES_LOST = """
    SELECT role, count(*)
    FROM authz.workspace_memberships WHERE role NOT IN (SELECT name FROM authz.roles)
    GROUP BY role ORDER BY role
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """The migrations *applied* now, and the *revision* published; *replaced* is the one before."""

    applied: tuple[str, ...]
    revision: str
    replaced: str | None
    warnings: tuple[str, ...]


def migrate(url: str, /, *, catalog: Catalog, revision: str, migrations: Path | None = None) -> Migrated:
    """As the owner of the schema, straight to the server: a transaction pooler loses the lock.

    ConfigError when files and database contradict each other, Interrupted when the database refuses.
    """
    known = migrations_in(migrations or shipped("sql") / "migrations")
    with owner_connection(url) as connection:
        connection.execute(WAIT_FOR_ANOTHER)
        connection.execute(LOCK)  # two migrations at once: the second waits, and finds nothing to do
        connection.execute(WAIT_FOR_A_TABLE)
        applied = _apply(connection, known)
        replaced = _publish(connection, catalog, revision)
        lost = connection.execute(ROLES_LOST).fetchall()
    warnings = tuple(
        f'{count} memberships hold the role "{role}", which the catalog does not declare: they are no members'
        for role, count in lost
    )
    return Migrated(applied=applied, revision=revision, replaced=replaced, warnings=warnings)


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
    """ConfigError unless they are numbered without a gap."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        name = re.fullmatch(r"([0-9]{4})_[a-z_]+", path.stem)
        if not name or int(name[1]) != number:
            raise ConfigError(f"{path}: expected the name {number:04}_verb_object.sql")
        found.append(Migration(number=number, name=path.stem, text=path.read_text(encoding="utf-8")))
    if not found:
        raise ConfigError(f"{folder}: no migrations there")
    return tuple(found)


def _apply(connection: psycopg.Connection, known: Sequence[Migration]) -> tuple[str, ...]:
    if _value(connection, ENCODING) != "UTF8":
        raise ConfigError("the database's encoding must be UTF8, so that it can hold every name")
    with connection.transaction():
        if not _value(connection, HAS_SCHEMA):
            connection.execute(CREATE_SCHEMA)
        if not _value(connection, HAS_LEDGER):
            connection.execute(CREATE_LEDGER)
    there = {number: (name, checksum) for number, name, checksum in connection.execute(APPLIED)}
    if there and max(there) > len(known):
        raise ConfigError(
            f"the database is at {there[max(there)][0]}, and this sidecar ends at {known[-1].name}:"
            " use the sidecar that migrated it, or a newer one"
        )
    applied = []
    for migration in known:
        if migration.number in there:
            name, checksum = there[migration.number]
            if (name, checksum) != (migration.name, migration.checksum):
                raise ConfigError(
                    f"{migration.name}.sql is not what was applied as {name}: restore it, and write a new"
                    " migration"
                )
            continue
        with connection.transaction():
            connection.execute(migration.text.encode())
            connection.execute(RECORD, (migration.number, migration.name, migration.checksum))
        applied.append(migration.name)
    return tuple(applied)


def _publish(connection: psycopg.Connection, catalog: Catalog, revision: str) -> str | None:
    plans = {"names": list(catalog.plans)}
    try:
        with connection.transaction(), connection.cursor() as cursor:
            before = cursor.execute(REVISION).fetchone()
            cursor.execute(PUT_ROLES, {"names": list(catalog.roles)})
            cursor.execute(PUT_ACTION_ROLES, _action_roles(catalog))
            cursor.execute(DROP_PLAN_FEATURES)
            cursor.execute(DROP_PLAN_LIMITS)
            cursor.execute(PUT_FEATURES, {"names": list(catalog.features)})
            cursor.executemany(
                PUT_METER, [(each.name, each.kind, each.per, each.anchor) for each in catalog.meters.values()]
            )
            cursor.execute(PUT_PLANS, plans)
            cursor.execute(PUT_REVISION, (revision, catalog.default_plan))
            cursor.execute(DROP_PLANS, plans)
            cursor.executemany(
                PUT_PLAN_FEATURE,
                [
                    (plan.name, feature)
                    for plan in catalog.plans.values()
                    for feature in sorted(plan.features)
                ],
            )
            cursor.executemany(
                PUT_PLAN_LIMIT,
                [
                    (plan.name, meter, limit)
                    for plan in catalog.plans.values()
                    for meter, limit in plan.limits.items()
                ],
            )
    except psycopg.errors.ForeignKeyViolation as error:
        held = "; ".join(
            f'"{plan}" by {_workspaces(count, slugs)}'
            for plan, count, slugs in connection.execute(HOLDERS, plans)
        )
        raise ConfigError(
            f"a plan that is no longer in the catalog is still held: {held}. Move them to another plan first"
            " (PUT /v1/workspaces/{id}/plan), or keep the plan in the catalog"
        ) from error
    return None if before is None else before[0]


def _action_roles(catalog: Catalog) -> dict[str, list[str]]:
    pairs = [(action, role) for action in catalog.declared_actions for role in catalog.actions[action].roles]
    return {"actions": [action for action, _ in pairs], "roles": [role for _, role in pairs]}


def _workspaces(count: int, slugs: Sequence[str]) -> str:
    more = ", …" if count > len(slugs) else ""
    return f"{count} workspace{'' if count == 1 else 's'} ({', '.join(slugs)}{more})"


def _value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
