-- What most questions need of a member, without meters: less to read and to write for PostgreSQL than authz.facts_for.

CREATE FUNCTION authz.plain_facts(users text[], workspaces text[])
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET plan_cache_mode = 'force_generic_plan'
SET enable_seqscan = 'off'
SET enable_bitmapscan = 'off'
SET enable_hashjoin = 'off'
SET enable_mergejoin = 'off'
AS $$
DECLARE
    found json;
    has_turned boolean;
    nobody CONSTANT text[] := ARRAY(SELECT u.id FROM unnest(users) AS u (id) WHERE NOT authz.is_somebody(u.id));
BEGIN
    IF cardinality(users) IS DISTINCT FROM cardinality(workspaces) THEN
        RAISE EXCEPTION 'workspaces: one text for each of % users expected, got %',
            cardinality(users), cardinality(workspaces)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF array_to_string(workspaces, ' ') LIKE '%ext:%' THEN
        workspaces := authz.without_external_ids(workspaces);
    END IF;
    SELECT
        json_build_object(
            'at', statement_timestamp(),
            'rows', COALESCE(json_agg(
                CASE WHEN m.role IS NOT NULL THEN json_build_array(
                    w.id, w.slug, w.name, m.role, w.plan_tier, w.status,
                    (
                        SELECT json_object_agg(f.name, f.enabled)
                        FROM authz.workspace_features AS f
                        WHERE f.workspace_id = w.id
                          AND f.kind = 'feature'
                          AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
                    ),
                    w.facts_version
                ) END ORDER BY q.number
            ), '[]')
        ),
        bool_or(w.turns_at <= statement_timestamp())
    INTO found, has_turned
    FROM unnest(users, workspaces) WITH ORDINALITY AS q (user_id, workspace, number)
    LEFT JOIN LATERAL (
        SELECT s.id, s.slug, s.name, s.plan_tier, s.status, s.facts_version, s.turns_at
        FROM authz.workspaces AS s
        WHERE s.slug = q.workspace
        UNION ALL
        SELECT i.id, i.slug, i.name, i.plan_tier, i.status, i.facts_version, i.turns_at
        FROM authz.workspaces AS i
        WHERE i.id = CASE
            WHEN q.workspace LIKE '________-____-____-____-____________'
                AND q.workspace ~ '^[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+$'
                THEN q.workspace::uuid
        END
    ) AS w ON true
    -- A membership is looked for whether the workspace exists or not.
    LEFT JOIN LATERAL (
        SELECT o.role
        FROM authz.workspace_memberships AS o
        WHERE o.workspace_id = COALESCE(w.id, '00000000-0000-0000-0000-000000000000')
          AND o.user_id = q.user_id
          AND o.user_id <> ALL (nobody)
        OFFSET 0
    ) AS m ON true;
    IF NOT has_turned IS TRUE THEN
        RETURN found;
    END IF;
    -- The same of those whose plan or status has changed by time since the last write.
    RETURN (
        SELECT json_build_object('at', found -> 'at', 'rows', json_agg(
            CASE
                WHEN n.id IS NULL THEN r.row
                ELSE json_build_array(
                    n.id, n.slug, n.name, r.row -> 3, n.plan_tier, n.status, r.row -> 6, n.facts_version
                )
            END ORDER BY r.number
        ))
        FROM json_array_elements(found -> 'rows') WITH ORDINALITY AS r (row, number)
        LEFT JOIN authz.workspaces_now AS n ON n.id = (r.row ->> 0)::uuid
    );
END;
$$;
COMMENT ON FUNCTION authz.plain_facts IS
    'The facts about members that questions need which take nothing. As with authz.facts_for, the time that it takes tells
nobody whether a workspace exists.
- users: the user of each question.
- workspaces: the workspace of each question: a UUID, a slug, or ext: and an external id, in the order of users.
Returns: {at: the time that all of this is true of, rows: a list in the order of the questions}. A row is [workspace, slug, name,
role, plan, status, {feature: true or false} of the overrides that hold or null, facts_version], or null for whoever is not
in the workspace and for a workspace that does not exist.
Called by: authz_sidecar, for most decisions.';
REVOKE ALL ON FUNCTION authz.plain_facts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.plain_facts TO authz_sidecar;
