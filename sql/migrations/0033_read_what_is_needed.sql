-- A decision reads no more than it needs: the meters that the question names, in rows without names of fields.

-- The next two are written so that PostgreSQL puts their queries in place of the calls: SECURITY DEFINER or SET would
-- prevent that.
CREATE FUNCTION authz.asked(users text[], workspaces text[], meters text[])
RETURNS TABLE (
    number bigint,
    wanted text,
    workspace_id uuid,
    slug text,
    name text,
    role text,
    plan text,
    status text,
    subscribed_at timestamptz,
    member_count bigint,
    version bigint
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        q.number, q.meters, w.id, w.slug, w.name, m.role, w.plan_tier, w.status, w.subscribed_at, w.member_count,
        w.facts_version
    FROM unnest(users, workspaces, meters) WITH ORDINALITY AS q (user_id, workspace, meters, number)
    LEFT JOIN LATERAL (
        SELECT s.id, s.slug, s.name, s.plan_tier, s.status, s.subscribed_at, s.member_count, s.facts_version
        FROM authz.workspaces AS s
        WHERE s.slug = q.workspace
        UNION ALL
        SELECT i.id, i.slug, i.name, i.plan_tier, i.status, i.subscribed_at, i.member_count, i.facts_version
        FROM authz.workspaces AS i
        -- As the usual pattern of a UUID with counted repetitions, which takes three times as long.
        WHERE i.id = CASE
            WHEN q.workspace LIKE '________-____-____-____-____________'
                AND q.workspace ~ '^[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+-[0-9a-fA-F]+$'
                THEN q.workspace::uuid
        END
    ) AS w ON true
    LEFT JOIN LATERAL (
        SELECT m.role
        FROM authz.workspace_memberships AS m
        -- The nil UUID, which no workspace has, and not NULL: a membership is looked for in any case.
        WHERE m.workspace_id = COALESCE(w.id, '00000000-0000-0000-0000-000000000000') AND m.user_id = q.user_id
        OFFSET 0 -- by both: else all memberships of a user may be read, if statistics say that they are few
    ) AS m ON true;
END;
COMMENT ON FUNCTION authz.asked IS
'The questions of authz.facts_for, each with its workspace. The number of look-ups is the same whether the workspace
exists or not.
- users: as in authz.facts_for.
- workspaces: as in authz.facts_for.
- meters: as in authz.facts_for.
- number: (result) the place of the question, from 1.
- wanted: (result) its meters.
- workspace_id: (result) the workspace. NULL, as the rest: it does not exist.
- slug: (result) of the workspace.
- name: (result) of the workspace.
- role: (result) of the user in the workspace. NULL: not a member, who may be told nothing of the workspace.
- plan: (result) of the workspace.
- status: (result) of the workspace.
- subscribed_at: (result) where its months begin, if the meter counts them from the subscription.
- member_count: (result) the number of its members.
- version: (result) its facts_version.
Returns: a row for each question, in any order.
Called by: authz.facts_for.';
REVOKE ALL ON FUNCTION authz.asked FROM PUBLIC;

CREATE FUNCTION authz.overrides_of(workspace_id uuid, wanted text)
RETURNS TABLE (features json, limits json, until timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        COALESCE(json_object_agg(f.name, f.enabled) FILTER (WHERE f.kind = 'feature'), '{}'),
        COALESCE(json_object_agg(f.name, f.at_most) FILTER (
            WHERE f.kind = 'limit' AND (wanted IS NULL OR f.name = ANY (string_to_array(wanted, ',')))
        ), '{}'),
        min(f.expires_at)
    FROM authz.workspace_features AS f
    WHERE f.workspace_id = overrides_of.workspace_id
      AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp());
END;
COMMENT ON FUNCTION authz.overrides_of IS
'The overrides of a workspace that hold.
- workspace_id: the workspace.
- wanted: names of meters, separated by commas. NULL: all.
- features: (result) {feature: true or false}.
- limits: (result) {meter: limit, or null for unlimited} of those meters.
- until: (result) when the first of all its overrides ends. NULL: none ends.
Returns: one row.
Called by: authz.facts_for.';
REVOKE ALL ON FUNCTION authz.overrides_of FROM PUBLIC;

CREATE FUNCTION authz.facts_for(users text[], workspaces text[], meters text[])
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- As authz.facts: one plan, by index, whatever the statistics say. Each setting costs 0.1 µs a call.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    every text;
BEGIN
    IF cardinality(users) IS DISTINCT FROM cardinality(meters) THEN
        RAISE EXCEPTION 'meters: one text for each of % users expected, got %',
            cardinality(users), cardinality(meters)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two queries: PostgreSQL sets up the part about meters even if no question needs it, and that takes as long as
    -- all the rest of one question.
    IF '' = ALL (meters) THEN
        RETURN (
            SELECT COALESCE(json_agg(
                CASE WHEN a.role IS NOT NULL THEN (
                    SELECT json_build_array(
                        a.workspace_id, a.slug, a.name, a.role, a.plan, a.status, o.features, o.limits,
                        '{}'::json,
                        o.until, a.version, statement_timestamp()
                    )
                    FROM authz.overrides_of(a.workspace_id, '') AS o
                ) END ORDER BY a.number
            ), '[]')
            FROM authz.asked(users, workspaces, meters) AS a
        );
    END IF;
    IF array_position(meters, NULL) IS NOT NULL THEN
        every := (SELECT string_agg(t.name, ',') FROM authz.meters AS t);
    END IF;
    RETURN (
        SELECT COALESCE(json_agg(
            CASE WHEN a.role IS NOT NULL THEN (
                SELECT json_build_array(
                    a.workspace_id, a.slug, a.name, a.role, a.plan, a.status, o.features, o.limits,
                    CASE WHEN a.wanted = '' THEN '{}' ELSE (
                        SELECT COALESCE(json_object_agg(t.name, json_build_array(
                            CASE
                                WHEN t.kind = 'members' THEN a.member_count + (
                                    SELECT count(*)
                                    FROM authz.workspace_invitations AS i
                                    WHERE i.workspace_id = a.workspace_id AND i.expires_at > statement_timestamp()
                                )
                                -- A later period than ours: the clock went back. What was used is used.
                                WHEN u.period_start >= p.starts THEN u.used
                                ELSE 0
                            END,
                            CASE
                                WHEN u.held_until > statement_timestamp() THEN authz.reserved_of(
                                    a.workspace_id, t.name, p.starts, statement_timestamp()
                                )
                                ELSE 0
                            END,
                            CASE WHEN isfinite(p.ends) THEN p.ends END,
                            p.starts
                        )), '{}')
                        FROM authz.meters AS t
                        LEFT JOIN authz.workspace_usage AS u
                            ON u.workspace_id = a.workspace_id AND u.meter = t.name
                        CROSS JOIN LATERAL authz.period_at(
                            t.per, authz.anchor_of(t.anchor, a.subscribed_at), statement_timestamp()
                        ) AS p
                        WHERE t.name = ANY (string_to_array(COALESCE(a.wanted, every), ','))
                    ) END,
                    o.until, a.version, statement_timestamp()
                )
                FROM authz.overrides_of(a.workspace_id, a.wanted) AS o
            ) END ORDER BY a.number
        ), '[]')
        FROM authz.asked(users, workspaces, meters) AS a
    );
END;
$$;
COMMENT ON FUNCTION authz.facts_for IS
'The facts about members, as authz.facts, with usage and limits of the meters alone that each question needs. Its
settings make PostgreSQL go by index, whatever its statistics say, so that the time that it takes tells nobody
whether a workspace exists.
- users: the user of each question.
- workspaces: the workspace of each question, a UUID or a slug, in the order of users.
- meters: the names of the meters that each question needs, separated by commas, in the order of users; empty: none,
NULL: all.
Returns: a list in the order of the questions: null for whoever is not in the workspace and for a workspace that does
not exist, else the list [workspace id, slug, name, role, plan, status, features, limits, usage, until, version, at].
Each is as in authz.member_facts, but for usage: {meter: [used, reserved, resets at or null, when the period began]}.
Times are in UTC.
Called by: authz_sidecar, for each decision.';
REVOKE ALL ON FUNCTION authz.facts_for FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.facts_for TO authz_sidecar;
