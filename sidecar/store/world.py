"""World files: the wanted state of users and workspaces, for demos and fixtures.

A world file is the complete state of the workspaces that it names: members, overrides and usage that it does
not name are removed. Other workspaces and users stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.catalog.read import Fields, Items, Text, document_in, plain
from sidecar.catalog.shape import Field, Line, ListOf, MapOf, Place, Record, Reference, Walk
from sidecar.catalog.stated import OVERRIDES, STATUS, USER_ID, counts
from sidecar.errors import ConfigError
from sidecar.rego.load import plans_text
from sidecar.store.migrate import owner_connection

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    import psycopg

    from sidecar.catalog.read import Node

DECLARED = """
    SELECT 'plan', name FROM authz.plans UNION ALL
    SELECT 'role', name FROM authz.roles UNION ALL
    SELECT 'feature', name FROM authz.features UNION ALL
    SELECT DISTINCT 'meter', meter FROM authz.plan_limits UNION ALL
    SELECT 'counted', name FROM authz.meters WHERE kind IN ('members', 'owned')
"""
HAS_CATALOG = "SELECT to_regclass('authz.catalog') IS NOT NULL"
LOCK = "SELECT pg_advisory_xact_lock(7022026)"  # one at a time, as in migrate
ACTING = "SELECT authz.acting_as('sidecar load', 'sql')"
LOCK_USAGE = "SELECT authz.usage_locked(id) FROM authz.workspaces WHERE slug = %(slug)s"
PUT_WORKSPACE = """
    INSERT INTO authz.workspaces (slug, name, plan_tier, status)
    VALUES (%(slug)s, %(name)s, %(plan)s, %(status)s)
    ON CONFLICT (slug) DO UPDATE
    SET name = excluded.name,
        plan_tier = excluded.plan_tier,
        plan_as_of = NULL,
        status = excluded.status,
        status_reason = NULL,
        status_as_of = NULL,
        given_plan = NULL,
        given_status = NULL,
        seats = NULL,
        turns = NULL,
        turns_at = NULL,
        deleted_at = NULL,
        deleted_by = NULL,
        members_before = NULL
    RETURNING id
"""
DROP_SUBSCRIPTIONS = """
    WITH events AS (DELETE FROM authz.subscription_events WHERE workspace_id = %(id)s)
    DELETE FROM authz.workspace_subscriptions WHERE workspace_id = %(id)s
"""
DROP_MEMBERS = """
    DELETE FROM authz.workspace_memberships
    WHERE workspace_id = %(id)s
      AND (user_id, role) NOT IN (SELECT * FROM unnest(%(users)s::text[], %(roles)s::text[]))
"""
PUT_MEMBERS = """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT %(id)s, stated.user_id, stated.role
    FROM unnest(%(users)s::text[], %(roles)s::text[]) AS stated (user_id, role)
    WHERE (stated.user_id, stated.role) NOT IN (
        SELECT m.user_id, m.role FROM authz.workspace_memberships AS m WHERE m.workspace_id = %(id)s
    )
"""
DROP_OVERRIDES = """
    DELETE FROM authz.workspace_features
    WHERE workspace_id = %(id)s
      AND (kind, name) NOT IN (SELECT * FROM unnest(%(kinds)s::text[], %(names)s::text[]))
"""
PUT_OVERRIDE = """
    INSERT INTO authz.workspace_features AS f (workspace_id, kind, name, enabled, at_most)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (workspace_id, kind, name) DO UPDATE
    SET enabled = excluded.enabled,
        at_most = excluded.at_most,
        expires_at = NULL,
        reason = NULL,
        changed_at = now(),
        while_plan = NULL,
        stated_expires_at = NULL
    WHERE (f.enabled, f.at_most, f.expires_at, f.while_plan)
        IS DISTINCT FROM (excluded.enabled, excluded.at_most, NULL, NULL)
"""
SET_USAGE = "SELECT authz.set_usage(%s, %s::text[], %s::bigint[])"
PUT_USER = """
    INSERT INTO authz.users (id, email) VALUES (%s, %s)
    ON CONFLICT (id) DO UPDATE SET email = excluded.email
