-- The guard: whether there is room is found out in the call that takes it.

CREATE FUNCTION authz.repeat_of(
    workspace_id uuid, meters text[], resource text, key text, fingerprint text, moment timestamptz
)
RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
DECLARE
    known record;
    levels text[];
    made record;
BEGIN
    IF repeat_of.key IS NOT NULL THEN
        SELECT k.fingerprint, k.decision_id, k.answer, k.at, k.quota, k.held INTO known
        FROM authz.usage_keys AS k
        WHERE k.workspace_id = repeat_of.workspace_id AND k.key = repeat_of.key AND k.expires_at > moment;
        IF known.fingerprint <> repeat_of.fingerprint THEN
            RETURN '{"outcome": "key_reused"}';
        ELSIF FOUND THEN
            RETURN json_build_object(
                'outcome', 'repeated',
                'decision_id', known.decision_id,
                'answer', known.answer,
                'at', known.at,
                'quota', known.quota,
                'reservation', known.held
            );
        END IF;
    END IF;
    IF repeat_of.resource IS NULL THEN
        RETURN NULL;
    END IF;

    SELECT array_agg(t.name) INTO levels
    FROM authz.meters AS t
    WHERE t.name = ANY (repeat_of.meters) AND t.kind = 'level';
    SELECT min(r.decision_id) AS decision_id, min(r.revision) AS revision, count(*) AS there INTO made
    FROM authz.usage_resources AS r
    WHERE r.workspace_id = repeat_of.workspace_id
      AND r.meter = ANY (levels)
      AND r.resource = repeat_of.resource;
    IF made.there = 0 OR made.there < cardinality(levels) THEN
        RETURN NULL;
    END IF;
    RETURN json_build_object(
        'outcome', 'repeated',
        'decision_id', made.decision_id,
        'revision', made.revision,
        'now', authz.quota_now(repeat_of.workspace_id, repeat_of.meters)
    );
END;
$$;
COMMENT ON FUNCTION authz.repeat_of IS
    'What was answered before under this key, or when this resource was made; NULL if this is the first time.';
REVOKE ALL ON FUNCTION authz.repeat_of FROM PUBLIC;

CREATE FUNCTION authz.repeated(workspace_id uuid, meters text[], resource text, key text, fingerprint text)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' SET enable_seqscan = off
AS $$
BEGIN
    RETURN authz.repeat_of(workspace_id, meters, resource, key, fingerprint, clock_timestamp());
END;
$$;
COMMENT ON FUNCTION authz.repeated IS 'As repeat_of, now: for who would be denied if this were the first time.';
REVOKE ALL ON FUNCTION authz.repeated FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.repeated TO authz_sidecar;

CREATE FUNCTION authz.amounts_of(meters text[], amounts bigint[])
RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN (
    SELECT COALESCE(jsonb_object_agg(a.meter, a.amount), '{}') FROM unnest(meters, amounts) AS a (meter, amount)
);
REVOKE ALL ON FUNCTION authz.amounts_of FROM PUBLIC;

CREATE FUNCTION authz.settle(
    workspace_id uuid,
    reservation text,
    committed jsonb, -- meter: amount
    meters text[], -- what was charged for it, as in usage_keys
    amounts bigint[],
    starts timestamptz[]
)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
DECLARE
    settled record;
BEGIN
    UPDATE authz.usage_reservations AS r SET state = 'committed', committed = settle.committed
    WHERE r.workspace_id = settle.workspace_id AND r.id = settle.reservation
    RETURNING r.key INTO settled;
    DELETE FROM authz.usage_holds AS h
    WHERE h.workspace_id = settle.workspace_id AND h.reservation = settle.reservation;
    -- Now the key of the reservation has taken something, which can be refunded.
    UPDATE authz.usage_keys AS k SET meters = settle.meters, amounts = settle.amounts, starts = settle.starts
    WHERE k.workspace_id = settle.workspace_id AND k.key = settled.key AND k.reservation = settle.reservation;
END;
$$;
COMMENT ON FUNCTION authz.settle IS 'The reservation is committed.';
REVOKE ALL ON FUNCTION authz.settle FROM PUBLIC;

CREATE FUNCTION authz.take(
    workspace_id uuid,
    facts_version bigint, -- that the decision saw
    user_id text,
    action text,
    meters text[], -- sorted: the order of locks
    amounts bigint[],
    limits bigint[], -- the verdict's; NULL is unlimited
    resource text,
    key text,
    fingerprint text,
    ttl_s integer, -- NULL: consume
    reservation text, -- the id of a new one; without ttl_s, of the one that is committed late
    decision_id text,
    revision text,
    answer json -- what a repeat is told again, but for the figures
)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
-- One plan a session, by index whatever the statistics say: one that was made while a table was small must not scan it
-- when it has grown.
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
            PERFORM FROM authz.usage_reservations AS r
            WHERE r.workspace_id = take.workspace_id AND r.id = take.reservation AND r.state = 'held'
            FOR UPDATE;
            IF NOT FOUND THEN
                outcome := '{"outcome": "settled"}'; -- somebody was faster
                EXIT untaken;
            END IF;
        END IF;
        SELECT w.facts_version, w.subscribed_at INTO workspace
        FROM authz.workspaces AS w
        WHERE w.id = take.workspace_id
        FOR SHARE;
        IF workspace.facts_version IS DISTINCT FROM take.facts_version THEN
            outcome := '{"outcome": "stale"}';
            EXIT untaken;
        END IF;
        moment := clock_timestamp(); -- after the locks: whoever waited past midnight is charged today
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
            DELETE FROM authz.usage_keys AS k
            WHERE k.workspace_id = take.workspace_id AND k.key = take.key AND k.expires_at <= moment;
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
            PERFORM authz.settle(workspace_id, reservation, authz.amounts_of(meters, amounts), meters, wanted, starts);
        END IF;
        RETURN json_build_object('outcome', 'taken', 'at', moment, 'quota', quota, 'reservation', held);
    END;

    IF made <> '{}' THEN
        DELETE FROM authz.workspace_usage AS u WHERE u.workspace_id = take.workspace_id AND u.meter = ANY (made);
    END IF;
    RETURN outcome;
END;
$$;
COMMENT ON FUNCTION authz.take IS
    'All of it or nothing. outcome: taken, repeated, key_reused, refused (with the facts as they are), stale, settled.';
REVOKE ALL ON FUNCTION authz.take FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.take TO authz_sidecar;
