-- The guard: whether there is room is found out in the call that takes it.

CREATE FUNCTION authz.repeat_of(
    workspace_id uuid, meters text[], resource text, key text, fingerprint text, moment timestamptz
)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    known authz.usage_keys;
    levels text[];
    made record;
BEGIN
    IF repeat_of.key IS NOT NULL THEN
        SELECT k.* INTO known
        FROM authz.usage_keys AS k
        WHERE k.workspace_id = repeat_of.workspace_id AND k.key = repeat_of.key AND k.expires_at > moment;
        IF FOUND THEN
            IF known.fingerprint <> repeat_of.fingerprint THEN
                RETURN '{"outcome": "key_reused"}';
            END IF;
            RETURN json_build_object(
                'outcome', 'repeated', 'decision_id', known.decision_id, 'answer', known.answer
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
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ''
BEGIN ATOMIC
    SELECT authz.repeat_of(
        repeated.workspace_id, repeated.meters, repeated.resource, repeated.key, repeated.fingerprint,
        clock_timestamp()
    );
END;
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

CREATE FUNCTION authz.charges_of(meters text[], amounts bigint[], starts timestamptz[])
RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN (
    SELECT COALESCE(jsonb_object_agg(c.meter, jsonb_build_array(c.amount, c.start)), '{}')
    FROM unnest(meters, amounts, starts) AS c (meter, amount, start)
);
COMMENT ON FUNCTION authz.charges_of IS 'meter: [amount, period_start], as usage_keys.taken has it.';
REVOKE ALL ON FUNCTION authz.charges_of FROM PUBLIC;

CREATE FUNCTION authz.charge(
    workspace_id uuid,
    meter text,
    period_start timestamptz,
    amount bigint, -- negative: given back
    kind text,
    user_id text,
    action text,
    resource text,
    decision_id text,
    moment timestamptz
)
RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    INSERT INTO authz.usage_ledger
        (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
    VALUES (
        charge.workspace_id,
        charge.moment,
        charge.meter,
        charge.period_start,
        charge.amount,
        charge.kind,
        charge.user_id,
        charge.action,
        charge.resource,
        charge.decision_id
    );
END;
COMMENT ON FUNCTION authz.charge IS 'One line of the ledger.';
REVOKE ALL ON FUNCTION authz.charge FROM PUBLIC;

CREATE FUNCTION authz.settle(workspace_id uuid, reservation text, committed jsonb, charges jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
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
    UPDATE authz.usage_keys AS k SET taken = settle.charges
    WHERE k.workspace_id = settle.workspace_id AND k.key = settled.key AND k.reservation = settle.reservation;
END;
$$;
COMMENT ON FUNCTION authz.settle IS
    'The reservation is committed, as meter: amount; what it was charged is meter: [amount, period_start].';
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
    answer jsonb -- what a repeat is told again, but for the figures
)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    many CONSTANT integer := cardinality(meters);
    late CONSTANT boolean := ttl_s IS NULL AND reservation IS NOT NULL;
    ends_at timestamptz; -- of the reservation
    workspace record;
    counter record;
    meter record;
    known json;
    moment timestamptz;
    missing boolean;
    ceiling bigint;
    period tstzrange;
    starts timestamptz[];
    used_now bigint[];
    held_now bigint[];
    held_until_now timestamptz[];
    first_starts timestamptz[];
    wanted bigint[];
    levels boolean[];
    refused text[];
    quota jsonb;
    forget_at timestamptz;
    told jsonb;
BEGIN
    IF late THEN
        PERFORM FROM authz.usage_reservations AS r
        WHERE r.workspace_id = take.workspace_id AND r.id = take.reservation AND r.state = 'held'
        FOR UPDATE;
        IF NOT FOUND THEN
            RETURN '{"outcome": "settled"}'; -- somebody was faster
        END IF;
    END IF;

    LOOP
        missing := false;
        FOR i IN 1..many LOOP
            SELECT u.period_start, u.used, u.held_until INTO counter
            FROM authz.workspace_usage AS u
            WHERE u.workspace_id = take.workspace_id AND u.meter = meters[i]
            FOR UPDATE;
            missing := missing OR NOT FOUND;
            starts[i] := counter.period_start;
            used_now[i] := counter.used;
            held_until_now[i] := counter.held_until;
        END LOOP;
        SELECT w.facts_version, w.subscribed_at INTO workspace
        FROM authz.workspaces AS w
        WHERE w.id = take.workspace_id
        FOR SHARE;
        IF workspace.facts_version IS DISTINCT FROM take.facts_version THEN
            RETURN '{"outcome": "stale"}';
        END IF;
        moment := clock_timestamp(); -- after the locks: whoever waited past midnight is charged today
        ends_at := moment + make_interval(secs => ttl_s);

        IF NOT late THEN
            known := authz.repeat_of(workspace_id, meters, resource, key, fingerprint, moment);
            IF known IS NOT NULL THEN
                RETURN known;
            END IF;
        END IF;

        wanted := amounts;
        refused := '{}';
        quota := '{}';
        forget_at := moment;
        FOR i IN 1..many LOOP
            SELECT t.kind, t.per, t.anchor, f.workspace_id IS NOT NULL AS overridden, f.at_most INTO STRICT meter
            FROM authz.meters AS t
            LEFT JOIN authz.workspace_features AS f
                ON f.workspace_id = take.workspace_id AND f.kind = 'limit' AND f.name = t.name
                AND (f.expires_at IS NULL OR f.expires_at > moment)
            WHERE t.name = meters[i];
            IF meter.kind = 'members' THEN
                RAISE EXCEPTION 'the meter "%" is counted by the database', meters[i] USING ERRCODE = '22023';
            END IF;
            levels[i] := meter.kind = 'level';
            IF levels[i] AND resource IS NOT NULL AND EXISTS (
                SELECT FROM authz.usage_resources AS r
                WHERE r.workspace_id = take.workspace_id AND r.meter = meters[i] AND r.resource = take.resource
            ) THEN
                wanted[i] := 0; -- of several levels, one that has it
            END IF;

            period := authz.period_of(meter.per, authz.anchor_of(meter.anchor, workspace.subscribed_at), moment);
            first_starts[i] := lower(period);
            IF starts[i] IS NULL OR starts[i] < lower(period) THEN
                starts[i] := lower(period);
                used_now[i] := 0;
            END IF;
            held_now[i] := 0;
            IF held_until_now[i] > moment THEN
                held_now[i] := authz.reserved_of(workspace_id, meters[i], starts[i], moment);
            END IF;
            ceiling := CASE WHEN meter.overridden THEN meter.at_most ELSE limits[i] END;
            IF wanted[i] > 0 AND used_now[i] + held_now[i] + wanted[i] > ceiling THEN -- never above NULL
                refused := refused || meters[i];
            END IF;
            IF ttl_s IS NULL THEN
                used_now[i] := used_now[i] + wanted[i];
            ELSE
                held_now[i] := held_now[i] + wanted[i];
            END IF;
            quota := quota || jsonb_build_object(meters[i], jsonb_build_array(
                ceiling, used_now[i], held_now[i], CASE WHEN isfinite(upper(period)) THEN upper(period) END
            ));
            forget_at := greatest(forget_at, upper(period));
        END LOOP;
        IF refused <> '{}' THEN
            RETURN json_build_object('outcome', 'refused', 'facts', (
                SELECT f.facts FROM authz.member_facts AS f
                WHERE f.workspace_id = take.workspace_id AND f.user_id = take.user_id
            ));
        END IF;

        IF missing THEN
            -- The first use of a meter: make its row, and come back to lock it. Two may be here at once.
            FOR i IN 1..many LOOP
                INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
                VALUES (take.workspace_id, meters[i], first_starts[i], 0)
                ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO NOTHING;
            END LOOP;
            CONTINUE;
        END IF;

        told := answer || jsonb_build_object('at', moment, 'quota', quota);
        IF ttl_s IS NOT NULL THEN
            told := told || jsonb_build_object('reservation', jsonb_build_object(
                'id', reservation, 'expires_at', ends_at, 'amounts', authz.amounts_of(meters, wanted)
            ));
        END IF;
        EXIT WHEN key IS NULL OR late;

        DELETE FROM authz.usage_keys AS k
        WHERE k.workspace_id = take.workspace_id AND k.key = take.key AND k.expires_at <= moment;
        -- Waits for a twin that holds other counters than we do; then what it was told is our answer.
        INSERT INTO authz.usage_keys AS k
            (workspace_id, key, fingerprint, decision_id, answer, taken, resource, reservation, expires_at)
        VALUES (
            take.workspace_id,
            take.key,
            take.fingerprint,
            take.decision_id,
            told,
            CASE WHEN ttl_s IS NULL THEN authz.charges_of(meters, wanted, starts) ELSE '{}' END,
            take.resource,
            take.reservation,
            forget_at + interval '24 hours'
        )
        ON CONFLICT ON CONSTRAINT usage_keys_pkey DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;

    FOR i IN 1..many LOOP
        CONTINUE WHEN wanted[i] = 0;
        IF ttl_s IS NOT NULL THEN
            DELETE FROM authz.usage_holds AS h
            WHERE h.workspace_id = take.workspace_id AND h.meter = meters[i] AND h.expires_at <= moment;
            INSERT INTO authz.usage_holds (workspace_id, meter, reservation, amount, period_start, expires_at)
            VALUES (take.workspace_id, meters[i], take.reservation, wanted[i], starts[i], ends_at);
        ELSE
            PERFORM authz.charge(
                workspace_id, meters[i], starts[i], wanted[i], CASE WHEN late THEN 'commit' ELSE 'consume' END,
                user_id, action, resource, decision_id, moment
            );
            IF levels[i] AND resource IS NOT NULL THEN
                INSERT INTO authz.usage_resources (workspace_id, meter, resource, amount, decision_id, revision)
                VALUES (take.workspace_id, meters[i], take.resource, wanted[i], take.decision_id, take.revision);
            END IF;
        END IF;
        UPDATE authz.workspace_usage AS u
        SET used = used_now[i], period_start = starts[i], held_until = greatest(u.held_until, ends_at)
        WHERE u.workspace_id = take.workspace_id AND u.meter = meters[i];
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
            workspace_id, reservation, authz.amounts_of(meters, amounts), authz.charges_of(meters, wanted, starts)
        );
    END IF;
    RETURN json_build_object('outcome', 'taken', 'answer', told);
END;
$$;
COMMENT ON FUNCTION authz.take IS
    'All of it or nothing. outcome: taken, repeated, key_reused, refused (with the facts as they are), stale, settled.';
REVOKE ALL ON FUNCTION authz.take FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.take TO authz_sidecar;
