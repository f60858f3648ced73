-- Who may do something in a workspace: its members in pages, with the facts that are the same for all of them.

CREATE FUNCTION authz.members_of(workspace text, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- As authz.facts: by index, whatever the statistics say.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    known CONSTANT uuid := CASE
        WHEN workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
            THEN workspace::uuid
        ELSE (SELECT w.id FROM authz.workspaces AS w WHERE w.slug = workspace)
    END;
BEGIN
    RETURN (
        SELECT json_build_object(
            'facts', (
                SELECT f.facts FROM authz.member_facts AS f
                WHERE f.workspace_id = known AND f.user_id = min(page.user_id)
            ),
            'members', COALESCE(json_agg(json_build_array(page.user_id, page.role) ORDER BY page.user_id), '[]')
        )
        FROM (
            SELECT m.user_id, m.role
            FROM authz.workspace_memberships AS m
            WHERE m.workspace_id = known
              AND m.user_id > COALESCE(after, '') -- which no user is
            ORDER BY m.user_id
            LIMIT at_most
        ) AS page
    );
END;
$$;
COMMENT ON FUNCTION authz.members_of IS
    'Up to *at_most* [user, role] of a workspace (a UUID or a slug), those behind *after*, and the facts of the first.';
REVOKE ALL ON FUNCTION authz.members_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.members_of TO authz_sidecar;
