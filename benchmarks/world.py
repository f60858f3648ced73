"""The benchmark's world: workspaces w0, w1, … of five members, in PostgreSQL and as OPA would hold it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.catalog.catalog import Catalog

MEMBERS = 5
PLANS = ("starter", "pro", "team")
ROLES = ("owner", "admin", "member", "member", "member")

FILL = """
INSERT INTO authz.workspaces (id, slug, name, plan_tier)
SELECT gen_random_uuid(), 'w' || n, 'Workspace ' || n, (ARRAY['starter', 'pro', 'team'])[1 + n %% 3]
FROM generate_series(0, %(workspaces)s - 1) AS n;
"""
FILL_MEMBERS = """
INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
SELECT w.id,
       'u' || substr(w.slug, 2) || '-' || m,
       (ARRAY['owner', 'admin', 'member', 'member', 'member'])[1 + m]
FROM authz.workspaces AS w, generate_series(0, 4) AS m
WHERE w.slug ~ '^w[0-9]+$';
"""


def fill(url: str, *, workspaces: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL, {"workspaces": workspaces})
        connection.execute(FILL_MEMBERS)
        connection.execute("VACUUM ANALYZE")


def write_for_opa(path: Path, catalog: Catalog, *, workspaces: int) -> None:
    document = {
        "plans": {name: {"features": sorted(plan.features)} for name, plan in catalog.plans.items()},
        "actions": {
            name: {"roles": list(action.roles), "feature": action.feature}
            for name, action in catalog.actions.items()
        },
        "workspaces": {
            f"w{n}": {
                "plan": PLANS[n % len(PLANS)],
                "members": {f"u{n}-{m}": role for m, role in enumerate(ROLES)},
            }
            for n in range(workspaces)
        },
    }
    path.write_text(json.dumps(document))
