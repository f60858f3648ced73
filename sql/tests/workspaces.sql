-- What the tables refuse from any role.
BEGIN;

DO $$
DECLARE
    attempt text;
    refused text;
BEGIN
    FOREACH attempt IN ARRAY ARRAY[
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('3f2b8a52-1111-4222-8333-444455556666', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('3f2b8a52111142228333444455556666', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('Acme', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('-acme', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('acme-', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (repeat('a', 64), 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('two words', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('nameless', '', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('golden', 'x', 'gold')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier, status) VALUES ('frozen', 'x', 'pro', 'frozen')$s$,
        $s$INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('acme', 'x', 'pro')$s$,
        $s$INSERT INTO authz.workspaces (id, slug, name, plan_tier) VALUES ('00000000-0000-0000-0000-000000000000', 'nil', 'x', 'pro')$s$,
        $s$DELETE FROM authz.plans WHERE name = 'pro'$s$,
        $s$UPDATE authz.workspace_memberships SET role = 'owner' WHERE user_id = 'adam'$s$,
        $s$UPDATE authz.workspace_memberships SET user_id = '' WHERE user_id = 'adam'$s$,
        $s$INSERT INTO authz.workspace_features SELECT id, 'feature', 'analytics', NULL, 5 FROM authz.workspaces$s$,
        $s$INSERT INTO authz.workspace_features SELECT id, 'feature', 'analytics', true, 5 FROM authz.workspaces$s$,
        $s$INSERT INTO authz.workspace_features SELECT id, 'limit', 'minutes', true, 5 FROM authz.workspaces$s$,
        $s$INSERT INTO authz.workspace_features SELECT id, 'limit', 'minutes', NULL, -1 FROM authz.workspaces$s$,
        $s$INSERT INTO authz.workspace_usage SELECT id, 'minutes', now(), -1 FROM authz.workspaces$s$,
        $s$INSERT INTO authz.plan_limits VALUES ('pro', 'minutes', -1)$s$,
        $s$INSERT INTO authz.catalog (only_row, revision, default_plan) VALUES (false, 'x', 'pro')$s$
    ] LOOP
        BEGIN
            EXECUTE attempt;
            refused := NULL;
        EXCEPTION
            WHEN integrity_constraint_violation THEN
                refused := SQLERRM;
        END;
        ASSERT refused IS NOT NULL, format('not refused: %s', attempt);
    END LOOP;

    -- Deleting a workspace deletes everything that belongs to it.
    DELETE FROM authz.workspaces WHERE slug = 'acme';
    ASSERT NOT EXISTS (SELECT FROM authz.workspace_memberships WHERE user_id IN ('olivia', 'adam', 'mia'));
END;
$$;

ROLLBACK;
