-- What an application asks from within SQL, under the seed's names: the answers that the policies give, as far as
-- tables can give them. They believe whatever user they are told, so nobody may ask but the sidecar and the application.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authz_app') THEN
        CREATE ROLE authz_app NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- made by the migration of another database a moment ago
END;
$$;
GRANT USAGE ON SCHEMA authz TO authz_app;

CREATE VIEW authz.members AS
SELECT m.workspace_id, m.user_id, m.role, r.rank, m.joined_at
FROM authz.workspace_memberships AS m
JOIN authz.roles AS r ON r.name = m.role;
COMMENT ON VIEW authz.members IS
    'The memberships that make a member. One in a role that the catalog does not declare makes none, as in the policies.';

CREATE FUNCTION authz.is_workspace_member(user_id text, workspace_id uuid)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.members AS m
        WHERE m.workspace_id = is_workspace_member.workspace_id
          AND m.user_id = is_workspace_member.user_id
    );
END;
$$;
COMMENT ON FUNCTION authz.is_workspace_member IS
    'Whether the policies would not say not_a_member: false too for a workspace that does not exist, or for NULL.';
REVOKE ALL ON FUNCTION authz.is_workspace_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.is_workspace_member TO authz_sidecar, authz_app;

CREATE FUNCTION authz.get_workspace_role(user_id text, workspace_id uuid)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT m.role
        FROM authz.members AS m
        WHERE m.workspace_id = get_workspace_role.workspace_id
          AND m.user_id = get_workspace_role.user_id
    );
END;
$$;
COMMENT ON FUNCTION authz.get_workspace_role IS
    'NULL for whoever is no member. A suspended workspace has members: what they may do in it is for the policies.';
REVOKE ALL ON FUNCTION authz.get_workspace_role FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.get_workspace_role TO authz_sidecar, authz_app;

CREATE FUNCTION authz.get_user_workspaces(user_id text)
RETURNS TABLE (
    workspace_id uuid,
    slug text,
    name text,
    plan_tier text,
    role text,
    status text,
    joined_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT w.id, w.slug, w.name, w.plan_tier, m.role, w.status, m.joined_at
    FROM authz.members AS m
    JOIN authz.workspaces AS w ON w.id = m.workspace_id
    WHERE m.user_id = get_user_workspaces.user_id
    ORDER BY w.slug;
END;
$$;
COMMENT ON FUNCTION authz.get_user_workspaces IS 'By slug, as authz.workspaces_of; none for an unknown user.';
REVOKE ALL ON FUNCTION authz.get_user_workspaces FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.get_user_workspaces TO authz_sidecar, authz_app;

CREATE FUNCTION authz.has_feature_access(workspace_id uuid, feature text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.workspaces AS w
        JOIN authz.features AS f ON f.name = has_feature_access.feature -- an override alone declares nothing
        LEFT JOIN authz.workspace_features AS o
            ON o.workspace_id = w.id
            AND o.kind = 'feature'
            AND o.name = f.name
            AND (o.expires_at IS NULL OR o.expires_at > statement_timestamp())
        WHERE w.id = has_feature_access.workspace_id
          AND w.status = 'active'
          AND w.deleted_at IS NULL
          AND COALESCE(o.enabled, EXISTS (
              SELECT FROM authz.plan_features AS p WHERE p.plan = w.plan_tier AND p.feature = f.name
          ))
    );
END;
$$;
COMMENT ON FUNCTION authz.has_feature_access IS
    'Whether the policies grant feature:<feature> to a member of the workspace: never while it is suspended.';
REVOKE ALL ON FUNCTION authz.has_feature_access FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.has_feature_access TO authz_sidecar, authz_app;
