-- A page of a user's workspaces is found before its facts are: else they are made of all that come after it, and thrown away.

CREATE OR REPLACE FUNCTION authz.workspaces_of(user_id text, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(f.facts ORDER BY page.slug), '[]')
        FROM (
            SELECT w.id, w.slug
            FROM authz.workspace_memberships AS m
            JOIN authz.workspaces AS w ON w.id = m.workspace_id
            WHERE m.user_id = workspaces_of.user_id
              AND (workspaces_of.after IS NULL OR w.slug > workspaces_of.after)
            ORDER BY w.slug
            LIMIT workspaces_of.at_most
        ) AS page
        JOIN authz.member_facts AS f ON f.workspace_id = page.id AND f.user_id = workspaces_of.user_id
    );
END;
$$;
