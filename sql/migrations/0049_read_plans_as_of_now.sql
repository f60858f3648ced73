-- Everybody reads plan, status and seats as they are now, and not as they were at the last write; and auditors are told
-- what a subscription has changed, and when.

CREATE OR REPLACE FUNCTION authz.owned_usage(user_id text, workspace_id uuid, meter text)
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
    LEFT JOIN authz.workspaces_now AS w ON w.id = own.oldest
    LEFT JOIN authz.plan_limits AS l ON l.plan = COALESCE(w.plan_tier, c.default_plan) AND l.meter = owned_usage.meter
    LEFT JOIN authz.workspace_features AS f
        ON f.workspace_id = w.id
        AND f.kind = 'limit'
        AND f.name = owned_usage.meter
        AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp());
    RETURN json_build_array(own.owned, 0, NULL, '-infinity'::timestamptz, json_build_array(at_most));
END;
$$;

CREATE FUNCTION authz.seats_of(seats bigint)
RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT json_object_agg(t.name, seats) FROM authz.meters AS t WHERE t.kind = 'members');
COMMENT ON FUNCTION authz.seats_of IS 'The seats of a subscription as limits of what counts members.
- seats: how many.
Returns: {meter: limit}; NULL if nothing counts members.
Called by: authz.facts_for and the view authz.member_facts.';
REVOKE ALL ON FUNCTION authz.seats_of FROM PUBLIC;

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
        'until', LEAST(override.until, w.turns_at),
        'version', w.facts_version,
        'at', statement_timestamp(),
        'seats', CASE WHEN w.seats IS NOT NULL THEN authz.seats_of(w.seats) END
    ) AS facts
FROM authz.workspace_memberships AS m
JOIN authz.workspaces_now AS w ON w.id = m.workspace_id
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

COMMENT ON COLUMN authz.member_facts.facts IS
'An object:
workspace_id, slug, name, plan, status: of the workspace, now;
role: of the member, whether the catalog declares it or not;
features: {feature: true or false} of the overrides that hold;
limits: {meter: limit, or null for unlimited} of the overrides that hold;
usage: {meter: [used, reserved, resets at or null]} of every meter, in its current period (authz.owned_usage where it
counts what the user owns);
periods: {meter: when the current period began};
until: when the first of the overrides ends, or the plan or status changes by time, or null;
version: the workspace''s facts_version;
at: the time that all of this is true of;
seats: {meter: limit} of the meter that counts members, by the workspace''s subscription, in this plan; or null.';

DROP FUNCTION authz.asked(text[], text[], text[]);

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
    version bigint,
    seats bigint,
    turns_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        q.number,
        q.meters,
        w.id,
        w.slug,
        w.name,
        m.role,
        w.plan_tier,
        w.status,
        w.subscribed_at,
        w.member_count,
        w.facts_version,
        w.seats,
        w.turns_at
    FROM unnest(users, workspaces, meters) WITH ORDINALITY AS q (user_id, workspace, meters, number)
    LEFT JOIN LATERAL (
        SELECT
            s.id, s.slug, s.name, s.plan_tier, s.status, s.subscribed_at, s.member_count, s.facts_version, s.seats,
            s.turns_at
        FROM authz.workspaces AS s
        WHERE s.slug = q.workspace
        UNION ALL
        SELECT
            i.id, i.slug, i.name, i.plan_tier, i.status, i.subscribed_at, i.member_count, i.facts_version, i.seats,
            i.turns_at
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
- plan: (result) of the workspace, as of its last write.
- status: (result) ditto.
- subscribed_at: (result) where its months begin, if the meter counts them from the subscription.
- member_count: (result) the number of its members.
- version: (result) its facts_version.
- seats: (result) how many members its subscription allows in this plan. NULL: it does not say.
- turns_at: (result) when plan, status or seats change by time: if that is over, authz.turned has them. NULL: never.
Returns: a row for each question, in any order.
Called by: authz.facts_for.';
REVOKE ALL ON FUNCTION authz.asked FROM PUBLIC;

CREATE FUNCTION authz.turned(facts json)
RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT json_agg(
            CASE
                WHEN r.workspace IS NULL THEN r.facts
                ELSE (
                    SELECT json_agg(
                        CASE e.number
                            WHEN 5 THEN to_json((r.workspace).plan_tier)
                            WHEN 6 THEN to_json((r.workspace).status)
                            WHEN 10 THEN to_json(LEAST(o.until, (r.workspace).turns_at))
                            WHEN 14 THEN CASE
                                WHEN (r.workspace).seats IS NOT NULL THEN authz.seats_of((r.workspace).seats)
                            END
                            ELSE e.element
                        END
                        ORDER BY e.number
                    )
                    FROM json_array_elements(r.facts) WITH ORDINALITY AS e (element, number)
                )
            END
            ORDER BY r.number
        )
        FROM (
            SELECT a.facts, a.number, w AS workspace
            FROM json_array_elements(turned.facts) WITH ORDINALITY AS a (facts, number)
            LEFT JOIN LATERAL (
                SELECT n.*
                FROM authz.workspaces AS t
                JOIN authz.workspaces_now AS n ON n.id = t.id
                WHERE t.id = CASE WHEN json_typeof(a.facts) = 'array' THEN (a.facts ->> 0)::uuid END
                  AND t.turns_at <= statement_timestamp()
            ) AS w ON true
        ) AS r
        LEFT JOIN LATERAL authz.overrides_of((r.workspace).id, '') AS o ON true
    );
END;
$$;
COMMENT ON FUNCTION authz.turned IS
'Facts with plan, status and seats as they are now, where they have changed by time since the last write: it is called for
those alone, so that the facts of others cost nothing more.
- facts: a list as of authz.facts_for, as of the last write.
Returns: the list, as of now.
Called by: authz.facts_for.';
REVOKE ALL ON FUNCTION authz.turned FROM PUBLIC;

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
    found json;
    has_turned boolean;