"""
PUT_OWN_WORKSPACE = "SELECT authz.create_default_workspace(%s, %s)"

MEMBERS = """
    SELECT w.slug, m.user_id
    FROM authz.workspaces AS w JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id
    WHERE w.deleted_at IS NULL
    ORDER BY w.slug, m.user_id
    LIMIT 50
"""

_WORKSPACE = Record(
    fields={
        "slug": Field(
            shape=Line(
                pattern=r"(?![0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
                says="a slug of lower-case letters, digits and -, at most 63, not like a UUID",
                code="bad_slug",
            ),
            required=True,
        ),
        "name": Field(
            shape=Line(pattern=r"(?=.*\S).{1,256}", says="text on one line, at most 256 characters")
        ),
        "plan": Field(shape=Reference(kind="plan", verb="has"), required=True),
        "status": Field(shape=STATUS),
        "owner": Field(shape=USER_ID),
        "members": Field(
            shape=MapOf(
                key=USER_ID,
                value=Reference(kind="role", verb="is"),
                says="a mapping of user ids to roles",
                noun="member",
            )
        ),
        "overrides": Field(shape=OVERRIDES),
        "usage": Field(shape=counts("what is used of them in this period", verb="uses", code="bad_usage")),
    },
    says="a mapping with slug, plan and owner",
)
_USER = Record(
    fields={
        "id": Field(shape=USER_ID, required=True),
        "email": Field(shape=Line(pattern=r"[^@\s]+@[^@\s]+", says="an e-mail address", code="bad_email")),
    },
    says="a mapping with id",
)
_WORLD = Record(
    fields={
        "users": Field(shape=ListOf(item=_USER, says="a list of users", noun="user")),
        "workspaces": Field(shape=ListOf(item=_WORKSPACE, says="a list of workspaces", noun="workspace")),
    },
    says="a mapping with users and workspaces",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """How many users and workspaces the file named; all of them now have its state."""

    users: int
    workspaces: int


def load(url: str, path: Path, /) -> Loaded:
    """As the owner of the schema, in one transaction. Idempotent.

    ConfigError with every problem of the file, Interrupted when the database refuses.
    """
    raw = plans_text(path)
    with owner_connection(url) as connection, connection.transaction():
        connection.execute(LOCK)
        world = _world_in(raw, source=str(path), declared=_declared(connection))
        connection.execute(ACTING)
        users, workspaces = world.get("users", []), world.get("workspaces", [])
        for workspace in workspaces:
            _put(connection, workspace)
        # The members first: a member of a workspace of this file needs none of their own.
        for user in users:
            connection.execute(PUT_USER, (user["id"], user.get("email")))
            connection.execute(PUT_OWN_WORKSPACE, (user["id"], user.get("email")))
    return Loaded(users=len(users), workspaces=len(workspaces))


def members_in(url: str, /) -> list[tuple[str, str]]:
    """Some workspaces by slug, each with a user in it."""
    with owner_connection(url) as connection:
        return [(slug, user) for slug, user in connection.execute(MEMBERS)]


def _declared(connection: psycopg.Connection) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {kind: set() for kind in ("plan", "role", "feature", "meter", "counted")}
    (there,) = connection.execute(HAS_CATALOG).fetchone() or (False,)
    if there:
        for kind, name in connection.execute(DECLARED):
            names[kind].add(name)
    if not names["plan"]:
        raise ConfigError("no catalog is published in this database: run `sidecar migrate` first")
    return names


def _world_in(raw: bytes, *, source: str, declared: Mapping[str, Collection[str]]) -> dict[str, Any]:
    document = document_in(raw, source=source)
    walk = Walk(source=source, findings=list(document.findings), declared=dict(declared))
    root = document.root
    if root is not None:
        root = walk.sound(root, _WORLD, Place(owner="the world", line=root.line, column=root.column))
        _check_unique(root, "users", "id", "user", walk)
        _check_unique(root, "workspaces", "slug", "workspace", walk)
        for workspace in _items(root, "workspaces"):
            _check_people(workspace, walk, owned="owner" in declared["role"])
            _check_counted(workspace, walk, counted=declared["counted"])
    if walk.findings or root is None:
        findings = sorted(set(walk.findings), key=lambda each: each.order)
        raise ConfigError(f"{source} is not a world", problems=tuple(each.problem for each in findings))
    found = plain(root)
    return found if isinstance(found, dict) else {}


def _items(root: Node, section: str) -> Iterator[Fields]:
    items = root.values.get(section) if isinstance(root, Fields) else None
    for item in items.items if isinstance(items, Items) else ():
        if isinstance(item, Fields):
            yield item


def _check_unique(root: Node, section: str, field: str, noun: str, walk: Walk) -> None:
    seen: dict[str, int] = {}
    for item in _items(root, section):
        name = item.values.get(field)
        if not isinstance(name, Text):
            continue
        if name.value in seen:
            walk.find(
                f"duplicate_{noun}",
                f'{noun} "{name.value}" is there twice, first on line {seen[name.value]}',
                name,
            )
        seen.setdefault(name.value, name.line)


def _check_people(workspace: Fields, walk: Walk, *, owned: bool) -> None:
    """Exactly one owner, if the catalog has that role, and nobody with two roles."""
    owner, members = workspace.values.get("owner"), workspace.values.get("members")
    if owner is None and owned:
        walk.find("missing_field", "this workspace has no owner: expected the id of a user", workspace)
    if owner is not None and not owned:
        walk.find("unknown_role", "the catalog declares no role owner: name everybody in members", owner)
    for user, role in members.values.items() if isinstance(members, Fields) else ():
        if isinstance(role, Text) and role.value == "owner":
            walk.find("second_owner", f'"{user}" cannot be owner among the members: name them in owner', role)
        elif isinstance(owner, Text) and isinstance(members, Fields) and owner.value == user:
            walk.find("duplicate_member", f'"{user}" is the owner already', members.keys[user])


def _check_counted(workspace: Fields, walk: Walk, *, counted: Collection[str]) -> None:
    usage = workspace.values.get("usage")
    for meter in usage.values if isinstance(usage, Fields) else ():
        if meter in counted and isinstance(usage, Fields):
            walk.find(
                "counted_meter", f'"{meter}" is counted by the database: leave it out', usage.keys[meter]
            )


def _put(connection: psycopg.Connection, workspace: Mapping[str, Any]) -> None:
    row = {"name": workspace["slug"], "status": "active", **workspace}
    stated = {key: row[key] for key in ("slug", "name", "plan", "status")}
    connection.execute(LOCK_USAGE, stated)  # the order of locks: usage, then the workspace
    found = connection.execute(PUT_WORKSPACE, stated).fetchone()
    if found is None:
        raise TypeError("an upsert that updates returns its row")
    (id_,) = found
    connection.execute(DROP_SUBSCRIPTIONS, {"id": id_})

    members = dict(row.get("members", {}))
    if "owner" in row:
        members[row["owner"]] = "owner"
    people = {"id": id_, "users": list(members), "roles": list(members.values())}
    connection.execute(DROP_MEMBERS, people)  # first: two owners at once violate the unique index
    connection.execute(PUT_MEMBERS, people)

    overrides = row.get("overrides", {})
    features, limits = overrides.get("features", {}), overrides.get("limits", {})
    put = [(id_, "feature", name, enabled, None) for name, enabled in features.items()]
    put += [
        (id_, "limit", name, None, None if limit == "unlimited" else limit) for name, limit in limits.items()
    ]
    named = {"id": id_, "kinds": [kind for _, kind, *_ in put], "names": [name for _, _, name, *_ in put]}
    connection.execute(DROP_OVERRIDES, named)
    for override in put:
        connection.execute(PUT_OVERRIDE, override)

    usage = row.get("usage", {})
    connection.execute(SET_USAGE, (id_, list(usage), list(usage.values())))
