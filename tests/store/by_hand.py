"""What somebody may do to the tables in psql: what is recorded then, and what is refused."""

from __future__ import annotations

BY_HAND = {
    "another user": "UPDATE authz.workspace_memberships SET user_id = 'eve' WHERE user_id = 'mia'",
    "another workspace": """
        UPDATE authz.workspace_memberships
        SET workspace_id = (SELECT id FROM authz.workspaces WHERE slug = 'solo') WHERE user_id = 'mia'""",
    "another user and role": """
        UPDATE authz.workspace_memberships SET user_id = 'x', role = 'admin' WHERE user_id = 'mia'""",
    "merged": """
        MERGE INTO authz.workspace_memberships AS m USING (SELECT 'mia' AS u) AS s ON m.user_id = s.u
        WHEN MATCHED THEN UPDATE SET role = 'admin'""",
    "when they joined": "UPDATE authz.workspace_memberships SET joined_at = now() - interval '1 year'",
    "another slug": "UPDATE authz.workspaces SET slug = 'acme-2' WHERE slug = 'acme'",
    "another anchor": "UPDATE authz.workspaces SET subscribed_at = '2020-01-31' WHERE slug = 'acme'",
    "another date": "UPDATE authz.workspaces SET created_at = '2020-01-31' WHERE slug = 'acme'",
    "another reason": "UPDATE authz.workspaces SET status_reason = 'because' WHERE slug = 'acme'",
    "another id": """
        INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('new', 'New', 'pro');
        UPDATE authz.workspaces SET id = gen_random_uuid() WHERE slug = 'new'""",
    "made suspended": """
        INSERT INTO authz.workspaces (slug, name, plan_tier, status)
        VALUES ('new', 'New', 'pro', 'suspended')""",
    "made deleted": """
        INSERT INTO authz.workspaces (slug, name, plan_tier, deleted_at, deleted_by, members_before)
        VALUES ('new', 'New', 'pro', now(), 'me', '[]')""",
    "deleted, but not its members": """
        UPDATE authz.workspaces SET deleted_at = now(), deleted_by = 'me',
            members_before = '[{"user_id": "mia", "role": "member", "joined_at": "2020-01-01"}]'
        WHERE slug = 'acme'""",
    "deleted, then its members": """
        UPDATE authz.workspaces SET deleted_at = now(), deleted_by = 'me', members_before = '[]'
        WHERE slug = 'acme';
        DELETE FROM authz.workspace_memberships WHERE user_id = 'mia'""",
    "put into a deleted one and taken out": """
        SELECT authz.delete_workspace(id, facts_version) FROM authz.workspaces WHERE slug = 'acme';
        INSERT INTO authz.workspace_memberships
        SELECT id, 'mia', 'admin' FROM authz.workspaces WHERE slug = 'acme';
        DELETE FROM authz.workspace_memberships WHERE user_id = 'mia'""",
    "restored and suspended": """
        SELECT authz.delete_workspace(id, facts_version) FROM authz.workspaces WHERE slug = 'acme';
        UPDATE authz.workspaces
        SET deleted_at = NULL, deleted_by = NULL, members_before = NULL, status = 'suspended'
        WHERE slug = 'acme'""",
    "an override of another name": """
        INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled)
        SELECT id, 'feature', 'analytics', true FROM authz.workspaces WHERE slug = 'acme';
        UPDATE authz.workspace_features SET name = 'video_avatar'""",
    "an override of another kind": """
        INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled)
        SELECT id, 'feature', 'analytics', true FROM authz.workspaces WHERE slug = 'acme';
        UPDATE authz.workspace_features SET kind = 'limit', enabled = NULL, at_most = 5""",
    "an override of another workspace": """
        INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
        SELECT id, 'limit', 'minutes', 5 FROM authz.workspaces WHERE slug = 'acme';
        UPDATE authz.workspace_features
        SET workspace_id = (SELECT id FROM authz.workspaces WHERE slug = 'solo')""",
    "an invitation": """
        INSERT INTO authz.workspace_invitations
        SELECT id, gen_random_uuid(), 'eve@example.com', 'admin', 'adam', sha256('t'),
            now(), now() + interval '1 day'
        FROM authz.workspaces WHERE slug = 'acme'""",
    "a plan's feature": "DELETE FROM authz.plan_features WHERE plan = 'team'",
    "a plan's limit": "UPDATE authz.plan_limits SET at_most = 7 WHERE plan = 'team' AND meter = 'minutes'",
    "an action's role": "INSERT INTO authz.action_roles (action, role) VALUES ('billing.manage', 'member')",
    "the revision": "UPDATE authz.catalog SET revision = 'x'",
    "a meter": "UPDATE authz.meters SET per = 'day' WHERE name = 'minutes'",
}
REFUSED = {
    **{
        f"TRUNCATE {table}": f"TRUNCATE authz.{table} CASCADE"
        for table in (
            "workspaces",
            "workspace_memberships",
            "workspace_features",
            "workspace_invitations",
            "outbox",
            "plans",
            "plan_features",
            "plan_limits",
            "action_roles",
            "roles",
            "catalog",
            "policy_history",
            "log_anchors",
            "history_digests",
        )
    },
    "a changed row": "UPDATE authz.outbox SET actor = 'somebody'",
    "a deleted row": "DELETE FROM authz.outbox WHERE kind = 'member.joined'",
    "a changed publication": "UPDATE authz.policy_history SET login = 'somebody'",
    "a deleted publication": "DELETE FROM authz.policy_history",
    "a changed hash": "UPDATE authz.history_digests SET rows = 0",
    "a rewritten anchor": """
        SELECT authz.anchor_log('w', 1, sha256('a'));
        SELECT authz.anchor_log('w', 1, sha256('b'))""",
    "a changed anchor": """
        SELECT authz.anchor_log('w', 1, sha256('a'));
        UPDATE authz.log_anchors SET head = sha256('b')""",
    "a deleted anchor": """
        SELECT authz.anchor_log('w', 1, sha256('a'));
        DELETE FROM authz.log_anchors""",
}