BEGIN
    IF cardinality(users) IS DISTINCT FROM cardinality(meters) THEN
        RAISE EXCEPTION 'meters: one text for each of % users expected, got %',
            cardinality(users), cardinality(meters)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two queries: PostgreSQL sets up the part about meters even if no question needs it, and that takes as long as
    -- all the rest of one question.
    IF '' = ALL (meters) THEN
        SELECT
            COALESCE(json_agg(
                CASE WHEN a.role IS NOT NULL THEN (
                    SELECT json_build_array(
                        a.workspace_id, a.slug, a.name, a.role, a.plan, a.status, o.features, o.limits,
                        '{}'::json,
                        LEAST(o.until, a.turns_at), a.version, statement_timestamp()
                    )
                    FROM authz.overrides_of(a.workspace_id, '') AS o
                ) END ORDER BY a.number
            ), '[]'),
            bool_or(a.turns_at <= statement_timestamp())
        INTO found, has_turned
        FROM authz.asked(users, workspaces, meters) AS a;
        RETURN CASE WHEN has_turned THEN authz.turned(found) ELSE found END;
    END IF;
    IF array_position(meters, NULL) IS NOT NULL THEN
        every := (SELECT string_agg(t.name, ',') FROM authz.meters AS t);
    END IF;
    SELECT
        COALESCE(json_agg(
            CASE WHEN a.role IS NOT NULL THEN (
                SELECT json_build_array(
                    a.workspace_id, a.slug, a.name, a.role, a.plan, a.status, o.features, o.limits,
                    COALESCE(counter.usage, '{}'), LEAST(o.until, a.turns_at), a.version, statement_timestamp(),
                    counter.frees, CASE WHEN a.seats IS NOT NULL THEN authz.seats_of(a.seats) END
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
        ), '[]'),
        bool_or(a.turns_at <= statement_timestamp())
    INTO found, has_turned
    FROM authz.asked(users, workspaces, meters) AS a;
    RETURN CASE WHEN has_turned THEN authz.turned(found) ELSE found END;
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
status, features, limits, usage, until, version, at, frees, seats]. Each is as in authz.member_facts, but for usage:
{meter: [used, reserved, resets at or null, when the period began], or authz.owned_usage}, and frees: {meter: when the
first of what is reserved ends, or null}, which is null where nothing is reserved. Times are in UTC.
Called by: authz_audit, authz_sidecar, for each decision.';

CREATE OR REPLACE FUNCTION authz.quota_now(workspace_id uuid, meters text[])
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    RETURN (
        SELECT json_build_object(
            'plan', authz.plan_at(w.plan_tier, w.turns_at, w.turns, moment),
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

CREATE OR REPLACE FUNCTION authz.take(
    workspace_id uuid,
    facts_version bigint,
    user_id text,
    action text,
    meters text[],
    amounts bigint[],
    limits bigint[],
    resource text,
    key text,
    fingerprint text,
    ttl_s integer,
    reservation text,
    decision_id text,
    revision text,
    answer json
)
RETURNS json
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    late CONSTANT boolean := ttl_s IS NULL AND reservation IS NOT NULL;
    moment timestamptz;
    ends_at timestamptz; -- of the reservation
    forget_at timestamptz; -- the key
    made text[] := '{}'; -- counters that were not there
    counter record;
    workspace record;
    meter record;
    wanted bigint[] := amounts;
    starts timestamptz[] := '{}';
    used_now bigint[];
    held_until_now timestamptz[];
    held_now bigint;
    room boolean := true;
    crossed boolean := false; -- a period has ended while we waited
    quota jsonb := '{}';
    held json;
    outcome json;
BEGIN
    <<untaken>>
    BEGIN
        FOR i IN 1..cardinality(meters) LOOP
            LOOP
                SELECT u.period_start, u.used, u.held_until INTO counter
                FROM authz.workspace_usage AS u
                WHERE u.workspace_id = take.workspace_id AND u.meter = meters[i]
                FOR UPDATE;
                EXIT WHEN FOUND;
                -- The first use of this meter. Its row is made now, in the order of locks; two may be here at once.
                IF NOT EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = take.workspace_id) THEN
                    outcome := '{"outcome": "stale"}';
                    EXIT untaken;
                END IF;
                INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
                VALUES (take.workspace_id, meters[i], '-infinity', 0)
                ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO NOTHING;
                IF FOUND THEN
                    made := made || meters[i];
                END IF;
            END LOOP;
            starts[i] := counter.period_start;
            used_now[i] := counter.used;
            held_until_now[i] := counter.held_until;
        END LOOP;
        IF late THEN
            -- What is taken is the reservation's, so that its key can give it back.
            SELECT r.decision_id, r.revision, r.key INTO decision_id, revision, key
            FROM authz.usage_reservations AS r
            WHERE r.workspace_id = take.workspace_id AND r.id = take.reservation AND r.state = 'held'
            FOR UPDATE;
            IF NOT FOUND THEN
                outcome := '{"outcome": "settled"}'; -- somebody was faster
                EXIT untaken;
            END IF;
        END IF;
        SELECT w.facts_version, w.subscribed_at, w.turns_at, w.turns INTO workspace
        FROM authz.workspaces AS w
        WHERE w.id = take.workspace_id
        FOR SHARE;
        IF workspace.facts_version IS DISTINCT FROM take.facts_version THEN
            outcome := '{"outcome": "stale"}';
            EXIT untaken;
        END IF;
        IF late AND authz.key_taken_anew(workspace_id, key, reservation) THEN
            outcome := '{"outcome": "settled"}'; -- authz.commit_reservation says how
            EXIT untaken;
        END IF;
        moment := clock_timestamp(); -- after the locks: whoever waited past midnight is charged today
        IF authz.turn_after(workspace.turns_at, workspace.turns, statement_timestamp()) <= moment THEN
            outcome := '{"outcome": "stale"}'; -- the plan has ended while we waited
            EXIT untaken;
        END IF;
        ends_at := moment + make_interval(secs => ttl_s);
        forget_at := moment;
        IF resource IS NOT NULL AND NOT late THEN
            outcome := authz.repeat_of(workspace_id, meters, resource, key, fingerprint, moment);
            EXIT untaken WHEN outcome IS NOT NULL;
        END IF;

        FOR i IN 1..cardinality(meters) LOOP
            SELECT
                t.kind,
                authz.period_of(t.per, authz.anchor_of(t.anchor, workspace.subscribed_at), moment) AS period,
                CASE WHEN f.name IS NULL THEN limits[i] ELSE f.at_most END AS ceiling
            INTO STRICT meter
            FROM authz.meters AS t
            LEFT JOIN authz.workspace_features AS f
                ON f.workspace_id = take.workspace_id AND f.kind = 'limit' AND f.name = t.name
                AND (f.expires_at IS NULL OR f.expires_at > moment)
            WHERE t.name = meters[i];
            IF meter.kind = 'members' THEN
                RAISE EXCEPTION 'the meter "%" is counted by the database', meters[i] USING ERRCODE = '22023';
            END IF;
            IF resource IS NOT NULL AND meter.kind = 'level' AND EXISTS (
                SELECT FROM authz.usage_resources AS r
                WHERE r.workspace_id = take.workspace_id AND r.meter = meters[i] AND r.resource = take.resource
            ) THEN
                wanted[i] := 0; -- of several levels, one that has it
            END IF;
            -- A later period than ours: the clock went back. What was used is used.
            IF starts[i] < lower(meter.period) THEN
                starts[i] := lower(meter.period);
                used_now[i] := 0;
            END IF;
            held_now := 0;
            IF held_until_now[i] > moment THEN
                held_now := authz.reserved_of(workspace_id, meters[i], starts[i], moment);
            END IF;
            IF wanted[i] > 0 AND used_now[i] + held_now + wanted[i] > meter.ceiling THEN -- never above NULL
                room := false;
            END IF;
            IF ttl_s IS NULL THEN
                used_now[i] := used_now[i] + wanted[i];
            ELSE
                held_now := held_now + wanted[i];
            END IF;
            quota := quota || jsonb_build_object(meters[i], jsonb_build_array(
                meter.ceiling,
                used_now[i],
                held_now,
                CASE WHEN isfinite(upper(meter.period)) THEN upper(meter.period) END
            ));
            forget_at := greatest(forget_at, upper(meter.period));
            crossed := crossed OR lower(meter.period) > statement_timestamp();
        END LOOP;
        IF NOT room THEN
            outcome := COALESCE(
                CASE WHEN NOT late THEN
                    authz.repeat_of(workspace_id, meters, resource, key, fingerprint, moment)
                END,
                -- The facts are as of the beginning of the statement: was that another period, they are read again.
                CASE WHEN crossed THEN json '{"outcome": "stale"}' END,
                json_build_object('outcome', 'refused', 'facts', (
                    SELECT f.facts FROM authz.member_facts AS f
                    WHERE f.workspace_id = take.workspace_id AND f.user_id = take.user_id
                ))
            );
            EXIT untaken;
        END IF;

        IF ttl_s IS NOT NULL THEN
            held := json_build_object(
                'id', reservation, 'expires_at', ends_at, 'amounts', authz.amounts_of(meters, wanted)
            );
        END IF;
        WHILE key IS NOT NULL AND NOT late LOOP
            INSERT INTO authz.usage_keys (
                workspace_id, key, fingerprint, decision_id, answer, at, quota, held,
                meters, amounts, starts, resource, reservation, expires_at
            )
            VALUES (
                take.workspace_id,
                take.key,
                take.fingerprint,
                take.decision_id,
                take.answer,
                moment,
                quota,
                held,
                take.meters,
                CASE WHEN ttl_s IS NULL THEN wanted END,
                starts,
                take.resource,
                take.reservation,
                forget_at + interval '24 hours'
            )
            ON CONFLICT ON CONSTRAINT usage_keys_pkey DO NOTHING;
            EXIT WHEN FOUND;
            outcome := authz.repeat_of(workspace_id, meters, resource, key, fingerprint, moment);
            EXIT untaken WHEN outcome IS NOT NULL;
            -- The key is free. If a late commit with other counters holds it, this waits and looks at it again.
            DELETE FROM authz.usage_keys AS k
            WHERE k.workspace_id = take.workspace_id AND k.key = take.key AND NOT authz.key_stands(k, moment);
        END LOOP;

        FOR i IN 1..cardinality(meters) LOOP
            CONTINUE WHEN wanted[i] = 0;
            UPDATE authz.workspace_usage AS u
            SET used = used_now[i], period_start = starts[i], held_until = greatest(u.held_until, ends_at)
            WHERE u.workspace_id = take.workspace_id AND u.meter = meters[i];
            IF ttl_s IS NOT NULL THEN
                DELETE FROM authz.usage_holds AS h
                WHERE h.workspace_id = take.workspace_id AND h.meter = meters[i] AND h.expires_at <= moment;
                INSERT INTO authz.usage_holds (workspace_id, meter, reservation, amount, period_start, expires_at)
                VALUES (take.workspace_id, meters[i], take.reservation, wanted[i], starts[i], ends_at);
                CONTINUE;
            END IF;
            INSERT INTO authz.usage_ledger
                (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
            VALUES (
                take.workspace_id,
                moment,
                meters[i],
                starts[i],
                wanted[i],
                CASE WHEN late THEN 'commit' ELSE 'consume' END,
                take.user_id,
                take.action,
                take.resource,
                take.decision_id
            );
            IF resource IS NOT NULL THEN
                INSERT INTO authz.usage_resources (workspace_id, meter, resource, amount, decision_id, revision)
                SELECT take.workspace_id, t.name, take.resource, wanted[i], take.decision_id, take.revision
                FROM authz.meters AS t
                WHERE t.name = meters[i] AND t.kind = 'level';
            END IF;
        END LOOP;
        IF ttl_s IS NOT NULL THEN
            INSERT INTO authz.usage_reservations
                (workspace_id, id, user_id, action, resource, amounts, expires_at, key, decision_id, revision)
            VALUES (
                take.workspace_id,
                take.reservation,
                take.user_id,
                take.action,
                take.resource,
                authz.amounts_of(meters, wanted),
                ends_at,
                take.key,
                take.decision_id,
                take.revision
            );
        ELSIF late THEN
            PERFORM authz.settle(
                workspace_id,
                reservation,
                authz.amounts_of(meters, amounts),
                ARRAY(SELECT meters[i] FROM generate_subscripts(amounts, 1) AS i WHERE amounts[i] > 0 ORDER BY i),
                ARRAY(SELECT wanted[i] FROM generate_subscripts(amounts, 1) AS i WHERE amounts[i] > 0 ORDER BY i),
                ARRAY(SELECT starts[i] FROM generate_subscripts(amounts, 1) AS i WHERE amounts[i] > 0 ORDER BY i)
            );
        END IF;
        RETURN json_build_object('outcome', 'taken', 'at', moment, 'quota', quota, 'reservation', held);
    END;

    IF made <> '{}' THEN
        DELETE FROM authz.workspace_usage AS u WHERE u.workspace_id = take.workspace_id AND u.meter = ANY (made);
    END IF;
    RETURN outcome;
END;
$$;

CREATE OR REPLACE FUNCTION authz.seats_for(
    workspace_id uuid, wanted bigint, meters text[], limits bigint[], moment timestamptz
)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT NOT EXISTS (
        SELECT FROM unnest(seats_for.meters, seats_for.limits) AS plan (meter, at_most)
        LEFT JOIN authz.workspaces AS w ON w.id = seats_for.workspace_id
        LEFT JOIN authz.workspace_features AS f
            ON f.workspace_id = seats_for.workspace_id
            AND f.kind = 'limit'
            AND f.name = plan.meter
            AND (f.expires_at IS NULL OR f.expires_at > seats_for.moment)
        -- Never above NULL, which is unlimited.
        WHERE seats_for.wanted > CASE
            WHEN f.name IS NULL
                THEN COALESCE(authz.seats_at(w.seats, w.turns_at, w.turns, seats_for.moment), plan.at_most)
            ELSE f.at_most
        END
    );
END;

COMMENT ON FUNCTION authz.seats_for IS
'Whether a number of people is within the limits of a workspace: its overrides where there are any, else the seats of its
subscription, else the limits given.
- workspace_id: the workspace.
- wanted: how many people, members and invitations.
- meters: the meters that count members.
- limits: the limit of each, in the order of meters, as the decision found it; NULL is unlimited.
- moment: at which time overrides must hold.
Returns: true if there are seats for all of them.
Called by: authz.invite and authz.accept_invitation.';

CREATE OR REPLACE FUNCTION authz.get_user_workspaces(user_id text)
RETURNS TABLE (
    workspace_id uuid,
    slug text,
    name text,
    plan_tier text,
    role text,
    status text,
    joined_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT w.id, w.slug, w.name, w.plan_tier, m.role, w.status, m.joined_at
    FROM authz.members AS m
    JOIN authz.workspaces_now AS w ON w.id = m.workspace_id
    WHERE m.user_id = get_user_workspaces.user_id
    ORDER BY w.slug;
END;
$$;

CREATE OR REPLACE FUNCTION authz.has_feature_access(workspace_id uuid, feature text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.workspaces_now AS w
        JOIN authz.features AS f ON f.name = has_feature_access.feature -- an override alone declares nothing
        LEFT JOIN authz.workspace_features AS o
            ON o.workspace_id = w.id
            AND o.kind = 'feature'
            AND o.name = f.name
            AND (o.expires_at IS NULL OR o.expires_at > statement_timestamp())
        WHERE w.id = has_feature_access.workspace_id
          AND w.status = 'active'
          AND w.deleted_at IS NULL
          AND COALESCE(o.enabled, EXISTS (
              SELECT FROM authz.plan_features AS p WHERE p.plan = w.plan_tier AND p.feature = f.name
          ))
    );
END;
$$;

CREATE OR REPLACE FUNCTION authz.catalog_in_use()
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
            CROSS JOIN LATERAL (
                (SELECT FROM authz.workspaces AS w WHERE w.plan_tier = p.name LIMIT 1)
                UNION ALL
                (SELECT FROM authz.workspaces AS w WHERE w.given_plan = p.name LIMIT 1)
                UNION ALL
                (
                    SELECT FROM authz.workspace_subscriptions AS s
                    WHERE s.plan = p.name AND s.status <> 'canceled'
                    LIMIT 1
                )
                LIMIT 1
            ) AS holder
        ),
        'default_plan', (SELECT c.default_plan FROM authz.catalog AS c)
    );
END;
$$;

COMMENT ON FUNCTION authz.catalog_in_use IS
'What a catalog must declare to fit this database. It looks into the indexes of workspaces and subscriptions by plan once
for each plan, however many there are.
Returns: {meters: {meter: [kind, per, anchor]}, plans: a list of the plans that workspaces have or were given, deleted
ones too, and that subscriptions name that are not canceled, default_plan: the plan of new workspaces or null}.
Called by: authz_sidecar, before it decides by a catalog.';

CREATE FUNCTION authz.billing_document(seats bigint, turns jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN seats IS NULL AND turns IS NULL THEN NULL
    ELSE jsonb_build_object('seats', seats, 'turns', COALESCE(turns, '[]'))
END;
COMMENT ON FUNCTION authz.billing_document IS 'What follows from subscriptions besides plan and status, as the outbox tells it.
- seats: as workspaces.seats.
- turns: as workspaces.turns.
Returns: {seats, turns}; NULL if there is neither.
Called by: authz.workspace_document, authz.record_workspace and authz.unaccounted.';
REVOKE ALL ON FUNCTION authz.billing_document FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.workspace_document(workspace authz.workspaces)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object(
    'slug', (workspace).slug,
    'name', (workspace).name,
    'plan', (workspace).plan_tier,
    'status', (workspace).status,
    'reason', (workspace).status_reason,
    'subscribed_at', (workspace).subscribed_at
) || CASE
    WHEN (workspace).seats IS NULL AND (workspace).turns IS NULL THEN '{}'
    ELSE jsonb_build_object('billing', authz.billing_document((workspace).seats, (workspace).turns))
END;

COMMENT ON FUNCTION authz.workspace_document IS 'A workspace as the outbox tells of it.
- workspace: the row of authz.workspaces.
Returns: {slug, name, plan, status, reason, subscribed_at}, and with a subscription billing (authz.billing_document).
Called by: authz.record_workspace and authz.find_unrecorded.';

CREATE OR REPLACE FUNCTION authz.override_document(override authz.workspace_features)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object(
    'of', (override).kind,
    'name', (override).name,
    'value', CASE
        WHEN (override).kind = 'feature' THEN to_jsonb((override).enabled)
        WHEN (override).at_most IS NULL THEN '"unlimited"'
        ELSE to_jsonb((override).at_most)
    END,
    'expires_at', (override).expires_at,
    'reason', (override).reason
) || CASE
    WHEN (override).while_plan IS NULL THEN '{}'
    ELSE jsonb_build_object('while_plan', (override).while_plan)
END;

COMMENT ON FUNCTION authz.override_document IS 'An override as the outbox tells of it.
- override: the row of authz.workspace_features.
Returns: {of, name, value, expires_at, reason}, and while_plan if it ends with that plan.
Called by: authz.record_override and authz.find_unrecorded.';

CREATE OR REPLACE FUNCTION authz.record_workspace()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    others jsonb;
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM authz.record(OLD.id, 'workspace.purged', jsonb_build_object('slug', OLD.slug));
    END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM authz.record(NEW.id, 'workspace.created', authz.workspace_document(NEW));
        IF NEW.deleted_at IS NOT NULL THEN
            PERFORM authz.record(
                NEW.id,
                'workspace.deleted',
                jsonb_build_object('slug', NEW.slug, 'name', NEW.name, 'members', '[]'::jsonb)
            );
        END IF;
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN NULL;
    END IF;

    IF NEW.slug <> OLD.slug THEN
        PERFORM authz.record(NEW.id, 'workspace.slug_changed', jsonb_build_object('from', OLD.slug, 'to', NEW.slug));
    END IF;
    IF NEW.name <> OLD.name THEN
        PERFORM authz.record(NEW.id, 'workspace.renamed', jsonb_build_object('from', OLD.name, 'to', NEW.name));
    END IF;
    IF NEW.plan_tier <> OLD.plan_tier THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.plan_changed',
            jsonb_build_object('from', OLD.plan_tier, 'to', NEW.plan_tier, 'as_of', CASE
                -- Where a subscription speaks, its own row tells since when.
                WHEN NEW.given_plan IS NULL OR NEW.plan_as_of IS DISTINCT FROM OLD.plan_as_of THEN NEW.plan_as_of
            END)
        );
    END IF;
    IF NEW.subscribed_at <> OLD.subscribed_at THEN
        PERFORM authz.record(NEW.id, 'workspace.anchor_changed', jsonb_build_object(
            'from', OLD.subscribed_at, 'to', NEW.subscribed_at
        ));
    END IF;
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.deleted', jsonb_build_object(
            'slug', NEW.slug,
            'name', NEW.name,
            -- They go with it, and are not recorded one by one; after a deletion by hand they are.
            'members', CASE current_setting('authz.deleting', true)
                WHEN 'on' THEN NEW.members_before
                ELSE '[]'::jsonb
            END
        ));
    ELSIF NEW.deleted_at IS NULL AND OLD.deleted_at IS NOT NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.restored', jsonb_build_object('slug', NEW.slug));
    END IF;
    IF NEW.status <> OLD.status THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.status_changed',
            jsonb_build_object('from', OLD.status, 'to', NEW.status, 'reason', NEW.status_reason)
        );
    END IF;
    IF authz.billing_document(NEW.seats, NEW.turns) IS DISTINCT FROM authz.billing_document(OLD.seats, OLD.turns) THEN
        PERFORM authz.record(NEW.id, 'workspace.billing_changed', jsonb_build_object(
            'from', authz.billing_document(OLD.seats, OLD.turns), 'to', authz.billing_document(NEW.seats, NEW.turns)
        ));
    END IF;
    others := '{}';
    IF NEW.status = OLD.status AND NEW.status_reason IS DISTINCT FROM OLD.status_reason THEN
        others := others || jsonb_build_object('reason', jsonb_build_object(
            'from', OLD.status_reason, 'to', NEW.status_reason
        ));
    END IF;
    IF NEW.created_at <> OLD.created_at THEN
        others := others || jsonb_build_object('created_at', jsonb_build_object(
            'from', OLD.created_at, 'to', NEW.created_at
        ));
    END IF;
    IF others <> '{}' THEN
        PERFORM authz.record(NEW.id, 'workspace.changed', others);
    END IF;
    RETURN NULL;
