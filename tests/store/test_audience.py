"""Whom a change concerns: counted and named in one pass, and the same as counted one by one."""

from __future__ import annotations

import json
from collections import defaultdict

import psycopg
import pytest

from sidecar.store.audience import Audience
from sidecar.store.auditing import looking
from tests.postgres_server import rows, run

pytestmark = pytest.mark.postgres

# With an owner or none, with overrides that hold or not, with people who are deleted; one has nobody else.
WORLD = (
    """INSERT INTO authz.workspaces (slug, name, plan_tier, status)
    SELECT 'w' || n, 'W', (ARRAY['starter', 'pro', 'team'])[1 + n % 3],
        CASE n % 5 WHEN 0 THEN 'suspended' ELSE 'active' END
    FROM generate_series(10, 59) AS n""",
    """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, 'u' || m, CASE WHEN m = 0 THEN 'owner' WHEN m % 2 = 0 THEN 'admin' ELSE 'member' END
    FROM authz.workspaces AS w, generate_series(0, 6) AS m
    WHERE w.slug ~ '^w[0-9]' AND (hashtext(w.slug || m) & 3 > 0 OR w.slug = 'w59')""",
    """DELETE FROM authz.workspace_memberships AS m USING authz.workspaces AS w
    WHERE w.id = m.workspace_id AND w.slug = 'w58'""",
    """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT id, 'u5', 'member' FROM authz.workspaces WHERE slug = 'w58'""",
    """INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled, expires_at)
    SELECT w.id, 'feature', f.name, f.enabled, f.ends
    FROM authz.workspaces AS w
    CROSS JOIN (VALUES ('analytics', true, NULL), ('video_avatar', false, now() - interval '1 day'),
        ('team_sessions', false, now() + interval '1 day')) AS f (name, enabled, ends)
    WHERE w.slug ~ '^w[0-9]' AND hashtext(f.name || w.slug) & 1 = 0""",
    "INSERT INTO authz.deleted_users (id) VALUES ('u5')",
    "INSERT INTO authz.deleted_users (id, deleted_at) VALUES ('u6', now() - interval '31 days')",
)
ONE_BY_ONE = """
    SELECT w.slug, w.plan_tier, w.status, m.role, m.user_id, COALESCE((
        SELECT jsonb_object_agg(f.name, f.enabled) FROM authz.workspace_features AS f
        WHERE f.workspace_id = w.id AND f.kind = 'feature' AND (f.expires_at IS NULL OR f.expires_at > now())
    ), '{}')
    FROM authz.workspace_memberships AS m
    JOIN authz.workspaces AS w ON w.id = m.workspace_id
    WHERE authz.is_somebody(m.user_id)
    ORDER BY w.slug, m.user_id
"""


@pytest.fixture(scope="module")
def url(database_url):
    run(database_url, *WORLD)
    return database_url


@pytest.fixture
def members(url):
    return rows(url, ONE_BY_ONE)


def together(members, at_most):
    """As Audience.audience, counted one by one."""
    roles, of = defaultdict(set), defaultdict(list)
    for slug, _, _, role, _, _ in members:
        roles[slug].add(role)
    for slug, plan, status, role, _, features in members:
        of[plan, status, role, tuple(sorted(features.items())), tuple(sorted(roles[slug]))].append(slug)
    return {
        (*kind, len(set(slugs)), len(slugs), tuple(sorted(set(slugs))[:at_most]))
        for kind, slugs in of.items()
    }


def test_people_are_counted_once_by_what_policies_tell_apart(url, members):
    with looking(url) as looked:
        found = list(Audience(looked).audience(at_most=3))

    assert set(found) == together(members, 3)
    assert len(found) == len(set(found))
    assert ("w58",) not in {first for *_, first in found}  # only somebody deleted is in it


def test_the_kinds_alone_are_as_before(url, members):
    slugs = defaultdict(list)
    for slug, plan, status, role, _, features in members:
        slugs[plan, status, role, json.dumps(features, sort_keys=True)].append(slug)

    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT * FROM authz.audience()").fetchall()

    assert {(*row[:3], json.dumps(row[3], sort_keys=True), *row[4:]) for row in found} == {
        (*kind, len(set(each)), len(each)) for kind, each in slugs.items()
    }


def test_people_are_named_by_workspace_and_role_up_to_a_number(url, members):
    with looking(url) as looked:
        found = Audience(looked).people(["w59", "w58", "nowhere"], at_most=2)

    users = defaultdict(list)
    for slug, _, _, role, user, _ in members:
        if slug in {"w59", "w58"}:
            users[slug, role].append(user)
    assert sorted(found) == sorted((*of, user) for of, each in users.items() for user in each[:2])
    assert {slug for slug, _, _ in found} == {"w59"}


def test_workspaces_on_another_plan_are_found_with_and_without_members(url):
    run(url, "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('empty', 'E', 'pro')")

    with looking(url) as looked:
        found = Audience(looked).not_on(["starter", "team"])

    assert ("empty", "pro") in found
    assert found == [
        tuple(row)
        for row in rows(
            url, "SELECT slug, plan_tier FROM authz.workspaces WHERE plan_tier = 'pro' ORDER BY slug"
        )
    ]


def test_who_does_not_exist_is_the_same_for_all_as_for_one(url):
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT id FROM authz.nobodies(NULL) AS n (id)").fetchall()
        one_by_one = connection.execute(
            "SELECT id FROM authz.deleted_users WHERE NOT authz.is_somebody(id) ORDER BY id"
        ).fetchall()
        [(members,)] = connection.execute("SELECT members FROM authz.people() WHERE slug = 'w59'")

    assert sorted(found) == one_by_one == [("u5",)]
    assert [(each["user"], each["exists"]) for each in members] == [(f"u{n}", n != 5) for n in range(7)]
