"""The schema as the migrations make it, compared with the one of a database: shape, owners and rights.

sql/contract.json is what they make of an empty database; `make schema` writes it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.settings import shipped
from sidecar.store.contract_queries import (
    BY_MEMBERSHIP,
    GIVEN_AWAY,
    GRANTS,
    IDS,
    LAST,
    OBJECTS,
    OTHERWISE_THERE,
    OWNER_LACKS,
    OWNERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import psycopg

SEARCH_PATH = "SELECT current_setting('search_path')"
SET_SEARCH_PATH = "SELECT set_config('search_path', %s, true)"
MAY_READ_THEM = "SELECT has_table_privilege('authz.migrations', 'SELECT')"
HAS_LEDGER = "SELECT to_regclass('authz.migrations') IS NOT NULL"
GROUPS = ("authz_app", "authz_audit", "authz_sidecar")
# What docs/isolation.md has operators grant to roles of their own: it tells no more than what was entered.
HARMLESS = ("FUNCTION authz.claimed_workspace()", "FUNCTION authz.entered_workspace()")
SCHEMA = "SCHEMA authz"
# What docs/database.md has operators grant to a login that reads the outbox.
OUTBOX = "TABLE authz.outbox"
OF_A_READER = {(OUTBOX, "SELECT"), ("FUNCTION authz.current_epoch()", "EXECUTE"), (SCHEMA, "USAGE")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """*says* what is wrong, *do* what helps; *repair* is the statement, where `migrate` runs one."""

    says: str
    do: str
    repair: str | None = None

    def __str__(self) -> str:
        return f"{self.says}: {self.do}"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """*on* is as GRANT names it: `TABLE authz.users`. *column* is empty for all of them."""

    on: str
    column: str
    grantee: str
    privilege: str
    grantable: bool

    @property
    def named(self) -> str:
        return f"{self.privilege} ({self.column})" if self.column else self.privilege


def contract() -> dict[str, Any]:
    """`migration`, `variants` (objects by name, without and with Supabase's users), `rights`."""
    found: dict[str, Any] = json.loads((shipped("sql") / "contract.json").read_text(encoding="utf-8"))
    return found


def differences(connection: psycopg.Connection) -> list[Finding]:
    """Empty if the database is as this version's migrations make it. Any role may ask; nothing is changed.

    psycopg's errors if the database does not answer.
    """
    wanted = contract()
    with _qualified(connection):
        if not _value(connection, HAS_LEDGER):
            return [Finding(says="the database has no schema authz of ours", do="sidecar migrate")]
        # Who may not read them learns only what differs.
        last = _value(connection, LAST) if _value(connection, MAY_READ_THEM) else wanted["migration"]
        if last != wanted["migration"]:
            return [
                Finding(
                    says=f"the database is at {last or 'no migration'},"
                    f" and this sidecar at {wanted['migration']}",
                    do="sidecar migrate, of the newer of both",
                )
            ]
        return [
            *_shape(connection, wanted["variants"]),
            *_owners(connection),
            *wrong_rights(connection, {Right(*each) for each in wanted["rights"]}),
            *_members(connection),
        ]


def repair(connection: psycopg.Connection) -> tuple[str, ...]:
    """As the owner: grants and revokes what differs; each statement that was run."""
    with _qualified(connection):
        found = wrong_rights(connection, {Right(*each) for each in contract()["rights"]})
        statements = tuple(each.repair for each in found if each.repair)
        for statement in statements:
            connection.execute(statement.encode())
    return statements


@contextmanager
def private(connection: psycopg.Connection) -> Iterator[None]:
    """In a transaction: what is made within belongs to the owner and our groups alone.

    Default privileges, which may open each new object to others, cannot be turned off beforehand.
    """
    with _qualified(connection):
        before = {id_ for (id_,) in connection.execute(IDS)}
    yield
    with _qualified(connection):
        for id_, name, grantee in connection.execute(GIVEN_AWAY).fetchall():
            if id_ not in before:
                statement = f"REVOKE ALL ON {name} FROM {grantee} CASCADE"
                connection.execute(statement.encode())


def objects_in(connection: psycopg.Connection) -> dict[str, str]:
    """The text of each object of the schema, by what it is and its name."""
    with _qualified(connection):
        return dict(connection.execute(OBJECTS).fetchall())


def rights_in(connection: psycopg.Connection) -> dict[Right, str]:
    """Of all but the owner, and for each by whom it was granted."""
    with _qualified(connection):
        return {Right(*right): grantor for *right, grantor in connection.execute(GRANTS)}


def wrong_rights(connection: psycopg.Connection, wanted: set[Right]) -> list[Finding]:
    there = rights_in(connection)
    found = []
    as_documented = _as_documented(there)
    kinds = {(each.on, each.column, each.grantee, each.privilege): each for each in wanted}
    for right, grantor in sorted(there.items()):
        if right in wanted or right in as_documented:
            continue
        same = kinds.get((right.on, right.column, right.grantee, right.privilege))
        only = "GRANT OPTION FOR " if same else ""
        statement = f"REVOKE {only}{right.named} ON {right.on} FROM {right.grantee} CASCADE"
        found.append(
            Finding(
                says=f"{right.grantee} has {right.named}{' with grant option' if same else ''} on {right.on}",
                do=f"sidecar migrate revokes it; if it stays, as {grantor}: {statement}",
                repair=statement,
            )
        )
    with _qualified(connection):
        lacks = connection.execute(OWNER_LACKS).fetchall()
    for on, privilege, owner in lacks:
        statement = f"GRANT {privilege} ON {on} TO {owner}"
        found.append(
            Finding(
                says=f"{owner}, the owner, lacks {privilege} on {on}",
                do=f"sidecar migrate grants it: {statement}",
                repair=statement,
            )
        )
    held = {(each.on, each.column, each.grantee, each.privilege) for each in there}
    for right in sorted(wanted):
        if (right.on, right.column, right.grantee, right.privilege) not in held:
            statement = f"GRANT {right.named} ON {right.on} TO {right.grantee}"
            found.append(
                Finding(
                    says=f"{right.grantee} lacks {right.named} on {right.on}",
                    do=f"sidecar migrate grants it: {statement}",
                    repair=statement,
                )
            )
    return found


def _as_documented(there: Iterable[Right]) -> set[Right]:
    """What our documents have operators grant to roles of their own.

    A reader of the outbox who has any other right loses all: a default or a GRANT on all tables gave it.
    """
    held: dict[str, set[Right]] = {}
    for right in there:
        if right.grantee not in (*GROUPS, "PUBLIC"):
            held.setdefault(right.grantee, set()).add(right)
    kept: set[Right] = set()
    for rights in held.values():
        harmless = {each for each in rights if each.on in HARMLESS and not each.grantable}
        of_a_reader = {
            each for each in rights if (each.on, each.privilege) in OF_A_READER and not each.grantable
        }
        if harmless | of_a_reader == rights and any(each.on == OUTBOX for each in rights):
            kept |= rights
        elif harmless:
            kept |= harmless | {each for each in of_a_reader if each.on == SCHEMA}
    return kept


def _shape(connection: psycopg.Connection, variants: list[dict[str, str | None]]) -> list[Finding]:
    there = objects_in(connection)
    first: Mapping[str, str | None] = variants[0]
    return [
        *min((_differing(there, {**first, **other}) for other in variants), key=len),
        *(
            Finding(says=f"{name} is not of this version", do="drop it, or move it to a schema of your own")
            for (name,) in connection.execute(OTHERWISE_THERE)
        ),
    ]


def _differing(there: Mapping[str, str], wanted: Mapping[str, str | None]) -> list[Finding]:
    again = "see sql/schema/ for it, and make it so by hand: nobody but you knows why it was changed"
    found = []
    for name in sorted(there.keys() | wanted.keys()):
        is_, should = there.get(name), wanted.get(name)
        if is_ == should:
            continue
        if is_ is None:
            found.append(Finding(says=f"{name} is missing", do=again))
        elif should is None:
            do = "drop it, or move it to a schema of your own"
            found.append(Finding(says=f"{name} is not of this version", do=do))
        elif name.startswith(("function", "view")):
            found.append(Finding(says=f"{name} was changed", do=again))
        else:
            found.append(Finding(says=f"{name} is {is_}, not {should}", do=again))
    return found


def _owners(connection: psycopg.Connection) -> list[Finding]:
    return [
        Finding(
            says=f"{name} belongs to {owner}, not to {of_schema}, who owns the schema",
            do=f"as a superuser: ALTER {name} OWNER TO {of_schema}",
        )
        for name, owner, of_schema in connection.execute(OWNERS)
    ]


def _members(connection: psycopg.Connection) -> list[Finding]:
    return [Finding(says=says, do=do) for says, do in connection.execute(BY_MEMBERSHIP)]


def _value(connection: psycopg.Connection, query: str) -> Any:  # noqa: ANN401 - of any query
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


@contextmanager
def _qualified(connection: psycopg.Connection) -> Iterator[None]:
    """Every name with its schema, whatever the session's search_path."""
    with connection.transaction():
        before = _value(connection, SEARCH_PATH)
        connection.execute(SET_SEARCH_PATH, ("",))
        yield
        connection.execute(SET_SEARCH_PATH, (before,))
