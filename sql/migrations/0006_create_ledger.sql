-- Quota: taken, reserved and given back in one call each, so that no two callers can have the same room.
--
-- The order of locks, everywhere: the counters by meter, then a reservation, then the workspace, then the key. So no
-- two calls wait for each other in a circle. The workspace is locked FOR SHARE, which many can hold at once, and that
-- costs much more than to be the only one; behind the counter's lock there mostly is only one.
--
-- No foreign keys to workspaces here: each would lock the workspace once more for every row. Whoever takes holds that
-- lock already; what is left when a workspace goes, a trigger removes.

ALTER TABLE authz.workspace_usage ADD COLUMN held_until timestamptz; -- of the last hold; NULL: there was none
COMMENT ON COLUMN authz.workspace_usage.held_until IS
    'When the last of the holds in usage_holds ends at the latest: before it they have to be summed, after it not.';

CREATE TABLE authz.usage_ledger (
    workspace_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL, -- of the period that is charged
    amount bigint NOT NULL, -- negative: given back
    kind text NOT NULL,
    user_id text COLLATE "C", -- NULL: nobody asked for it, an operator set it
    action text COLLATE "C",
    resource text COLLATE "C",
    decision_id text COLLATE "C",
    CONSTRAINT usage_ledger_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT usage_ledger_kind_check CHECK (kind IN ('consume', 'commit', 'release', 'adjust'))
);
COMMENT ON TABLE authz.usage_ledger IS
    'Every change of a counter, for good: workspace_usage.used is the sum of its meter in its period.';

CREATE TABLE authz.usage_keys (
    workspace_id uuid NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint text NOT NULL, -- of user, action, mode, amounts, resource
    decision_id text NOT NULL,
    -- What the first asker was told, and a repeat is told again:
    answer json NOT NULL, -- the words
    at timestamptz NOT NULL,
    quota jsonb NOT NULL,
    held json, -- the reservation
    meters text[] NOT NULL, -- what was taken: of each
    amounts bigint[], -- how much; NULL: reserved, and not committed
    starts timestamptz[] NOT NULL, -- in which period
    resource text,
    reservation text,
    given_back jsonb, -- what was refunded of it; NULL: nothing yet
    expires_at timestamptz NOT NULL,
    CONSTRAINT usage_keys_pkey PRIMARY KEY (workspace_id, key)
);
COMMENT ON TABLE authz.usage_keys IS
    'Idempotency keys of what was taken, until the period ends and a day; denials are not remembered.';

CREATE TABLE authz.usage_resources (
    workspace_id uuid NOT NULL,
    meter text COLLATE "C" NOT NULL,
    resource text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    decision_id text NOT NULL,
    revision text NOT NULL,
    CONSTRAINT usage_resources_pkey PRIMARY KEY (workspace_id, meter, resource),
    CONSTRAINT usage_resources_amount_check CHECK (amount > 0)
);
COMMENT ON TABLE authz.usage_resources IS 'What exists of a level, by name: to make it twice is to make it once.';

CREATE TABLE authz.usage_reservations (
    workspace_id uuid NOT NULL,
    id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    resource text COLLATE "C",
    amounts jsonb NOT NULL, -- meter: amount
    committed jsonb, -- meter: amount, once it is
    state text NOT NULL DEFAULT 'held', -- that it has expired is arithmetic
    expires_at timestamptz NOT NULL,
    key text COLLATE "C",
    decision_id text NOT NULL,
    revision text NOT NULL,
    CONSTRAINT usage_reservations_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT usage_reservations_id_key UNIQUE (id), -- for commit and release, which know nothing else
    CONSTRAINT usage_reservations_state_check CHECK (state IN ('held', 'committed', 'released')),
    CONSTRAINT usage_reservations_committed_check CHECK ((state = 'committed') = (committed IS NOT NULL))
);

CREATE TABLE authz.usage_holds (
    workspace_id uuid NOT NULL,
    meter text COLLATE "C" NOT NULL,
    reservation text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    period_start timestamptz NOT NULL, -- of the period it was made in, and is charged to
    expires_at timestamptz NOT NULL,
    CONSTRAINT usage_holds_pkey PRIMARY KEY (workspace_id, meter, reservation),
    CONSTRAINT usage_holds_amount_check CHECK (amount > 0)
);
COMMENT ON TABLE authz.usage_holds IS 'What open reservations hold of each meter. One that has expired counts nothing.';

CREATE FUNCTION authz.forget_usage()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    DELETE FROM authz.usage_reservations AS r USING old_rows AS o WHERE r.workspace_id = o.id;
    DELETE FROM authz.usage_holds AS h USING old_rows AS o WHERE h.workspace_id = o.id;
    DELETE FROM authz.usage_keys AS k USING old_rows AS o WHERE k.workspace_id = o.id;
    DELETE FROM authz.usage_resources AS r USING old_rows AS o WHERE r.workspace_id = o.id;
    DELETE FROM authz.usage_ledger AS l USING old_rows AS o WHERE l.workspace_id = o.id;
    RETURN NULL;
END;
$$;
REVOKE ALL ON FUNCTION authz.forget_usage FROM PUBLIC;
CREATE TRIGGER forget_usage AFTER DELETE ON authz.workspaces
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.forget_usage();

CREATE FUNCTION authz.reserved_of(workspace_id uuid, meter text, since timestamptz, moment timestamptz)
RETURNS bigint
LANGUAGE sql STABLE
RETURN (
    SELECT COALESCE(sum(h.amount), 0)::bigint
    FROM authz.usage_holds AS h
    WHERE h.workspace_id = reserved_of.workspace_id
      AND h.meter = reserved_of.meter
      AND h.period_start >= reserved_of.since
      AND h.expires_at > reserved_of.moment
);
COMMENT ON FUNCTION authz.reserved_of IS 'What is held of a meter at *moment*, in the period that began at *since*.';
REVOKE ALL ON FUNCTION authz.reserved_of FROM PUBLIC;

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
            CASE
                WHEN u.held_until > statement_timestamp()
                    THEN authz.reserved_of(w.id, t.name, lower(p.period), statement_timestamp())
                ELSE 0
            END,
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

CREATE FUNCTION authz.quota_now(workspace_id uuid, meters text[])
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    RETURN (
        SELECT json_build_object(
            'plan', w.plan_tier,
            'at', moment,
            'limits', (
                SELECT COALESCE(json_object_agg(f.name, f.at_most), '{}')
                FROM authz.workspace_features AS f
                WHERE f.workspace_id = w.id AND f.kind = 'limit'
                  AND (f.expires_at IS NULL OR f.expires_at > moment)
            ),
            'usage', (
                SELECT COALESCE(json_object_agg(t.name, json_build_array(
                    CASE WHEN u.period_start >= lower(p.period) THEN u.used ELSE 0 END,
                    authz.reserved_of(w.id, t.name, lower(p.period), moment),
                    CASE WHEN isfinite(upper(p.period)) THEN upper(p.period) END
                )), '{}')
                FROM authz.meters AS t
                LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id AND u.meter = t.name
                CROSS JOIN LATERAL (
                    SELECT authz.period_of(t.per, authz.anchor_of(t.anchor, w.subscribed_at), moment) AS period
                ) AS p
                WHERE t.name = ANY (quota_now.meters)
            )
        )
        FROM authz.workspaces AS w
        WHERE w.id = quota_now.workspace_id
    );
END;
$$;
COMMENT ON FUNCTION authz.quota_now IS
    'After an effect: the plan, the limits that are overridden, and of each meter [used, reserved, resets at or null].';
REVOKE ALL ON FUNCTION authz.quota_now FROM PUBLIC;
