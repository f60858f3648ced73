"""What audits are measured with: half a million memberships with a history, a catalog of 20,000 cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from pathlib import Path

MEMBERSHIPS = 500_000
MEMBERS = 5
LARGE_ACTIONS = 185  # 20,000 cells, with the plans and roles of the shipped catalog
# With the triggers, so that the history tells the same; but users come without a workspace of their own.
FILL = (
    """
    INSERT INTO authz.workspaces (slug, name, plan_tier, status)
    SELECT 'w' || n, 'Workspace ' || n, (ARRAY['starter', 'pro', 'team'])[1 + n %% 3],
        CASE n %% 50 WHEN 0 THEN 'suspended' ELSE 'active' END
    FROM generate_series(0, %(workspaces)s - 1) AS n
    """,
    """
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'u' || substr(w.slug, 2) || '-' || m,
        (ARRAY['owner', 'admin', 'member', 'member', 'member'])[1 + m]
    FROM authz.workspaces AS w, generate_series(0, %(members)s - 1) AS m
    """,
    """
    INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled, reason)
    SELECT w.id, 'feature', f.name, f.enabled, 'trial'
    FROM authz.workspaces AS w
    CROSS JOIN (VALUES ('video_avatar', true, 10), ('analytics', true, 15), ('analytics', false, 16))
        AS f (name, enabled, nth)
    WHERE substr(w.slug, 2)::integer %% f.nth = f.nth - 1
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
    SELECT w.id, 'minutes', date_trunc('month', now(), 'UTC'), substr(w.slug, 2)::integer %% 120
    FROM authz.workspaces AS w
    """,
    "SET session_replication_role = replica",
    """
    INSERT INTO authz.users (id, email)
    SELECT m.user_id, m.user_id || '@example.com' FROM authz.workspace_memberships AS m
    """,
    "RESET session_replication_role",
    "VACUUM ANALYZE",
)


def fill(url: str) -> None:
    values = {"workspaces": MEMBERSHIPS // MEMBERS, "members": MEMBERS}
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in FILL:
            connection.execute(statement.encode(), values if "%" in statement else None)


def changed(plans: str) -> str:
    """*plans* with a right lost, one gained, and a smaller limit: as somebody might want to publish it."""
    for old, new in (
        ("minutes: 100,", "minutes: 60,"),
        ("members.remove: {role: admin}", "members.remove: {role: owner}"),
        ("features: [video_avatar, live_coaching, analytics]", "features: [video_avatar, live_coaching]"),
    ):
        if old not in plans:
            raise ValueError(f"plans.yaml has no {old}")
        plans = plans.replace(old, new)
    return plans


def large(plans: str, file: Path) -> None:
    """Writes *plans* with so many actions more."""
    more = "".join(
        f"  large.action_{n}: {{role: member, feature: analytics}}\n" for n in range(LARGE_ACTIONS)
    )
    head, actions, tail = plans.partition("  platform.use:")
    file.write_text(f"{head}{more}{actions}{tail}")
