"""What the history tells of any moment is what the tables were then."""

from __future__ import annotations

from random import Random

import psycopg
import pytest

from sidecar.store.world import load

pytestmark = pytest.mark.postgres

HISTORIES = 500
STEPS = 5
UNACCOUNTED = "SELECT * FROM authz.unaccounted()"
MEMBERS = "SELECT workspace_id, user_id, role FROM authz.workspace_memberships ORDER BY 1, 2"
WORKSPACES = """
    SELECT w.id, w.slug, w.name, w.plan_tier, w.status,
        COALESCE(jsonb_object_agg(f.name, f.enabled) FILTER (WHERE f.kind = 'feature'), '{}'),
        COALESCE(jsonb_object_agg(f.name, f.at_most) FILTER (WHERE f.kind = 'limit'), '{}')
    FROM authz.workspaces AS w
    LEFT JOIN authz.workspace_features AS f
        ON f.workspace_id = w.id AND (f.expires_at IS NULL OR f.expires_at > %s)
    WHERE w.deleted_at IS NULL
    GROUP BY w.id
    ORDER BY w.id
"""
MEMBERS_AT = "SELECT workspace_id, user_id, role FROM authz.members_at(%s)"
WORKSPACES_AT = "SELECT * FROM authz.workspaces_at(%s)"


def act(random, cursor, slug):
    """One random change in a workspace that may be there, by the functions of the sidecar or by hand."""
    somebody, other = random.choice("abcdef"), random.choice("abcdef")
    of = {
        "slug": slug,
        "user": f"{somebody}-{random.randrange(40)}",
        "other": f"{other}-{random.randrange(40)}",
    }
    of |= {"role": random.choice(["admin", "member"]), "plan": random.choice(["starter", "pro", "team"])}
    of |= {"name": random.choice(["analytics", "video_avatar"]), "n": random.randrange(1000)}
    of |= {"fresh": f"{slug}-{random.randrange(10**9)}", "s": random.choice([-1, 0.05, 1, 1000])}
    cursor.execute(random.choice(CHANGES), of)


CHANGES = (
    """INSERT INTO authz.workspace_memberships SELECT id, %(user)s, %(role)s FROM authz.workspaces
    WHERE slug = %(slug)s ON CONFLICT DO NOTHING""",
    """INSERT INTO authz.workspace_memberships SELECT id, %(user)s, %(role)s FROM authz.workspaces
    WHERE slug = %(slug)s ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role
    WHERE workspace_memberships.role <> 'owner'""",
    """SELECT authz.change_role(w.id, w.facts_version, m.user_id, %(role)s)
    FROM authz.workspaces AS w JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id
    WHERE w.slug = %(slug)s AND w.deleted_at IS NULL ORDER BY random() LIMIT 1""",
    """SELECT authz.remove_member(w.id, w.facts_version, m.user_id)
    FROM authz.workspaces AS w JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id
    WHERE w.slug = %(slug)s AND w.deleted_at IS NULL AND m.role <> 'owner' ORDER BY random() LIMIT 1""",
    """SELECT authz.transfer_ownership(w.id, w.facts_version, m.user_id, 'admin')
    FROM authz.workspaces AS w JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id
    WHERE w.slug = %(slug)s AND w.deleted_at IS NULL AND m.role <> 'owner' ORDER BY random() LIMIT 1""",
    """SELECT authz.delete_workspace(id, facts_version) FROM authz.workspaces
    WHERE slug = %(slug)s AND deleted_at IS NULL""",
    """SELECT authz.restore_workspace(id) FROM authz.workspaces
    WHERE slug = %(slug)s AND deleted_at IS NOT NULL""",
    "DELETE FROM authz.workspaces WHERE slug = %(slug)s AND deleted_at IS NOT NULL",
    """SELECT authz.forget_users(ARRAY(
        SELECT m.user_id FROM authz.workspace_memberships AS m
        JOIN authz.workspaces AS w ON w.id = m.workspace_id
        WHERE w.slug = %(slug)s ORDER BY random() LIMIT 1
    ))""",
    """SELECT authz.set_overrides(slug, jsonb_build_object(%(name)s::text, true),
        jsonb_build_object('minutes', %(n)s::int), clock_timestamp() + %(s)s * interval '1 second')
    FROM authz.workspaces WHERE slug = %(slug)s AND deleted_at IS NULL""",
    """SELECT authz.set_overrides(slug, jsonb_build_object(%(name)s::text, NULL), '{"minutes": "unlimited"}')
    FROM authz.workspaces WHERE slug = %(slug)s AND deleted_at IS NULL""",
    """SELECT authz.set_plan(slug, %(plan)s) FROM authz.workspaces
    WHERE slug = %(slug)s AND deleted_at IS NULL""",
    """SELECT authz.set_status(slug, 'suspended') FROM authz.workspaces
    WHERE slug = %(slug)s AND deleted_at IS NULL""",
    "UPDATE authz.workspaces SET status = 'active', name = %(fresh)s WHERE slug = %(slug)s",
    "SELECT authz.create_default_workspace(%(user)s, %(user)s || '@example.com')",
    # By hand.
    """UPDATE authz.workspace_memberships AS m SET user_id = %(fresh)s FROM authz.workspaces AS w
    WHERE w.id = m.workspace_id AND w.slug = %(slug)s AND m.user_id = %(other)s""",
    """UPDATE authz.workspace_memberships AS m SET workspace_id = t.id, role = 'member'
    FROM authz.workspaces AS w, (SELECT id FROM authz.workspaces ORDER BY random() LIMIT 1) AS t
    WHERE w.id = m.workspace_id AND w.slug = %(slug)s AND m.role <> 'owner'
      AND NOT EXISTS (
          SELECT FROM authz.workspace_memberships AS o WHERE o.workspace_id = t.id AND o.user_id = m.user_id
      )""",
    """UPDATE authz.workspace_features AS f SET name = 'sso_' || f.name FROM authz.workspaces AS w
    WHERE w.id = f.workspace_id AND w.slug = %(slug)s AND length(f.name) < 60""",
    """UPDATE authz.workspaces SET deleted_at = now(), deleted_by = 'me', members_before = '[]'
    WHERE slug = %(slug)s AND deleted_at IS NULL""",
    """DELETE FROM authz.workspace_memberships AS m USING authz.workspaces AS w
    WHERE w.id = m.workspace_id AND w.slug = %(slug)s AND m.role <> 'owner'""",
    "UPDATE authz.workspaces SET subscribed_at = subscribed_at - interval '1 day' WHERE slug = %(slug)s",
)


