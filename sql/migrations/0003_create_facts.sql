-- The one thing that the sidecar reads for a question: what the database says of a user in a workspace.

CREATE FUNCTION authz.period_of(per text, anchored_at timestamptz, at timestamptz)
RETURNS tstzrange
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = ''
AS $$
DECLARE
    anchor CONSTANT timestamp := anchored_at AT TIME ZONE 'UTC';
    moment CONSTANT timestamp := at AT TIME ZONE 'UTC';
    months integer;
    midnight timestamp;
BEGIN
    IF per = 'month' THEN
        months := 12 * (extract(year FROM moment)::integer - extract(year FROM anchor)::integer)
            + extract(month FROM moment)::integer - extract(month FROM anchor)::integer;
        IF anchor + months * interval '1 month' > moment THEN
            months := months - 1;
        END IF;
        -- Each from the anchor, never from the period before: 31 January, 28 February, 31 March.
        RETURN tstzrange(
            (anchor + months * interval '1 month') AT TIME ZONE 'UTC',
            (anchor + (months + 1) * interval '1 month') AT TIME ZONE 'UTC'
        );
    ELSIF per = 'day' THEN
        midnight := date_trunc('day', moment);
        RETURN tstzrange(midnight AT TIME ZONE 'UTC', (midnight + interval '1 day') AT TIME ZONE 'UTC');
    END IF;
    RETURN tstzrange('-infinity', 'infinity');
END;
$$;
COMMENT ON FUNCTION authz.period_of IS
    'The half-open period that *at* falls in. A calendar month is a month anchored at any first of a month.';
REVOKE ALL ON FUNCTION authz.period_of FROM PUBLIC;

CREATE FUNCTION authz.anchor_of(anchor text, subscribed_at timestamptz)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE anchor WHEN 'subscription' THEN subscribed_at ELSE timestamptz '2000-01-01 00:00:00+00' END;
REVOKE ALL ON FUNCTION authz.anchor_of FROM PUBLIC;

CREATE VIEW authz.member_facts AS
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
        'version', w.facts_version,
        'at', statement_timestamp()
    ) AS facts
FROM authz.workspace_memberships AS m
JOIN authz.workspaces AS w ON w.id = m.workspace_id
CROSS JOIN LATERAL (
    SELECT
        COALESCE(json_object_agg(f.name, f.enabled) FILTER (WHERE f.kind = 'feature'), '{}') AS features,
        COALESCE(json_object_agg(f.name, f.at_most) FILTER (WHERE f.kind = 'limit'), '{}') AS limits
    FROM authz.workspace_features AS f
    WHERE f.workspace_id = w.id
      AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
) AS override
CROSS JOIN LATERAL (
    SELECT
        COALESCE(json_object_agg(t.name, json_build_array(
            CASE
                WHEN t.kind = 'members' THEN w.member_count
                -- A later period than ours: the clock went back. What was used is used.
                WHEN u.period_start >= lower(p.period) THEN u.used
                ELSE 0
            END,
            0, -- reserved
            CASE WHEN isfinite(upper(p.period)) THEN upper(p.period) END
        )), '{}') AS usage
    FROM authz.meters AS t
    LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id AND u.meter = t.name
    CROSS JOIN LATERAL (
        SELECT authz.period_of(
            t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
        ) AS period
    ) AS p
) AS meter;
COMMENT ON VIEW authz.member_facts IS
    'The shape that sidecar/store/postgres.py parses: usage is [used, reserved, resets at or null] of every meter.';

CREATE FUNCTION authz.facts(users text[], workspaces text[])
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
-- One plan, made once a session, by index whatever the statistics say: a plan made while a table was small
-- must not scan it when it has grown.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(known.facts ORDER BY question.number), '[]')
        FROM unnest(users, workspaces) WITH ORDINALITY AS question (user_id, workspace, number)
        LEFT JOIN LATERAL (
            SELECT f.facts
            FROM authz.member_facts AS f
            WHERE f.user_id = question.user_id
              AND f.workspace_id = CASE
                  WHEN question.workspace
                      ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
                      THEN question.workspace::uuid
                  -- The nil UUID, which no workspace has, and not NULL: a membership is looked for in any case.
                  ELSE COALESCE(
                      (SELECT w.id FROM authz.workspaces AS w WHERE w.slug = question.workspace),
                      '00000000-0000-0000-0000-000000000000'
                  )
              END
        ) AS known ON true
    );
END;
$$;
COMMENT ON FUNCTION authz.facts IS
    'For each user and workspace (a UUID or a slug), in order: the member''s facts, or null for anybody else.';
REVOKE ALL ON FUNCTION authz.facts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.facts TO authz_sidecar;

CREATE FUNCTION authz.workspaces_of(user_id text, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(page.facts ORDER BY page.slug), '[]')
        FROM (
            SELECT f.slug, f.facts
            FROM authz.member_facts AS f
            WHERE f.user_id = workspaces_of.user_id
              AND (workspaces_of.after IS NULL OR f.slug > workspaces_of.after)
            ORDER BY f.slug
            LIMIT workspaces_of.at_most
        ) AS page
    );
END;
$$;
COMMENT ON FUNCTION authz.workspaces_of IS 'As facts, of a user''s workspaces behind the slug *after*, by slug.';
REVOKE ALL ON FUNCTION authz.workspaces_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.workspaces_of TO authz_sidecar;
