-- When there will be room: reservations end before the period does.

-- In PL/pgSQL, so that it costs nothing where nothing is reserved: a query that PostgreSQL puts in place of a call is
-- set up each time.
CREATE FUNCTION authz.frees_at(workspace_id uuid, meter text, since timestamptz, moment timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT min(h.expires_at)
        FROM authz.usage_holds AS h
        WHERE h.workspace_id = frees_at.workspace_id
          AND h.meter = frees_at.meter
          AND h.period_start >= since
          AND h.expires_at > moment
    );
END;
$$;
COMMENT ON FUNCTION authz.frees_at IS
'When the first of the open reservations ends that hold something of a meter.
- workspace_id: the workspace.
- meter: the meter.
- since: when the current period began; holds of older periods are not counted.
- moment: at which time; a hold that ends at it is not counted.
Returns: the time; NULL if nothing is reserved.
Called by: authz.facts_for.';
REVOKE ALL ON FUNCTION authz.frees_at FROM PUBLIC;

CREATE FUNCTION authz.to_come(workspaces uuid[], meters text[])
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(known.meters ORDER BY q.number), '[]')
        FROM unnest(workspaces, meters) WITH ORDINALITY AS q (workspace_id, meters, number)
        LEFT JOIN LATERAL (
            SELECT json_object_agg(t.name, json_build_array(
                CASE
                    WHEN t.kind = 'members'
                        THEN w.member_count + authz.open_invitations(w.id, statement_timestamp())
                    WHEN u.period_start >= p.starts THEN u.used
                    ELSE 0
                END,
                CASE
                    WHEN isfinite(p.ends) THEN ceil(extract(epoch FROM p.ends - statement_timestamp()))::bigint
                END,
                (
                    SELECT COALESCE(json_agg(json_build_array(s.after_s, s.amount) ORDER BY s.after_s), '[]')
                    FROM (
                        SELECT
                            ceil(extract(epoch FROM h.expires_at - statement_timestamp()))::bigint AS after_s,
                            sum(h.amount)::bigint AS amount
                        FROM authz.usage_holds AS h
                        WHERE h.workspace_id = w.id
                          AND h.meter = t.name
                          AND h.period_start >= p.starts
                          AND h.expires_at > statement_timestamp()
                          AND u.held_until > statement_timestamp()
                        GROUP BY 1
                    ) AS s
                ),
                (
                    SELECT json_build_array(
                        f.at_most, ceil(extract(epoch FROM f.expires_at - statement_timestamp()))::bigint
                    )
                    FROM authz.workspace_features AS f
                    WHERE f.workspace_id = w.id AND f.kind = 'limit' AND f.name = t.name
                      AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
                )
            )) AS meters
            FROM authz.workspaces AS w
            CROSS JOIN authz.meters AS t
            LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id AND u.meter = t.name
            CROSS JOIN LATERAL authz.period_at(
                t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
            ) AS p
            WHERE w.id = q.workspace_id AND t.name = ANY (string_to_array(q.meters, ','))
        ) AS known ON true
    );
END;
$$;
COMMENT ON FUNCTION authz.to_come IS
'What will happen to meters by itself: reservations, periods and overridden limits end. All times are in whole seconds
from now, rounded up.
- workspaces: the workspaces.
- meters: of each, in the order of workspaces, the names of its meters, separated by commas.
Returns: a list in the order of workspaces: null where there is no such workspace or meter, else {meter: [used,
seconds to the reset or null, what is reserved, override]}. What is reserved is a list of [seconds to its end, amount];
override is null or [limit or null for unlimited, seconds to its end or null].
Called by: authz_sidecar, when quota denies, to tell how long to wait.';
REVOKE ALL ON FUNCTION authz.to_come FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.to_come TO authz_sidecar;

-- As before, and when the first of what is reserved ends.
CREATE OR REPLACE FUNCTION authz.facts_for(users text[], workspaces text[], meters text[])
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
                    COALESCE(counter.usage, '{}'), o.until, a.version, statement_timestamp(), counter.frees
                )
                FROM authz.overrides_of(a.workspace_id, a.wanted) AS o
                CROSS JOIN LATERAL (
                    SELECT
                        json_object_agg(t.name, json_build_array(
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
                        )) AS usage,
                        json_object_agg(
                            t.name, authz.frees_at(a.workspace_id, t.name, p.starts, statement_timestamp())
                        ) FILTER (WHERE u.held_until > statement_timestamp()) AS frees
                    FROM authz.meters AS t
                    LEFT JOIN authz.workspace_usage AS u
                        ON u.workspace_id = a.workspace_id AND u.meter = t.name
                    CROSS JOIN LATERAL authz.period_at(
                        t.per, authz.anchor_of(t.anchor, a.subscribed_at), statement_timestamp()
                    ) AS p
                    WHERE t.name = ANY (string_to_array(COALESCE(a.wanted, every), ','))
                ) AS counter
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
not exist, else the list [workspace id, slug, name, role, plan, status, features, limits, usage, until, version, at,
frees]. Each is as in authz.member_facts, but for usage: {meter: [used, reserved, resets at or null, when the period
began]}, and frees: {meter: when the first of what is reserved ends, or null}, which is null or missing where nothing is
reserved. Times are in UTC.
Called by: authz_sidecar, for each decision.';
REVOKE ALL ON FUNCTION authz.facts_for FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.facts_for TO authz_sidecar;
