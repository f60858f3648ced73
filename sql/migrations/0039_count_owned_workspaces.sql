-- A meter of the workspaces that the asking user owns; and nobody is a member who does not exist.

ALTER TABLE authz.meters
    DROP CONSTRAINT meters_kind_check,
    ADD CONSTRAINT meters_kind_check CHECK (kind IN ('counter', 'level', 'members', 'owned'));
COMMENT ON CONSTRAINT meters_kind_check ON authz.meters IS 'The kinds of meters.';
COMMENT ON COLUMN authz.meters.kind IS
    'counter: use within a period, which restarts at 0. level: things that exist and can be deleted. The database itself
counts members (memberships and open invitations) and owned (the workspaces that a user owns).';

CREATE FUNCTION authz.owned_usage(user_id text, workspace_id uuid, meter text)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own record;
    at_most bigint;
BEGIN
    SELECT o.oldest, o.owned INTO own FROM authz.ownership_of(user_id) AS o;
    IF own.oldest = workspace_id THEN
        RETURN json_build_array(own.owned, 0, NULL, '-infinity'::timestamptz);
    END IF;
    SELECT CASE WHEN f.name IS NOT NULL THEN f.at_most WHEN l.plan IS NOT NULL THEN l.at_most ELSE 0 END INTO at_most
    FROM authz.catalog AS c
    LEFT JOIN authz.workspaces AS w ON w.id = own.oldest
    LEFT JOIN authz.plan_limits AS l ON l.plan = COALESCE(w.plan_tier, c.default_plan) AND l.meter = owned_usage.meter
    LEFT JOIN authz.workspace_features AS f
        ON f.workspace_id = w.id
        AND f.kind = 'limit'
        AND f.name = owned_usage.meter
        AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp());
    RETURN json_build_array(own.owned, 0, NULL, '-infinity'::timestamptz, json_build_array(at_most));
END;
$$;
COMMENT ON FUNCTION authz.owned_usage IS
    'The usage of a meter that counts what a user owns, in the form of authz.facts_for. Its limit is that of the oldest
workspace that they own, or of the default plan if they own none: it is added where the facts are of another one.
- user_id: the user.
- workspace_id: the workspace that the facts are of.
- meter: the meter.
Returns: [used, 0, null, -infinity], and behind it [limit, or null for unlimited] unless the workspace is the oldest.
Called by: authz.facts_for and the view authz.member_facts.';
REVOKE ALL ON FUNCTION authz.owned_usage FROM PUBLIC;

CREATE OR REPLACE VIEW authz.member_facts AS
SELECT
    m.workspace_id,
    m.user_id,
    w.slug,
    json_build_object(
        'workspace_id', w.id,
        'slug', w.slug,
        'name', w.name,
        'role', m.role,
        'plan', w.plan_tier,
        'status', w.status,
        'features', override.features,
        'limits', override.limits,
        'usage', meter.usage,
        'periods', meter.periods,
        'until', override.until,
        'version', w.facts_version,
        'at', statement_timestamp()
    ) AS facts
FROM authz.workspace_memberships AS m
JOIN authz.workspaces AS w ON w.id = m.workspace_id
CROSS JOIN LATERAL (
    SELECT
        COALESCE(json_object_agg(f.name, f.enabled) FILTER (WHERE f.kind = 'feature'), '{}') AS features,
        COALESCE(json_object_agg(f.name, f.at_most) FILTER (WHERE f.kind = 'limit'), '{}') AS limits,
        min(f.expires_at) AS until
    FROM authz.workspace_features AS f
    WHERE f.workspace_id = w.id
      AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
) AS override
CROSS JOIN LATERAL (
    SELECT
        COALESCE(json_object_agg(t.name, CASE
            WHEN t.kind = 'owned' THEN authz.owned_usage(m.user_id, w.id, t.name)
            ELSE json_build_array(
                CASE
                    WHEN t.kind = 'members' THEN w.member_count + (
                        SELECT count(*)
                        FROM authz.workspace_invitations AS i
                        WHERE i.workspace_id = w.id AND i.expires_at > statement_timestamp()
                    )
                    -- A later period than ours: the clock went back. What was used is used.
                    WHEN u.period_start >= p.starts THEN u.used
                    ELSE 0
                END,
                CASE
                    WHEN u.held_until > statement_timestamp()
                        THEN authz.reserved_of(w.id, t.name, p.starts, statement_timestamp())
                    ELSE 0
                END,
                CASE WHEN isfinite(p.ends) THEN p.ends END
            )
        END), '{}') AS usage,
        COALESCE(json_object_agg(t.name, p.starts), '{}') AS periods
    FROM authz.meters AS t
    LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id AND u.meter = t.name
    CROSS JOIN LATERAL authz.period_at(
        t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
    ) AS p
) AS meter
WHERE authz.is_somebody(m.user_id);
COMMENT ON COLUMN authz.member_facts.facts IS 'An object:
workspace_id, slug, name, plan, status: of the workspace;
role: of the member, whether the catalog declares it or not;
features: {feature: true or false} of the overrides that hold;
limits: {meter: limit, or null for unlimited} of the overrides that hold;
usage: {meter: [used, reserved, resets at or null]} of every meter, in its current period (authz.owned_usage where it
counts what the user owns);
periods: {meter: when the current period began};
until: when the first of the overrides ends, or null;
version: the workspace''s facts_version;
at: the time that all of this is true of.';

CREATE OR REPLACE FUNCTION authz.asked(users text[], workspaces text[], meters text[])
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
          AND authz.is_somebody(m.user_id)
        OFFSET 0 -- by both: else all memberships of a user may be read, if statistics say that they are few
    ) AS m ON true;
END;

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
                        json_object_agg(t.name, CASE
                            WHEN t.kind = 'owned'
                                THEN authz.owned_usage(users[a.number::integer], a.workspace_id, t.name)
                            ELSE json_build_array(
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
                            )
                        END) AS usage,
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
Returns: a list in the order of the questions: null for whoever is not in the workspace or does not exist
(authz.is_somebody) and for a workspace that does not exist, else the list [workspace id, slug, name, role, plan,
status, features, limits, usage, until, version, at, frees]. Each is as in authz.member_facts, but for usage: {meter:
[used, reserved, resets at or null, when the period began], or authz.owned_usage}, and frees: {meter: when the first of what is reserved ends, or null}, which is null or missing where nothing is
reserved. Times are in UTC.
Called by: authz_sidecar, for each decision.';
