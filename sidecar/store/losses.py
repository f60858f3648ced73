"""What a new catalog would silently give or take: rows that refer to a name or a shape that it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    import psycopg

    from sidecar.catalog.catalog import Catalog
    from sidecar.store.renames import Change, Published

_COUNTED = """
    SELECT
        r.name,
        count(*),
        (array_agg(r.slug ORDER BY r.slug, r.example))[1],
        (array_agg(r.example ORDER BY r.slug, r.example))[1]
    FROM ({}) AS r
    GROUP BY r.name ORDER BY r.name
"""
# Rows of a kind: the name that each refers to, the workspace, and what it is.
_OVERRIDES = _COUNTED.format("""
    SELECT f.name, w.slug, f.enabled::text AS example
    FROM authz.workspace_features AS f
    JOIN authz.workspaces AS w ON w.id = f.workspace_id
    WHERE f.kind = 'feature' AND f.name = ANY (%(names)s) AND (f.expires_at IS NULL OR f.expires_at > now())
""")
_LIMITS = _COUNTED.format("""
    SELECT f.name, w.slug, COALESCE(f.at_most::text, 'unlimited') AS example
    FROM authz.workspace_features AS f
    JOIN authz.workspaces AS w ON w.id = f.workspace_id
    WHERE f.kind = 'limit' AND f.name = ANY (%(names)s) AND (f.expires_at IS NULL OR f.expires_at > now())
""")
_USAGE = _COUNTED.format("""
    SELECT t.name, w.slug, format('%%s used, %%s reserved', n.used, n.reserved) AS example
    FROM authz.meters AS t
    JOIN authz.workspace_usage AS u ON u.meter = t.name
    JOIN authz.workspaces AS w ON w.id = u.workspace_id
    CROSS JOIN LATERAL authz.period_at(t.per, authz.anchor_of(t.anchor, w.subscribed_at), now()) AS p
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN u.period_start >= p.starts THEN u.used ELSE 0 END AS used,
            authz.reserved_of(w.id, t.name, '-infinity', now()) AS reserved
    ) AS n
    WHERE t.name = ANY (%(names)s) AND t.kind NOT IN ('members', 'owned') AND (n.used > 0 OR n.reserved > 0)
""")
_MEMBERS = _COUNTED.format("""
    SELECT t.name, w.slug, format('%%s members', w.member_count) AS example
    FROM unnest(%(names)s::text[]) AS t (name)
    CROSS JOIN authz.workspaces AS w
    WHERE w.member_count > 0
""")
_HOLDERS = _COUNTED.format("""
    SELECT m.role AS name, w.slug, m.user_id AS example
    FROM authz.workspace_memberships AS m
    JOIN authz.workspaces AS w ON w.id = m.workspace_id
    WHERE m.role = ANY (%(names)s)
""")
_INVITED = _COUNTED.format("""
    SELECT i.role AS name, w.slug, i.email AS example
    FROM authz.workspace_invitations AS i
    JOIN authz.workspaces AS w ON w.id = i.workspace_id
    WHERE i.role = ANY (%(names)s) AND i.expires_at > now()
""")
_HELD_BEFORE = _COUNTED.format("""
    SELECT m.role AS name, w.slug, m.user_id AS example
    FROM authz.workspaces AS w
    CROSS JOIN LATERAL jsonb_to_recordset(w.members_before) AS m (user_id text, role text)
    WHERE m.role = ANY (%(names)s)
""")
_PLANS = _COUNTED.format("""
    SELECT w.plan_tier AS name, w.slug, w.name AS example FROM authz.workspaces AS w
    WHERE w.plan_tier = ANY (%(names)s) AND w.deleted_at IS NULL
    UNION
    SELECT w.given_plan, w.slug, w.name FROM authz.workspaces AS w
    WHERE w.given_plan = ANY (%(names)s) AND w.deleted_at IS NULL
    UNION
    SELECT s.plan, w.slug, w.name
    FROM authz.workspace_subscriptions AS s
    JOIN authz.workspaces AS w ON w.id = s.workspace_id
    WHERE s.plan = ANY (%(names)s) AND s.status <> 'canceled' AND w.deleted_at IS NULL
""")
_DELETED = _COUNTED.format("""
    SELECT w.plan_tier AS name, w.slug, w.name AS example FROM authz.workspaces AS w
    WHERE w.plan_tier = ANY (%(names)s) AND w.deleted_at IS NOT NULL