def test_500_random_histories_tell_of_each_moment_what_the_tables_were_then(fresh_database_url, tmp_path):
    """All at once, so that they also move people to and fro."""
    random = Random(16)  # noqa: S311 - the same histories in each run
    slugs = [f"h-{number}" for number in range(HISTORIES)]
    steps = [slug for slug in slugs for _ in range(STEPS)]
    random.shuffle(steps)
    world = tmp_path / "world.yaml"
    seen = []
    with psycopg.connect(fresh_database_url) as connection, connection.cursor() as cursor:

        def look():
            [(now,)] = cursor.execute("SELECT clock_timestamp()").fetchall()
            seen.append(
                (
                    now,
                    cursor.execute(MEMBERS).fetchall(),
                    cursor.execute(WORKSPACES, (now,)).fetchall(),
                )
            )
            connection.commit()

        for slug in slugs:
            cursor.execute(
                "SELECT authz.create_workspace(gen_random_uuid(), %s, %s)", (f"owner-{slug}", slug)
            )
            cursor.execute(
                "UPDATE authz.workspaces SET slug = %s WHERE slug LIKE %s", (slug, f"{slug}-________")
            )
        connection.commit()
        for number, slug in enumerate(steps):
            act(random, cursor, slug)
            if number % 4 == 0:
                connection.commit()
                by = random.choice(["user", "caller", "sql"])
                cursor.execute("SELECT authz.acting_as(%s, %s, %s)", (f"owner-{slug}", by, f"d-{number}"))
            if number % 400 == 399:
                look()
                connection.commit()
                world.write_text(
                    f"workspaces:\n  - {{slug: {slug}, name: Loaded, plan: pro, owner: lo-{number},"
                    f" members: {{mo: admin}}, overrides: {{features: {{analytics: true}}}}}}\n"
                )
                load(fresh_database_url, world)
                look()

        def agree(since):
            for moment, members, workspaces in seen:
                if moment >= since:
                    assert cursor.execute(MEMBERS_AT, (moment,)).fetchall() == members
                    assert cursor.execute(WORKSPACES_AT, (moment,)).fetchall() == workspaces
            assert cursor.execute(UNACCOUNTED).fetchall() == []

        agree(seen[0][0])
        middle = seen[len(seen) // 2][0]
        cursor.execute("SELECT authz.prune_history(%s)", (middle,))
        assert cursor.execute("SELECT authz.known_since()").fetchone() == (middle,)
        agree(middle)
        connection.rollback()
