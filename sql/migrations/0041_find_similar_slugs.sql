-- An administrator who misspells a workspace is told which one they may have meant.

CREATE FUNCTION authz.slugs_like(asked text, candidates text[])
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(found.slug ORDER BY found.slug), '[]')
        FROM (
            (
                SELECT w.slug
                FROM authz.workspaces AS w
                WHERE w.slug = ANY (candidates) AND w.deleted_at IS NULL
                LIMIT 10
            )
            UNION
            (
                SELECT w.slug
                FROM authz.workspaces AS w
                WHERE w.slug > asked || '-' AND w.slug < asked || '.' AND w.deleted_at IS NULL
                ORDER BY w.slug
                LIMIT 10
            )
        ) AS found
    );
END;
$$;
COMMENT ON FUNCTION authz.slugs_like IS
'Workspaces that somebody may have meant. For administrators alone: it tells which workspaces there are.
- asked: the slug that was asked for, in lower case.
- candidates: slugs that differ from it by a letter.
Returns: a list of at most 20 slugs, in their order: of the candidates, and of those that begin with the slug and a hyphen.
Called by: authz_sidecar, when an administrator names a workspace that does not exist.';
REVOKE ALL ON FUNCTION authz.slugs_like FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.slugs_like TO authz_sidecar;