""")

_COUNTED_KINDS = frozenset({"members", "owned"})  # by the database: there is usage where there is anybody

_NO_PLAN = (
    'a plan that is no longer in the catalog is still held: "{name}" by {workspaces} ({slug}{more}).'
    " Move them to another plan first (PUT /v1/workspaces/{{id}}/plan), say renamed_from: {name} where it has"
    " another name now, or keep the plan in the catalog"
)
_GONE = (
    '{kind} "{name}" is gone; {what}; say renamed_from: {name} where it has another name now, or keep it in'
    " the catalog"
)
_COUNTED_OTHERWISE = (
    'meter "{name}" is counted otherwise; {what}; declare a meter of another name, or keep its kind, per and'
    " anchor"
)
_MOVED = (
    'plan "{name}" is gone; deleted workspaces that had it, and have the default plan now: {count}, for'
    ' example "{slug}"'
)
_HOLD = 'members who hold it: {count}, for example "{example}" in "{slug}"'
_OFFER = 'open invitations that offer it: {count}, for example to "{example}" in "{slug}"'
_HELD = 'members of deleted workspaces who held it: {count}, for example "{example}" in "{slug}"'
_OVERRIDDEN = 'overrides of it: {count}, for example "{slug}" has it {example}'
_LIMITED = 'overrides of its limit: {count}, for example that of "{slug}" is {example}'
_USED = 'workspaces with usage of it: {count}, for example "{slug}" ({example})'
_SEATED = 'workspaces with members: {count}, for example "{slug}" ({example})'


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """*says* is one line with an example. One that is not *acceptable* leaves no state to be in."""

    says: str
    acceptable: bool = True


def losses_of(
    connection: psycopg.Connection, change: Change, *, catalog: Catalog, before: Published
) -> list[Loss]:
    """What *change* would do to rows as they are."""
    gone, reshaped = change.gone, change.reshaped
    now = {each.renamed_from: each for each in catalog.meters.values()} | dict(catalog.meters)
    counted = {meter for meter, (kind, _, _) in before.shapes.items() if kind in _COUNTED_KINDS}
    reshaped_counted = {meter for meter in reshaped if meter in counted or now[meter].kind in _COUNTED_KINDS}
    found = [
        Loss(says=says, acceptable=False)
        for says in _lines(connection, _PLANS, gone["plan"], _NO_PLAN, kind="plan", what="")
    ]
    for kind, query, names, template, what in (
        ("role", _HOLDERS, gone["role"], _GONE, _HOLD),
        ("role", _INVITED, gone["role"], _GONE, _OFFER),
        ("role", _HELD_BEFORE, gone["role"], _GONE, _HELD),
        ("feature", _OVERRIDES, gone["feature"], _GONE, _OVERRIDDEN),
        ("meter", _LIMITS, gone["meter"], _GONE, _LIMITED),
        ("meter", _USAGE, gone["meter"], _GONE, _USED),
        ("meter", _LIMITS, reshaped, _COUNTED_OTHERWISE, _LIMITED),
        ("meter", _USAGE, reshaped, _COUNTED_OTHERWISE, _USED),
        ("meter", _MEMBERS, gone["meter"] & counted, _GONE, _SEATED),
        ("meter", _MEMBERS, reshaped_counted, _COUNTED_OTHERWISE, _SEATED),
    ):
        found += [
            Loss(says=says) for says in _lines(connection, query, names, template, kind=kind, what=what)
        ]
    return found


def moved_to_default(connection: psycopg.Connection, plans: Collection[str]) -> list[str]:
    """A line for each of *plans*, which are gone, that deleted workspaces have."""
    return _lines(connection, _DELETED, plans, _MOVED, kind="plan", what="")


def _lines(
    connection: psycopg.Connection,
    query: str,
    names: Collection[str],
    template: str,
    *,
    kind: str,
    what: str,
) -> list[str]:
    if not names:
        return []
    rows = connection.execute(query.encode(), {"names": sorted(names)})
    found = []
    for name, count, slug, example in rows:
        of_row = {
            "name": name,
            "count": count,
            "workspaces": f"{count} workspace{'' if count == 1 else 's'}",
            "slug": slug,
            "more": ", …" if count > 1 else "",
            "example": example,
        }
        found.append(template.format(kind=kind, what=what.format(**of_row), **of_row))
    return found
