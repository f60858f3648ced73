-- Whether a sidecar's catalog fits this database can be asked before it answers anybody by it.

CREATE FUNCTION authz.catalog_in_use()
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- As authz.facts: by index, whatever the statistics say.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    RETURN json_build_object(
        'meters', (
            SELECT COALESCE(json_object_agg(t.name, json_build_array(t.kind, t.per, t.anchor)), '{}')
            FROM authz.meters AS t
        ),
        'plans', (
            SELECT COALESCE(json_agg(p.name ORDER BY p.rank), '[]')
            FROM authz.plans AS p
            -- One look into workspaces_plan_tier_idx for each plan. LIMIT keeps it from becoming a join that reads all.
            CROSS JOIN LATERAL (SELECT FROM authz.workspaces AS w WHERE w.plan_tier = p.name LIMIT 1) AS holder
        ),
        'default_plan', (SELECT c.default_plan FROM authz.catalog AS c)
    );
END;
$$;
COMMENT ON FUNCTION authz.catalog_in_use IS
    'The meters that are published, the plans that workspaces hold, deleted ones too, and the plan of those to come.';
REVOKE ALL ON FUNCTION authz.catalog_in_use FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.catalog_in_use TO authz_sidecar;
