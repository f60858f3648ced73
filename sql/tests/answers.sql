-- As the application: the seed's functions, by the names of their arguments.
BEGIN;

CREATE TEMPORARY TABLE known AS SELECT slug, id FROM authz.workspaces;
GRANT SELECT ON known TO authz_app;
INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
SELECT id, 'adam', CASE slug WHEN 'solo' THEN 'janitor' ELSE 'member' END FROM known WHERE slug IN ('solo', 'piano', 'zoe');

SET LOCAL ROLE authz_app;

DO $$
DECLARE
    acme CONSTANT uuid := (SELECT id FROM known WHERE slug = 'acme');
    solo CONSTANT uuid := (SELECT id FROM known WHERE slug = 'solo');
    seen record;
BEGIN
    ASSERT authz.is_workspace_member(user_id => 'adam', workspace_id => acme);
    ASSERT authz.get_workspace_role(user_id => 'adam', workspace_id => acme) = 'admin';
    ASSERT authz.has_feature_access(workspace_id => acme, feature => 'team_sessions');

    -- By slug; a membership with an undeclared role does not count.
    SELECT array_agg(w.slug) AS slugs, array_agg(w.role) AS roles, array_agg(w.plan_tier) AS plans INTO seen
    FROM authz.get_user_workspaces(user_id => 'adam') AS w;
    ASSERT seen.slugs = '{acme,piano,zoe}' AND seen.roles = '{admin,member,member}', seen::text;
    ASSERT seen.plans = '{team,pro,starter}', seen::text;
    ASSERT NOT authz.is_workspace_member('adam', solo);
    ASSERT authz.get_workspace_role('adam', solo) IS NULL;
    SELECT w.* INTO seen FROM authz.get_user_workspaces('sam') AS w;
    ASSERT (seen.workspace_id, seen.slug, seen.name, seen.plan_tier, seen.role, seen.status)
        = (solo, 'solo', 'Solo', 'starter', 'owner', 'active'), seen::text;
    ASSERT seen.joined_at <= now(), seen::text;

    -- Unknown users and workspaces are false, never NULL, where the result is a boolean.
    ASSERT authz.is_workspace_member('nobody', acme) = false;
    ASSERT authz.is_workspace_member('adam', gen_random_uuid()) = false;
    ASSERT authz.is_workspace_member(NULL, acme) = false;
    ASSERT authz.is_workspace_member('adam', NULL) = false;
    ASSERT authz.get_workspace_role('nobody', acme) IS NULL;
    ASSERT authz.get_workspace_role('adam', NULL) IS NULL;
    ASSERT authz.has_feature_access(gen_random_uuid(), 'analytics') = false;
    ASSERT authz.has_feature_access(NULL, 'analytics') = false;
    ASSERT authz.has_feature_access(acme, NULL) = false;
    ASSERT authz.has_feature_access(acme, 'telepathy') = false;
    ASSERT NOT EXISTS (SELECT FROM authz.get_user_workspaces('nobody'));
    ASSERT NOT EXISTS (SELECT FROM authz.get_user_workspaces(NULL));
END;
$$;

ROLLBACK;
