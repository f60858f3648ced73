"""Who is in which workspaces, now by the tables or then by the history; and which logins may change that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg.types.json import set_json_loads

from sidecar.store.moments import moment_or_none
from sidecar.store.names import Spoken
from sidecar.text.encoding import decoded
from sidecar.workspaces.holders import Grant, Invitation, Login, Member, OverrideHeld, Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

MEMBERS_AT = """
    SELECT workspace_id::text, user_id, role, since, granted_kind, granted_by, event
    FROM authz.members_at(COALESCE(%s, clock_timestamp()), %s::uuid)
"""
WORKSPACES_AT = """
    SELECT workspace_id::text, slug, name, plan, status, features, limits
    FROM authz.workspaces_at(%s, %s::uuid)
"""
MEMBERS = """
    SELECT workspace_id::text, user_id, role, is_somebody FROM authz.members_standing(%s::uuid)
"""
WORKSPACES = """
    SELECT workspace_id::text, slug, name, plan, status, features FROM authz.workspaces_standing(%s::uuid)
"""
PEOPLE = """
    SELECT workspace_id::text, slug, name, plan, status, members, invitations, overrides
    FROM authz.people(%s::uuid)
"""
UNACCOUNTED = "SELECT workspace_id FROM authz.unaccounted()"
AUDIENCE = "SELECT COALESCE(sum(people), 0)::bigint FROM authz.audience()"
NOT_UNDERSTOOD = "SELECT authz.not_understood(%s, %s::uuid)"
_NO_GRANTS: Mapping[str, Grant] = {}
# A login that can change what the schema holds, by whichever way: it is a superuser or the owner, holds a
# privilege on a table, may become a role that does, or may call a function that changes something.
WRITERS = """
    WITH tables AS (
        SELECT c.oid, c.relowner FROM pg_class AS c
        WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind IN ('r', 'p', 'v')
    ),
    changing AS (
        SELECT p.oid, p.proowner FROM pg_proc AS p
        WHERE p.pronamespace = 'authz'::regnamespace
          AND p.provolatile = 'v'
          AND p.prosecdef
          AND p.prorettype <> 'trigger'::regtype
          AND NOT has_function_privilege('authz_app', p.oid, 'EXECUTE')
    ),
    holders AS (
        SELECT h.oid, h.rolname FROM pg_roles AS h
        WHERE h.oid = (SELECT n.nspowner FROM pg_namespace AS n WHERE n.nspname = 'authz')
           OR EXISTS (
               SELECT FROM tables AS t
               WHERE h.oid = t.relowner
                  OR has_table_privilege(h.oid, t.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
           )
           OR EXISTS (
               SELECT FROM changing AS c
               WHERE h.oid = c.proowner OR has_function_privilege(h.oid, c.oid, 'EXECUTE')
           )
    )
    SELECT l.rolname, l.rolsuper, COALESCE((
        SELECT array_agg(h.rolname::text ORDER BY h.rolname) FROM holders AS h
        WHERE pg_has_role(l.oid, h.oid, 'MEMBER')
    ), '{}')
    FROM pg_roles AS l
    WHERE l.rolcanlogin
      AND (l.rolsuper OR EXISTS (SELECT FROM holders AS h WHERE pg_has_role(l.oid, h.oid, 'MEMBER')))
    ORDER BY l.rolname
"""


def people_now(connection: psycopg.Connection, workspace: str | None, *, spoken: Spoken) -> list[Workspace]:
    """By slug, as the tables have them; each member with what the history tells. Names as *spoken*."""
    grants = _grants(connection, None, workspace, spoken)
    found = []
    with connection.cursor() as cursor:
        set_json_loads(_json, cursor)
        cursor.execute(PEOPLE, (workspace,))
        for id_, slug, name, plan, status, members, invitations, overrides in cursor.fetchall():
            held = tuple(_override(each, spoken) for each in overrides)
            found.append(
                Workspace(
                    id=id_,
                    slug=slug,
                    name=name,
                    plan=spoken.to_ours("plan", plan),
                    status=status,
                    features={each.name: bool(each.value) for each in held if each.of == "feature"},
                    limits={each.name: _limit(each.value) for each in held if each.of == "limit"},
                    members=tuple(_member(each, grants.get(id_, {}), spoken) for each in members),
                    invitations=tuple(_invitation(each, spoken) for each in invitations),
                    overrides=held,
                )
            )
    return sorted(found, key=lambda each: each.slug)


def members_now(connection: psycopg.Connection, workspace: str | None, *, spoken: Spoken) -> list[Workspace]:
    """As people_now, of what rights depend on: without addresses, limits, invitations, overrides' reasons."""
    grants = _grants(connection, None, workspace, spoken)
    members: dict[str, list[Member]] = {}
    to_ours = spoken.to_ours
    with connection.cursor(binary=True) as cursor:
        cursor.execute(MEMBERS, (workspace,))
        for id_, user, stored, exists in cursor.fetchall():
            role = to_ours("role", stored)
            grant = grants.get(id_, _NO_GRANTS).get(user)
            members.setdefault(id_, []).append(
                Member(user, role, None, exists, grant if grant and grant.role == role else None)
            )
    with connection.cursor() as cursor:
        set_json_loads(_json, cursor)
        cursor.execute(WORKSPACES, (workspace,))
        return [
            Workspace(
                id=id_,
                slug=slug,
                name=name,
                plan=to_ours("plan", plan),
                status=status,
                features={to_ours("feature", feature): on for feature, on in features.items()},
                members=tuple(members.get(id_, ())),
            )
            for id_, slug, name, plan, status, features in cursor.fetchall()
        ]


def people_at(connection: psycopg.Connection, at: datetime, workspace: str | None) -> list[Workspace]:
    """By slug, as the history tells of that moment, in the names of then."""
    grants = _grants(connection, at, workspace, Spoken())
    found = []
    with connection.cursor() as cursor:
        set_json_loads(_json, cursor)
        cursor.execute(WORKSPACES_AT, (at, workspace))
        for id_, slug, name, plan, status, features, limits in cursor.fetchall():
            members = (
                Member(user, grant.role, None, None, grant)
                for user, grant in sorted(grants.get(id_, _NO_GRANTS).items())
            )
            found.append(
                Workspace(
                    id=id_,
                    slug=slug,
                    name=name,
                    plan=plan,
                    status=status,
                    features=features,
                    limits=limits,
                    members=tuple(members),
                )
            )
    return sorted(found, key=lambda each: each.slug)


def _grants(
    connection: psycopg.Connection, at: datetime | None, workspace: str | None, spoken: Spoken
) -> Mapping[str, Mapping[str, Grant]]:
    """By workspace and user; a role is in our names."""
    found: dict[str, dict[str, Grant]] = {}
    with connection.cursor(binary=True) as cursor:
        cursor.execute(MEMBERS_AT, (at, workspace))
        for id_, user, role, *granted in cursor.fetchall():
            found.setdefault(id_, {})[user] = Grant(spoken.to_ours("role", role), *granted)
    return found


def people_in_sum(connection: psycopg.Connection) -> int:
    """How many memberships of users that exist there are, counted anew."""
    return int(_value(connection, AUDIENCE))


def unaccounted(connection: psycopg.Connection, workspace: str | None) -> int:
    """How many rows of the tables are not as the history tells."""
    with connection.cursor() as cursor:
        cursor.execute(UNACCOUNTED)
        return sum(workspace is None or str(id_) == workspace for (id_,) in cursor)


def not_understood(connection: psycopg.Connection, at: datetime | None, workspace: str | None) -> int:
    """How many rows of the history are of a kind that its readers leave out."""
    return int(_value(connection, NOT_UNDERSTOOD, at or datetime.now(UTC), workspace))


def logins_that_write(connection: psycopg.Connection) -> list[Login]:
    """By name: each with the roles through which it may change what the schema holds."""
    with connection.cursor() as cursor:
        cursor.execute(WRITERS)
        return [Login(name, superuser, tuple(roles)) for name, superuser, roles in cursor]


def _value(connection: psycopg.Connection, query: LiteralString, *params: object) -> Any:  # noqa: ANN401 - of any query
    row = connection.execute(query, params).fetchone()
    return row[0] if row else None


def _member(row: dict[str, Any], grants: Mapping[str, Grant], spoken: Spoken) -> Member:
    role, grant = spoken.to_ours("role", row["role"]), grants.get(row["user"])
    return Member(
        user=row["user"],
        role=role,
        email=row["email"],
        exists=row["exists"],
        # What was given is another role than what they hold: nobody saw this one being given.
        grant=grant if grant and grant.role == role else None,
    )


def _invitation(row: dict[str, Any], spoken: Spoken) -> Invitation:
    return Invitation(
        id=row["id"],
        email=row["email"],
        role=spoken.to_ours("role", row["role"]),
        invited_by=row["invited_by"],
        created_at=moment_or_none(row["created_at"]),
    )


def _override(row: dict[str, Any], spoken: Spoken) -> OverrideHeld:
    return OverrideHeld(
        of=row["of"],
        name=spoken.to_ours("feature" if row["of"] == "feature" else "meter", row["name"]),
        value=row["value"],
        ends=row["expires_at"] is not None,
        reason=row["reason"],
        changed_at=moment_or_none(row["changed_at"]),
    )


def _json(raw: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """Of some hundred thousand rows, this is what takes the time."""
    return decoded(raw if isinstance(raw, bytes) else raw.encode())


def _limit(value: int | str) -> int | None:
    return value if type(value) is int else None