END;
$$;

DROP TRIGGER record_workspace_updated ON authz.workspaces;
CREATE TRIGGER record_workspace_updated
    AFTER UPDATE OF id, slug, name, plan_tier, status, status_reason, seats, turns, subscribed_at, created_at, deleted_at
    ON authz.workspaces
    FOR EACH ROW EXECUTE FUNCTION authz.record_workspace();
COMMENT ON TRIGGER record_workspace_updated ON authz.workspaces IS
'Records what changes of a workspace, but for what is counted and when the plan was set.';
COMMENT ON COLUMN authz.outbox.kind IS
'What happened: workspace.created, .renamed, .slug_changed, .plan_changed, .status_changed, .billing_changed,
.anchor_changed, .changed, .deleted, .restored, .purged; subscription.set; member.joined, .left, .removed, .role_changed,
.changed; invitation.created, .accepted, .revoked, .replaced, .voided; override.set, .removed. What
authz.find_unrecorded found: workspace.found, .lost, member.found, .lost. Of no workspace: names.changed,
catalog.changed, history.began, .pruned.';

CREATE OR REPLACE FUNCTION authz.not_understood(at timestamptz DEFAULT clock_timestamp(), workspace uuid DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN (
        SELECT count(*)
        FROM authz.outbox AS o
        WHERE (not_understood.workspace IS NULL OR o.workspace_id = not_understood.workspace)
          AND o.at <= not_understood.at
          AND o.kind NOT IN (
              'workspace.created', 'workspace.renamed', 'workspace.slug_changed', 'workspace.plan_changed',
              'workspace.status_changed', 'workspace.billing_changed', 'workspace.anchor_changed', 'workspace.changed',
              'workspace.deleted', 'subscription.set',
              'workspace.restored', 'workspace.purged', 'workspace.found', 'workspace.lost',
              'member.joined', 'member.left', 'member.removed', 'member.role_changed', 'member.changed',
              'member.found', 'member.lost',
              'invitation.created', 'invitation.accepted', 'invitation.revoked', 'invitation.replaced',
              'invitation.voided', 'override.set', 'override.removed',
              'names.changed', 'catalog.changed', 'history.began', 'history.pruned'
          )
    );
END;
$$;

DROP FUNCTION authz.workspaces_told(timestamptz, uuid);
CREATE FUNCTION authz.workspaces_told(
    at timestamptz,
    workspace uuid,
    OUT workspace_id uuid,
    OUT event bigint,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT reason text,
    OUT subscribed_at timestamptz,
    OUT deleted boolean,
    OUT billing jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (
        SELECT o.workspace_id, o.id, o.kind, o.data, o.kind IN ('workspace.created', 'workspace.found') AS is_whole
        FROM authz.outbox AS o
        WHERE (workspaces_told.workspace IS NULL OR o.workspace_id = workspaces_told.workspace)
          AND o.at <= workspaces_told.at
          AND o.kind LIKE 'workspace.%'
    ),
    base AS (
        SELECT
            t.workspace_id,
            max(t.id) FILTER (WHERE t.is_whole) AS id,
            max(t.id) FILTER (WHERE t.kind IN ('workspace.purged', 'workspace.lost')) AS gone
        FROM told AS t
        GROUP BY t.workspace_id
    ),
    now AS (
        SELECT
            t.workspace_id,
            max(t.id) AS event,
            (array_agg(CASE WHEN t.is_whole THEN t.data ->> 'slug' ELSE t.data ->> 'to' END ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind = 'workspace.slug_changed'))[1] AS slug,
            (array_agg(CASE WHEN t.is_whole THEN t.data ->> 'name' ELSE t.data ->> 'to' END ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind = 'workspace.renamed'))[1] AS name,
            (array_agg(CASE WHEN t.is_whole THEN t.data ->> 'plan' ELSE t.data ->> 'to' END ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind = 'workspace.plan_changed'))[1] AS plan,
            max(t.id) FILTER (WHERE t.is_whole OR t.kind = 'workspace.plan_changed') AS plan_event,
            (array_agg(CASE WHEN t.is_whole THEN COALESCE(t.data ->> 'status', 'active') ELSE t.data ->> 'to' END
                ORDER BY t.id DESC) FILTER (WHERE t.is_whole OR t.kind = 'workspace.status_changed'))[1] AS status,
            (array_agg(
                CASE WHEN t.kind = 'workspace.changed' THEN t.data #>> '{reason,to}' ELSE t.data ->> 'reason' END
                ORDER BY t.id DESC
            ) FILTER (
                WHERE t.is_whole OR t.kind = 'workspace.status_changed'
                    OR t.kind = 'workspace.changed' AND t.data ? 'reason'
            ))[1] AS reason,
            (array_agg(
                CASE WHEN t.is_whole THEN t.data ->> 'subscribed_at' ELSE t.data ->> 'to' END ORDER BY t.id DESC
            )   FILTER (WHERE t.is_whole OR t.kind = 'workspace.anchor_changed'))[1] AS subscribed_at,
            NULLIF((
                array_agg(CASE WHEN t.is_whole THEN t.data -> 'billing' ELSE t.data -> 'to' END ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind = 'workspace.billing_changed')
            )[1], 'null') AS billing,
            max(t.id) FILTER (WHERE t.is_whole OR t.kind = 'workspace.billing_changed') AS billing_event,
            (array_agg(t.kind = 'workspace.deleted' OR t.is_whole AND t.data ? 'deleted' ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind IN ('workspace.deleted', 'workspace.restored')))[1] AS deleted
        FROM told AS t
        JOIN base AS b ON b.workspace_id = t.workspace_id AND t.id >= b.id AND (b.gone IS NULL OR b.gone < b.id)
        GROUP BY t.workspace_id
    )
    SELECT
        w.workspace_id, w.event, w.slug, w.name, COALESCE(n.later, w.plan), w.status, w.reason,
        w.subscribed_at::timestamptz, w.deleted,
        CASE WHEN w.billing IS NULL THEN NULL ELSE jsonb_build_object('seats', w.billing -> 'seats', 'turns', (
            SELECT COALESCE(jsonb_agg(
                t.turn || jsonb_build_object('plan', COALESCE(r.later, t.turn ->> 'plan')) ORDER BY t.number
            ), '[]')
            FROM jsonb_array_elements(w.billing -> 'turns') WITH ORDINALITY AS t (turn, number)
            LEFT JOIN authz.names_since('plan', workspaces_told.at) AS r
                ON r.name = t.turn ->> 'plan' AND w.billing_event > r.first_id AND w.billing_event < r.last_id
        )) END
    FROM now AS w
    LEFT JOIN authz.names_since('plan', workspaces_told.at) AS n
        ON n.name = w.plan AND w.plan_event > n.first_id AND w.plan_event < n.last_id;
END;
$$;

COMMENT ON FUNCTION authz.workspaces_told IS
'What the history tells of workspaces at a moment, deleted ones too: as of the last write before it.
- at: the moment.
- workspace: a workspace; NULL: all.
- workspace_id: (result) the workspace.
- event: (result) the id of the last row about the workspace itself.
- slug: (result) its slug.
- name: (result) its name.
- plan: (result) its plan.
- status: (result) active or suspended.
- reason: (result) why.
- subscribed_at: (result) where its months begin. NULL: rows of before this was recorded do not tell it.
- deleted: (result) whether it was deleted.
- billing: (result) authz.billing_document: what changes by time from then on. NULL: nothing.
Returns: a row for each workspace that was there.
Called by: authz.workspaces_at, authz.unaccounted, authz.find_unrecorded and authz.prune_history.';
REVOKE ALL ON FUNCTION authz.workspaces_told FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.workspaces_at(
    at timestamptz DEFAULT clock_timestamp(),
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT features jsonb,
    OUT limits jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        w.workspace_id, w.slug, w.name,
        COALESCE(authz.turn_at(w.billing -> 'turns', workspaces_at.at) ->> 'plan', w.plan),
        COALESCE(authz.turn_at(w.billing -> 'turns', workspaces_at.at) ->> 'status', w.status),
        COALESCE(o.features, '{}'), COALESCE(o.limits, '{}')
    FROM authz.workspaces_told(workspaces_at.at, workspaces_at.workspace) AS w
    LEFT JOIN (
        SELECT
            t.workspace_id,
            jsonb_object_agg(t.name, t.value) FILTER (WHERE t.kind = 'feature') AS features,
            jsonb_object_agg(t.name, NULLIF(t.value, '"unlimited"')) FILTER (WHERE t.kind = 'limit') AS limits
        FROM authz.overrides_told(workspaces_at.at, workspaces_at.workspace) AS t
        WHERE t.expires_at IS NULL OR t.expires_at > workspaces_at.at
        GROUP BY t.workspace_id
    ) AS o ON o.workspace_id = w.workspace_id
    WHERE NOT w.deleted
    ORDER BY w.workspace_id;
END;
$$;

CREATE OR REPLACE FUNCTION authz.unaccounted(
    OUT workspace_id uuid, OUT workspace text, OUT what text, OUT name text, OUT recorded jsonb, OUT stored jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (SELECT t.* FROM authz.workspaces_told('infinity', NULL) AS t),
    differing AS (
        SELECT COALESCE(h.workspace_id, m.workspace_id) AS workspace_id, 'member' AS what,
            COALESCE(h.user_id, m.user_id) AS name, to_jsonb(h.role) AS recorded, to_jsonb(m.role) AS stored
        FROM authz.members_at('infinity') AS h
        FULL JOIN authz.workspace_memberships AS m ON m.workspace_id = h.workspace_id AND m.user_id = h.user_id
        WHERE h.role IS DISTINCT FROM m.role
        UNION ALL
        SELECT COALESCE(h.workspace_id, w.id), 'workspace', NULL, to_jsonb(h.slug), to_jsonb(w.slug)
        FROM told AS h
        FULL JOIN authz.workspaces AS w ON w.id = h.workspace_id
        WHERE h.workspace_id IS NULL OR w.id IS NULL
        UNION ALL
        SELECT w.id, v.what, NULL, v.recorded, v.stored
        FROM told AS h
        JOIN authz.workspaces AS w ON w.id = h.workspace_id
        CROSS JOIN LATERAL (VALUES
            ('slug', to_jsonb(h.slug), to_jsonb(w.slug)),
            ('name', to_jsonb(h.name), to_jsonb(w.name)),
            ('plan', to_jsonb(h.plan), to_jsonb(w.plan_tier)),
            ('status', to_jsonb(h.status), to_jsonb(w.status)),
            -- Rows of before it was recorded do not tell it.
            ('anchor', COALESCE(to_jsonb(h.subscribed_at), to_jsonb(w.subscribed_at)), to_jsonb(w.subscribed_at)),
            ('billing', h.billing, authz.billing_document(w.seats, w.turns)),
            ('deleted', to_jsonb(h.deleted), to_jsonb(w.deleted_at IS NOT NULL))
        ) AS v (what, recorded, stored)
        WHERE v.recorded IS DISTINCT FROM v.stored
        UNION ALL
        SELECT COALESCE(h.workspace_id, f.workspace_id), COALESCE(h.kind, f.kind), COALESCE(h.name, f.name),
            CASE WHEN h.name IS NOT NULL THEN jsonb_build_object('value', h.value, 'expires_at', h.expires_at) END,
            CASE WHEN f.name IS NOT NULL THEN jsonb_build_object('value', f.value, 'expires_at', f.expires_at) END
        FROM authz.overrides_told('infinity', NULL) AS h
        FULL JOIN (
            SELECT f.workspace_id, f.kind, f.name, authz.override_document(f) -> 'value' AS value, f.expires_at
            FROM authz.workspace_features AS f
        ) AS f ON f.workspace_id = h.workspace_id AND f.kind = h.kind AND f.name = h.name
        WHERE (h.value, h.expires_at, h.name) IS DISTINCT FROM (f.value, f.expires_at, f.name)
    )
    SELECT d.workspace_id, COALESCE(w.slug, h.slug), d.what, d.name, d.recorded, d.stored
    FROM differing AS d
    LEFT JOIN authz.workspaces AS w ON w.id = d.workspace_id
    LEFT JOIN told AS h ON h.workspace_id = d.workspace_id
    ORDER BY d.workspace_id, d.what, d.name;
END;
$$;

COMMENT ON FUNCTION authz.unaccounted IS
'Where the tables and the history differ: what was changed without being recorded. It takes seconds for some hundred
thousand members.
- workspace_id: (result) the workspace.
- workspace: (result) its slug.
- what: (result) member, workspace, slug, name, plan, status, anchor, billing, deleted, feature or limit.
- name: (result) of a member the user, of an override the feature or meter; else NULL.
- recorded: (result) what the history tells: a role, a text, or {value, expires_at}. NULL: nothing.
- stored: (result) what the table has. NULL: nothing.
Returns: a row for each difference, by workspace.
Called by: authz_audit; authz.find_unrecorded.';

CREATE OR REPLACE FUNCTION authz.prune_history(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    doomed bigint[];
    standing authz.outbox[];
    hash text;
BEGIN
    IF before IS NULL OR NOT isfinite(before) OR before > clock_timestamp() THEN
        RAISE EXCEPTION 'before is not a moment that has been: %', before USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(7022042);
    -- One statement, and so one snapshot. A row takes the id of one that it stands for: what comes later is later.
    WITH members AS MATERIALIZED (SELECT m.* FROM authz.members_at(before) AS m),
    workspaces AS MATERIALIZED (SELECT w.* FROM authz.workspaces_told(before, NULL) AS w),
    overrides AS MATERIALIZED (SELECT f.* FROM authz.overrides_told(before, NULL) AS f),
    old AS MATERIALIZED (SELECT o.* FROM authz.outbox AS o WHERE o.at < before),
    last AS (
        SELECT o.workspace_id, max(o.id) AS id,
            max(o.id) FILTER (WHERE o.kind LIKE 'workspace.%') AS of_itself,
            max(o.id) FILTER (WHERE o.kind LIKE 'workspace.%' OR o.kind LIKE 'override.%') AS of_state
        FROM old AS o
        GROUP BY o.workspace_id
    ),
    gone AS (
        SELECT o.* FROM old AS o
        LEFT JOIN members AS m ON m.workspace_id = o.workspace_id AND m.event = o.id
        LEFT JOIN last AS l ON l.workspace_id = o.workspace_id
        -- What was found and still tells it stays.
        WHERE NOT (o.kind = 'member.found' AND m.event IS NOT NULL)
          AND NOT (o.kind = 'workspace.found' AND l.of_state = o.id)
          AND o.kind NOT IN ('history.began', 'history.pruned')
    ),
    kept AS (
        SELECT m.workspace_id, m.event AS id, 'member.found' AS kind,
            jsonb_build_object('user', m.user_id, 'role', m.role, 'since', m.since) AS data
        FROM members AS m
        UNION ALL
        SELECT w.workspace_id, l.of_itself, 'workspace.found',
            jsonb_build_object(
                'slug', w.slug, 'name', w.name, 'plan', w.plan, 'status', w.status, 'reason', w.reason,
                'subscribed_at', w.subscribed_at
            )
            || CASE WHEN w.billing IS NULL THEN '{}' ELSE jsonb_build_object('billing', w.billing) END
            || CASE WHEN w.deleted THEN '{"deleted": true}' ELSE '{}' END::jsonb
            || jsonb_build_object('overrides', COALESCE((
                SELECT jsonb_agg(jsonb_build_object(
                    'of', f.kind, 'name', f.name, 'value', f.value, 'expires_at', f.expires_at, 'reason', f.reason
                ) ORDER BY f.kind, f.name)
                FROM overrides AS f
                WHERE f.workspace_id = w.workspace_id
            ), '[]'))
        FROM workspaces AS w
        JOIN last AS l ON l.workspace_id = w.workspace_id
    )
    SELECT
        (SELECT array_agg(g.id) FROM gone AS g),
        (
            SELECT encode(sha256(string_agg(authz.outbox_hash(o), '' ORDER BY o.transaction, o.id)), 'hex')
            FROM authz.outbox AS o
            WHERE o.id IN (SELECT g.id FROM gone AS g)
        ),
        (
            SELECT array_agg(ROW(
                k.id, before, pg_current_xact_id(), k.workspace_id, session_user, 'sql', k.kind, k.data, NULL
            )::authz.outbox)
            FROM kept AS k
            JOIN gone AS g ON g.id = k.id
        )
    INTO doomed, hash, standing;
    IF doomed IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM authz.record('00000000-0000-0000-0000-000000000000', 'history.pruned', jsonb_build_object(
        'before', before, 'rows', cardinality(doomed), 'sha256', hash
    ));
    DELETE FROM authz.outbox AS o WHERE o.id = ANY (doomed);
    INSERT INTO authz.outbox (id, at, transaction, workspace_id, actor, actor_kind, kind, data, decision_id)
    OVERRIDING SYSTEM VALUE
    SELECT s.id, s.at, s.transaction, s.workspace_id, s.actor, s.actor_kind, s.kind, s.data, s.decision_id
    FROM unnest(standing) AS s;
    RETURN cardinality(doomed);
END;
$$;

CREATE OR REPLACE FUNCTION authz.people(
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT deleted_at timestamptz,
    OUT members jsonb,
    OUT invitations jsonb,
    OUT overrides jsonb,
    OUT limits jsonb,
    OUT usage jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET plan_cache_mode = force_custom_plan SET work_mem = '64MB'
AS $$
BEGIN
    RETURN QUERY
    WITH nobodies AS MATERIALIZED (SELECT n.id FROM authz.nobodies(people.workspace) AS n (id))
    SELECT
        w.id, w.slug, w.name, w.plan_tier, w.status, w.deleted_at,
        COALESCE(m.members, '[]'), COALESCE(i.invitations, '[]'), COALESCE(f.overrides, '[]'),
        COALESCE(f.limits, '{}'), COALESCE(u.usage, '{}')
    FROM authz.workspaces_now AS w
    LEFT JOIN (
        SELECT m.workspace_id, jsonb_agg(
            jsonb_build_object(
                'user', m.user_id, 'role', m.role, 'email', authz.email_or(m.user_id, u.email),
                'joined_at', m.joined_at, 'exists', n.id IS NULL
            )
            ORDER BY m.user_id
        ) AS members
        FROM authz.workspace_memberships AS m
        LEFT JOIN authz.users AS u ON u.id = m.user_id
        LEFT JOIN nobodies AS n ON n.id = m.user_id
        WHERE people.workspace IS NULL OR m.workspace_id = people.workspace
        GROUP BY m.workspace_id
    ) AS m ON m.workspace_id = w.id
    LEFT JOIN (
        SELECT
            i.workspace_id,
            jsonb_agg(authz.invitation_document(i) ORDER BY authz.email_key(i.email)) AS invitations
        FROM authz.workspace_invitations AS i
        WHERE (people.workspace IS NULL OR i.workspace_id = people.workspace) AND i.expires_at > statement_timestamp()
        GROUP BY i.workspace_id
    ) AS i ON i.workspace_id = w.id
    LEFT JOIN (
        SELECT
            f.workspace_id,
            jsonb_agg(
                authz.override_document(f) || jsonb_build_object('changed_at', f.changed_at) ORDER BY f.kind, f.name
            ) AS overrides,
            jsonb_object_agg(f.name, f.at_most) FILTER (WHERE f.kind = 'limit') AS limits
        FROM authz.workspace_features AS f
        WHERE (people.workspace IS NULL OR f.workspace_id = people.workspace)
          AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ) AS f ON f.workspace_id = w.id
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(t.name, CASE
            WHEN t.kind = 'members' THEN w.member_count + jsonb_array_length(COALESCE(i.invitations, '[]'))
            WHEN c.period_start >= p.starts THEN c.used
            ELSE 0
        END) AS usage
        FROM authz.meters AS t
        LEFT JOIN authz.workspace_usage AS c ON c.workspace_id = w.id AND c.meter = t.name
        CROSS JOIN LATERAL authz.period_at(
            t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
        ) AS p
        WHERE t.kind <> 'owned' AND position('#' IN t.name) = 0
    ) AS u ON true
    WHERE (people.workspace IS NULL OR w.id = people.workspace)
      AND (w.deleted_at IS NULL OR m.members IS NOT NULL)
    ORDER BY w.slug;
END;
$$;

CREATE OR REPLACE FUNCTION authz.workspaces_standing(
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT features jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT w.id, w.slug, w.name, w.plan_tier, w.status, COALESCE(o.features, '{}')
    FROM authz.workspaces_now AS w
    LEFT JOIN (
        SELECT f.workspace_id, jsonb_object_agg(f.name, f.enabled) AS features
        FROM authz.workspace_features AS f
        WHERE (workspaces_standing.workspace IS NULL OR f.workspace_id = workspaces_standing.workspace)
          AND f.kind = 'feature' AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ) AS o ON o.workspace_id = w.id
    WHERE (workspaces_standing.workspace IS NULL OR w.id = workspaces_standing.workspace)
      AND (w.deleted_at IS NULL OR EXISTS (
          SELECT FROM authz.workspace_memberships AS m WHERE m.workspace_id = w.id
      ))
    ORDER BY w.slug;
END;
$$;

CREATE OR REPLACE FUNCTION authz.audience_together(
    at_most bigint DEFAULT 20,
    OUT plan text,
    OUT status text,
    OUT role text,
    OUT features jsonb,
    OUT roles text[],
    OUT workspaces bigint,
    OUT people bigint,
    OUT first text[]
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
AS $$
BEGIN
    RETURN QUERY
    WITH overridden AS MATERIALIZED (
        SELECT f.workspace_id, jsonb_object_agg(f.name, f.enabled) AS features
        FROM authz.workspace_features AS f
        WHERE f.kind = 'feature' AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ),
    nobodies AS MATERIALIZED (SELECT n.id FROM authz.nobodies(NULL) AS n (id)),
    holding AS (
        SELECT m.workspace_id, m.role, count(*) AS people
        FROM authz.workspace_memberships AS m
        WHERE NOT EXISTS (SELECT FROM nobodies AS n WHERE n.id = m.user_id)
        GROUP BY m.workspace_id, m.role
    ),
    held AS MATERIALIZED (
        SELECT
            w.slug, w.plan_tier, w.status, COALESCE(o.features, '{}') AS features, h.roles, h.people
        FROM (
            SELECT
                h.workspace_id, array_agg(h.role ORDER BY h.role) AS roles, array_agg(h.people ORDER BY h.role) AS people
            FROM holding AS h
            GROUP BY h.workspace_id
        ) AS h
        JOIN authz.workspaces_now AS w ON w.id = h.workspace_id
        LEFT JOIN overridden AS o ON o.workspace_id = w.id
    ),
    -- Compared by a number from here: there are few kinds, and many workspaces.
    kinds AS MATERIALIZED (
        SELECT row_number() OVER () AS kind, k.*
        FROM (SELECT DISTINCT h.plan_tier, h.status, h.features, h.roles FROM held AS h) AS k
    ),
    numbered AS MATERIALIZED (
        SELECT k.kind, h.slug, h.people
        FROM held AS h
        JOIN kinds AS k
            ON k.plan_tier = h.plan_tier AND k.status = h.status AND k.features = h.features AND k.roles = h.roles
    ),
    named AS (
        SELECT n.kind, count(*) AS workspaces, (array_agg(n.slug ORDER BY n.slug))[:audience_together.at_most] AS first
        FROM numbered AS n
        GROUP BY n.kind
    ),
    counted AS (
        SELECT n.kind, p.place, sum(p.people)::bigint AS people
        FROM numbered AS n
        CROSS JOIN LATERAL unnest(n.people) WITH ORDINALITY AS p (people, place)
        GROUP BY n.kind, p.place
    )
    SELECT k.plan_tier, k.status, k.roles[c.place], k.features, k.roles, n.workspaces, c.people, n.first
    FROM kinds AS k
    JOIN named AS n ON n.kind = k.kind
    JOIN counted AS c ON c.kind = k.kind
    ORDER BY 1, 2, 3, 4, 5;
END;
$$;

CREATE OR REPLACE FUNCTION authz.over_limits(
    limits jsonb,
    OUT workspace_id uuid,
    OUT slug text,
    OUT plan text,
    OUT meter text,
    OUT at_most bigint,
    OUT used bigint,
    OUT over bigint
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT p.key AS plan, t.name AS meter, t.kind, t.per, t.anchor, m.value::bigint AS at_most
        FROM jsonb_each(limits) AS p
        CROSS JOIN LATERAL jsonb_each_text(p.value) AS m
        JOIN authz.meters AS t ON t.name = m.key
        WHERE m.value IS NOT NULL
    ),
    owned AS MATERIALIZED (
        SELECT (array_agg(w.id ORDER BY w.created_at, w.id))[1] AS workspace_id, count(*) AS used
        FROM authz.workspace_memberships AS m
        JOIN authz.workspaces AS w ON w.id = m.workspace_id AND w.deleted_at IS NULL
        WHERE m.role = authz.owner_role() AND EXISTS (SELECT FROM asked AS a WHERE a.kind = 'owned')
        GROUP BY m.user_id
    ),
    counted AS (
        SELECT w.id, w.slug, w.plan_tier, a.meter,
            CASE WHEN a.kind = 'members' THEN COALESCE(w.seats, a.at_most) ELSE a.at_most END AS at_most,
            CASE a.kind
            WHEN 'members' THEN w.member_count + authz.open_invitations(w.id, statement_timestamp())
            WHEN 'owned' THEN (SELECT o.used FROM owned AS o WHERE o.workspace_id = w.id)
            ELSE (
                SELECT u.used
                FROM authz.workspace_usage AS u
                CROSS JOIN LATERAL authz.period_at(
                    a.per, authz.anchor_of(a.anchor, w.subscribed_at), statement_timestamp()
                ) AS p
                WHERE u.workspace_id = w.id AND u.meter = a.meter AND u.period_start >= p.starts
            )
        END AS used
        FROM asked AS a
        JOIN authz.workspaces_now AS w ON w.plan_tier = a.plan AND w.deleted_at IS NULL
        WHERE NOT EXISTS (
            SELECT FROM authz.workspace_features AS f
            WHERE f.workspace_id = w.id
              AND f.kind = 'limit'
              AND f.name = a.meter
              AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        )
    )
    SELECT c.id, c.slug, c.plan_tier, c.meter, c.at_most, c.used, c.used - c.at_most
    FROM counted AS c
    WHERE c.used > c.at_most
    ORDER BY c.plan_tier, c.meter, c.slug;
END;
$$;

CREATE OR REPLACE FUNCTION authz.rename_rows(kind text, names jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former CONSTANT text[] := ARRAY(SELECT jsonb_object_keys(names));
BEGIN
    PERFORM pg_advisory_xact_lock(7022038);
    -- A name that changes is no change of a workspace: nothing is recorded, and no invitation becomes void.
    CASE kind
        WHEN 'feature' THEN
            IF EXISTS (
                SELECT FROM authz.workspace_features AS f WHERE f.kind = 'feature' AND f.name = ANY (former)
            ) THEN
                ALTER TABLE authz.workspace_features DISABLE TRIGGER record_override;
                UPDATE authz.workspace_features AS f SET name = names ->> f.name
                WHERE f.kind = 'feature' AND f.name = ANY (former);
                ALTER TABLE authz.workspace_features ENABLE TRIGGER record_override;
            END IF;
        WHEN 'meter' THEN
            UPDATE authz.meters AS t SET name = names ->> t.name WHERE t.name = ANY (former);
            IF EXISTS (
                SELECT FROM authz.workspace_features AS f WHERE f.kind = 'limit' AND f.name = ANY (former)
            ) THEN
                ALTER TABLE authz.workspace_features DISABLE TRIGGER record_override;
                UPDATE authz.workspace_features AS f SET name = names ->> f.name
                WHERE f.kind = 'limit' AND f.name = ANY (former);
                ALTER TABLE authz.workspace_features ENABLE TRIGGER record_override;
            END IF;
            UPDATE authz.workspace_usage AS u SET meter = names ->> u.meter WHERE u.meter = ANY (former);
            UPDATE authz.usage_holds AS h SET meter = names ->> h.meter WHERE h.meter = ANY (former);
            UPDATE authz.usage_resources AS r SET meter = names ->> r.meter WHERE r.meter = ANY (former);
            UPDATE authz.usage_reservations AS r
            SET amounts = authz.renamed(r.amounts, names), committed = authz.renamed(r.committed, names)
            WHERE r.amounts ?| former;
            UPDATE authz.usage_keys AS k
            SET meters = ARRAY(
                    SELECT COALESCE(names ->> m.meter, m.meter)
                    FROM unnest(k.meters) WITH ORDINALITY AS m (meter, number)
                    ORDER BY m.number
                ),
                quota = authz.renamed(k.quota, names),
                given_back = authz.renamed(k.given_back, names),
                held = (k.held::jsonb || jsonb_build_object(
                    'amounts', authz.renamed(k.held::jsonb -> 'amounts', names)
                ))::json,
                answer = CASE
                    WHEN k.answer -> 'frees_at' IS NULL THEN k.answer
                    ELSE (k.answer::jsonb || jsonb_build_object(
                        'frees_at', authz.renamed(k.answer::jsonb -> 'frees_at', names)
                    ))::json
                END
            WHERE k.meters && former;
            UPDATE authz.usage_ledger AS l SET meter = names ->> l.meter WHERE l.meter = ANY (former);
        WHEN 'plan' THEN
            IF EXISTS (SELECT FROM authz.workspaces AS w WHERE w.plan_tier = ANY (former)) OR EXISTS (
                SELECT FROM authz.workspaces AS w WHERE w.given_plan = ANY (former) OR w.turns IS NOT NULL
            ) THEN
                ALTER TABLE authz.workspaces DISABLE TRIGGER record_workspace_updated;
                UPDATE authz.workspaces AS w
                SET plan_tier = COALESCE(names ->> w.plan_tier, w.plan_tier),
                    given_plan = COALESCE(names ->> w.given_plan, w.given_plan),
                    turns = (
                        SELECT jsonb_agg(t.turn || jsonb_build_object(
                            'plan', COALESCE(names ->> (t.turn ->> 'plan'), t.turn ->> 'plan')
                        ) ORDER BY t.number)
                        FROM jsonb_array_elements(w.turns) WITH ORDINALITY AS t (turn, number)
                    )
                WHERE w.plan_tier = ANY (former) OR w.given_plan = ANY (former) OR w.turns IS NOT NULL;
                ALTER TABLE authz.workspaces ENABLE TRIGGER record_workspace_updated;
            END IF;
            IF EXISTS (SELECT FROM authz.workspace_features AS f WHERE f.while_plan = ANY (former)) THEN
                ALTER TABLE authz.workspace_features DISABLE TRIGGER record_override;
                UPDATE authz.workspace_features AS f SET while_plan = names ->> f.while_plan
                WHERE f.while_plan = ANY (former);
                ALTER TABLE authz.workspace_features ENABLE TRIGGER record_override;
            END IF;
            IF EXISTS (SELECT FROM authz.workspace_subscriptions AS s WHERE s.plan = ANY (former)) THEN
                ALTER TABLE authz.workspace_subscriptions DISABLE TRIGGER record_subscription;
                UPDATE authz.workspace_subscriptions AS s SET plan = names ->> s.plan WHERE s.plan = ANY (former);
                ALTER TABLE authz.workspace_subscriptions ENABLE TRIGGER record_subscription;
            END IF;
            UPDATE authz.subscription_events AS e SET plan = names ->> e.plan WHERE e.plan = ANY (former);
            UPDATE authz.catalog AS c
            SET billing = c.billing || (
                SELECT COALESCE(jsonb_object_agg(b.key, names -> b.value), '{}')
                FROM jsonb_each_text(c.billing) AS b
                WHERE b.value = ANY (former)
            )
            WHERE c.billing IS NOT NULL;
            UPDATE authz.usage_keys AS k
            SET answer = (k.answer::jsonb || jsonb_build_object('plan', names -> (k.answer ->> 'plan')))::json
            WHERE k.answer ->> 'plan' = ANY (former);
        WHEN 'role' THEN
            IF EXISTS (SELECT FROM authz.workspace_memberships AS m WHERE m.role = ANY (former)) THEN
                ALTER TABLE authz.workspace_memberships DISABLE TRIGGER record_members_updated;
                ALTER TABLE authz.workspace_memberships DISABLE TRIGGER void_invitations_updated;
                UPDATE authz.workspace_memberships AS m SET role = names ->> m.role WHERE m.role = ANY (former);
                ALTER TABLE authz.workspace_memberships ENABLE TRIGGER void_invitations_updated;
                ALTER TABLE authz.workspace_memberships ENABLE TRIGGER record_members_updated;
            END IF;
            UPDATE authz.workspace_invitations AS i SET role = names ->> i.role WHERE i.role = ANY (former);
            UPDATE authz.workspaces AS w
            SET members_before = (
                SELECT jsonb_agg(
                    m.member || jsonb_build_object(
                        'role', COALESCE(names ->> (m.member ->> 'role'), m.member ->> 'role')
                    )
                    ORDER BY m.number
                )
                FROM jsonb_array_elements(w.members_before) WITH ORDINALITY AS m (member, number)
            )
            WHERE EXISTS (
                SELECT FROM jsonb_to_recordset(w.members_before) AS m (role text) WHERE m.role = ANY (former)
            );
            UPDATE authz.usage_keys AS k
            SET answer = (k.answer::jsonb || jsonb_build_object('role', names -> (k.answer ->> 'role')))::json
            WHERE k.answer ->> 'role' = ANY (former);
        WHEN 'action' THEN
            UPDATE authz.usage_reservations AS r SET action = names ->> r.action WHERE r.action = ANY (former);
            UPDATE authz.usage_ledger AS l SET action = names ->> l.action WHERE l.action = ANY (former);
    END CASE;
END;
$$;

-- As before: half a million rows are sorted and hashed in memory.
ALTER FUNCTION authz.workspaces_told SET work_mem = '64MB';
ALTER FUNCTION authz.unaccounted SET work_mem = '64MB';
ALTER FUNCTION authz.over_limits SET work_mem = '64MB';
