-- What is asked most, to take from one counter that has room, in as few statements as it can be.

CREATE FUNCTION authz.period_at(per text, anchored_at timestamptz, at timestamptz)
RETURNS TABLE (starts timestamptz, ends timestamptz)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        CASE per
            WHEN 'month' THEN (m.anchor + m.months * interval '1 month') AT TIME ZONE 'UTC'
            WHEN 'day' THEN date_trunc('day', m.moment) AT TIME ZONE 'UTC'
            ELSE '-infinity'
        END,
        CASE per
            -- Each from the anchor, never from the period before: 31 January, 28 February, 31 March.
            WHEN 'month' THEN (m.anchor + (m.months + 1) * interval '1 month') AT TIME ZONE 'UTC'
            WHEN 'day' THEN (date_trunc('day', m.moment) + interval '1 day') AT TIME ZONE 'UTC'
            ELSE 'infinity'
        END
    FROM (
        SELECT
            c.anchor,
            c.moment,
            c.months - CASE WHEN c.anchor + c.months * interval '1 month' > c.moment THEN 1 ELSE 0 END AS months
        FROM (
            SELECT
                l.anchor,
                l.moment,
                (12 * (date_part('year', l.moment) - date_part('year', l.anchor))
                    + date_part('month', l.moment) - date_part('month', l.anchor))::integer AS months
            FROM (SELECT anchored_at AT TIME ZONE 'UTC' AS anchor, at AT TIME ZONE 'UTC' AS moment) AS l
        ) AS c
        OFFSET 0 -- computed once
    ) AS m;
END;
COMMENT ON FUNCTION authz.period_at IS
    'The half-open period that *at* falls in. A calendar month is a month anchored at any first of a month.';
REVOKE ALL ON FUNCTION authz.period_at FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.period_of(per text, anchored_at timestamptz, at timestamptz)
RETURNS tstzrange
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT tstzrange(p.starts, p.ends) FROM authz.period_at(per, anchored_at, at) AS p);
END;
$$;
COMMENT ON FUNCTION authz.period_of IS 'As period_at, as a range.';

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
        COALESCE(json_object_agg(t.name, json_build_array(
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
        )), '{}') AS usage,
        COALESCE(json_object_agg(t.name, p.starts), '{}') AS periods
    FROM authz.meters AS t
    LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id AND u.meter = t.name
    CROSS JOIN LATERAL authz.period_at(
        t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
    ) AS p
) AS meter;
COMMENT ON VIEW authz.member_facts IS
    'The shape that sidecar/store/postgres.py parses: usage is [used, reserved, resets at or null] of every meter,'
    ' periods is when the current one began, until is when the first of the overrides ends.';

CREATE FUNCTION authz.consume(
    workspace_id uuid,
    facts_version bigint, -- that the decision saw, as the next four
    ceiling bigint, -- NULL is unlimited
    starts timestamptz, -- the period
    ends timestamptz, -- NULL: never
    until timestamptz, -- of an override; NULL: none ends
    user_id text,
    action text,
    meter text,
    amount bigint,
    resource text,
    key text,
    fingerprint text,
    decision_id text,
    answer json -- what a repeat is told again, but for the figures
)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    used_now bigint;
    moment timestamptz;
BEGIN
    -- The statement waits for the counter, and then sees it as it is. A hold may have been made meanwhile.
    UPDATE authz.workspace_usage AS u SET used = u.used + consume.amount
    WHERE u.workspace_id = consume.workspace_id
      AND u.meter = consume.meter
      AND u.period_start = consume.starts
      AND (u.used + consume.amount <= ceiling OR ceiling IS NULL)
      AND (u.held_until <= statement_timestamp() OR u.held_until IS NULL)
    RETURNING u.used INTO used_now;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    moment := clock_timestamp(); -- after the lock: whoever waited past midnight is not charged yesterday

    -- Only if nothing has changed since the decision, and the key is new.
    IF key IS NULL THEN
        PERFORM FROM authz.workspaces AS w
        WHERE w.id = consume.workspace_id
          AND w.facts_version = consume.facts_version
          AND moment >= consume.starts
          AND (moment < LEAST(ends, until)) IS NOT FALSE
        FOR SHARE;
    ELSE
        INSERT INTO authz.usage_keys (
            workspace_id, key, fingerprint, decision_id, answer, at, quota,
            meters, amounts, starts, resource, expires_at
        )
        SELECT
            w.id,
            consume.key,
            consume.fingerprint,
            consume.decision_id,
            consume.answer,
            moment,
            jsonb_build_object(consume.meter, jsonb_build_array(ceiling, used_now, 0, ends)),
            ARRAY[consume.meter],
            ARRAY[consume.amount],
            ARRAY[consume.starts],
            consume.resource,
            COALESCE(ends, 'infinity') + interval '24 hours'
        FROM authz.workspaces AS w
        WHERE w.id = consume.workspace_id
          AND w.facts_version = consume.facts_version
          AND moment >= consume.starts
          AND (moment < LEAST(ends, until)) IS NOT FALSE
        FOR SHARE
        ON CONFLICT ON CONSTRAINT usage_keys_pkey DO NOTHING;
    END IF;
    IF NOT FOUND THEN
        UPDATE authz.workspace_usage AS u SET used = u.used - consume.amount
        WHERE u.workspace_id = consume.workspace_id AND u.meter = consume.meter;
        RETURN NULL;
    END IF;

    INSERT INTO authz.usage_ledger
        (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
    VALUES (
        consume.workspace_id,
        moment,
        consume.meter,
        consume.starts,
        consume.amount,
        'consume',
        consume.user_id,
        consume.action,
        consume.resource,
        consume.decision_id
    );
    RETURN json_build_array(moment, used_now);
END;
$$;
COMMENT ON FUNCTION authz.consume IS
    'As take, where nothing stands in the way: [when, used by then]. NULL: nothing was done, and take is to be asked.';
REVOKE ALL ON FUNCTION authz.consume FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.consume TO authz_sidecar;

-- Only functions of this schema write there, and the words stand in them: to check each cost a consume a twentieth.
ALTER TABLE authz.usage_ledger DROP CONSTRAINT usage_ledger_kind_check;
COMMENT ON COLUMN authz.usage_ledger.kind IS 'consume, commit, release, or adjust (by an operator)';
