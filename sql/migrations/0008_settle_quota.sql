-- What becomes of quota afterwards: a reservation is committed or released, what was taken is given back.

CREATE FUNCTION authz.counters_locked(workspace_id uuid, meters text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
BEGIN
    PERFORM FROM authz.workspace_usage AS u
    WHERE u.workspace_id = counters_locked.workspace_id AND u.meter = ANY (counters_locked.meters)
    ORDER BY u.meter
    FOR UPDATE;
END;
$$;
REVOKE ALL ON FUNCTION authz.counters_locked FROM PUBLIC;

CREATE FUNCTION authz.move_usage(
    workspace_id uuid,
    meter text,
    period_start timestamptz,
    amount bigint, -- negative: given back
    kind text,
    decision_id text,
    user_id text DEFAULT NULL,
    action text DEFAULT NULL,
    resource text DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
BEGIN
    -- A period that is over lives in the ledger alone.
    UPDATE authz.workspace_usage AS u SET used = u.used + move_usage.amount
    WHERE u.workspace_id = move_usage.workspace_id
      AND u.meter = move_usage.meter
      AND u.period_start = move_usage.period_start;
    INSERT INTO authz.usage_ledger
        (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
    VALUES (
        move_usage.workspace_id,
        clock_timestamp(),
        move_usage.meter,
        move_usage.period_start,
        move_usage.amount,
        move_usage.kind,
        move_usage.user_id,
        move_usage.action,
        move_usage.resource,
        move_usage.decision_id
    );
END;
$$;
COMMENT ON FUNCTION authz.move_usage IS 'The counter and its ledger, in one: for who holds the lock of the counter.';
REVOKE ALL ON FUNCTION authz.move_usage FROM PUBLIC;

CREATE FUNCTION authz.reservation_now(reservation authz.usage_reservations, replayed boolean)
RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
BEGIN
    RETURN json_build_object(
        'outcome', 'settled',
        'replayed', replayed,
        'id', reservation.id,
        'workspace_id', reservation.workspace_id,
        'state', reservation.state,
        'expires_at', reservation.expires_at,
        'amounts', reservation.amounts,
        'committed', reservation.committed,
        'now', authz.quota_now(
            reservation.workspace_id, ARRAY(SELECT jsonb_object_keys(reservation.amounts))
        )
    );
END;
$$;
REVOKE ALL ON FUNCTION authz.reservation_now FROM PUBLIC;

CREATE FUNCTION authz.reservation_locked(reservation text)
RETURNS authz.usage_reservations
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
DECLARE
    held authz.usage_reservations;
BEGIN
    -- What it holds never changes, so that the counters can be locked before it.
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = reservation_locked.reservation;
    PERFORM authz.counters_locked(held.workspace_id, ARRAY(SELECT jsonb_object_keys(held.amounts)));
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = reservation_locked.reservation FOR UPDATE;
    RETURN held;
END;
$$;
COMMENT ON FUNCTION authz.reservation_locked IS 'With its counters; all NULL if there is none.';
REVOKE ALL ON FUNCTION authz.reservation_locked FROM PUBLIC;

CREATE FUNCTION authz.commit_reservation(reservation text, amounts jsonb)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' SET enable_seqscan = off
AS $$
DECLARE
    held authz.usage_reservations;
    meters text[];
    wanted jsonb;
    above text[];
    hold record;
    taken bigint;
    charged text[] := '{}';
    amounts_charged bigint[] := '{}';
    starts timestamptz[] := '{}';
BEGIN
    held := authz.reservation_locked(reservation);
    IF held.id IS NULL THEN
        RETURN '{"outcome": "unknown"}';
    END IF;
    meters := ARRAY(SELECT m FROM jsonb_object_keys(held.amounts) AS m ORDER BY m COLLATE "C");
    above := ARRAY(SELECT m FROM jsonb_object_keys(commit_reservation.amounts) AS m WHERE NOT m = ANY (meters));
    IF above <> '{}' THEN
        RETURN json_build_object('outcome', 'not_held', 'meters', above, 'amounts', held.amounts);
    END IF;
    wanted := held.amounts || COALESCE(commit_reservation.amounts, '{}');
    IF held.state = 'committed' AND held.committed = wanted THEN
        RETURN authz.reservation_now(held, true);
    ELSIF held.state <> 'held' THEN
        RETURN json_build_object('outcome', held.state);
    END IF;
    above := ARRAY(
        SELECT w.key FROM jsonb_each(wanted) AS w WHERE w.value::bigint > (held.amounts ->> w.key)::bigint
    );
    IF above <> '{}' THEN
        RETURN json_build_object('outcome', 'exceeds', 'meters', above, 'amounts', held.amounts);
    END IF;

    IF held.expires_at <= clock_timestamp() THEN -- after the locks: whoever saw it expired has its room
        RETURN json_build_object(
            'outcome', 'expired', 'workspace_id', held.workspace_id, 'user', held.user_id, 'action', held.action,
            'resource', held.resource, 'amounts', wanted
        );
    END IF;
    FOR hold IN
        SELECT h.meter, h.period_start, t.kind
        FROM authz.usage_holds AS h
        JOIN authz.meters AS t ON t.name = h.meter
        WHERE h.workspace_id = held.workspace_id AND h.reservation = held.id
        ORDER BY h.meter
    LOOP
        taken := wanted ->> hold.meter;
        IF hold.kind = 'level' AND held.resource IS NOT NULL THEN
            INSERT INTO authz.usage_resources (workspace_id, meter, resource, amount, decision_id, revision)
            VALUES (held.workspace_id, hold.meter, held.resource, taken, held.decision_id, held.revision)
            ON CONFLICT ON CONSTRAINT usage_resources_pkey DO NOTHING;
            IF NOT FOUND THEN
                taken := 0; -- somebody has made it meanwhile: to make it twice is to make it once
            END IF;
        END IF;
        IF taken > 0 THEN
            PERFORM authz.move_usage(
                held.workspace_id, hold.meter, hold.period_start, taken, 'commit',
                held.decision_id, held.user_id, held.action, held.resource
            );
        END IF;
        charged := charged || hold.meter;
        amounts_charged := amounts_charged || taken;
        starts := starts || hold.period_start;
    END LOOP;
    PERFORM authz.settle(held.workspace_id, held.id, wanted, charged, amounts_charged, starts);
    held.state := 'committed';
    held.committed := wanted;
    RETURN authz.reservation_now(held, false);
END;
$$;
COMMENT ON FUNCTION authz.commit_reservation IS
    'What is not named is committed whole. outcome: settled, unknown, not_held, exceeds, expired, committed, released.';
REVOKE ALL ON FUNCTION authz.commit_reservation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.commit_reservation TO authz_sidecar;

CREATE FUNCTION authz.release_reservation(reservation text)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' SET enable_seqscan = off
AS $$
DECLARE
    held authz.usage_reservations;
    again boolean;
BEGIN
    held := authz.reservation_locked(reservation);
    IF held.id IS NULL THEN
        RETURN '{"outcome": "unknown"}';
    ELSIF held.state = 'committed' THEN
        RETURN '{"outcome": "committed"}';
    END IF;
    again := held.state = 'released';
    IF NOT again THEN
        DELETE FROM authz.usage_holds AS h WHERE h.workspace_id = held.workspace_id AND h.reservation = held.id;
        UPDATE authz.usage_reservations AS r SET state = 'released'
        WHERE r.workspace_id = held.workspace_id AND r.id = held.id
        RETURNING r.* INTO held;
    END IF;
    RETURN authz.reservation_now(held, again);
END;
$$;
COMMENT ON FUNCTION authz.release_reservation IS 'outcome: settled (an expired one too), unknown, committed.';
REVOKE ALL ON FUNCTION authz.release_reservation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.release_reservation TO authz_sidecar;

CREATE FUNCTION authz.workspace_id_of(workspace text)
RETURNS uuid
LANGUAGE sql STABLE SET search_path = ''
BEGIN ATOMIC
    SELECT w.id
    FROM authz.workspaces AS w
    WHERE w.slug = workspace_id_of.workspace
       OR w.id = CASE
           WHEN workspace_id_of.workspace
               ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
               THEN workspace_id_of.workspace::uuid
       END;
END;
COMMENT ON FUNCTION authz.workspace_id_of IS 'By UUID or slug; NULL if there is none.';
REVOKE ALL ON FUNCTION authz.workspace_id_of FROM PUBLIC;

CREATE FUNCTION authz.let_go(of_workspace uuid, of_meter text, of_resource text, by_decision text, amount bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
BEGIN
    IF of_resource IS NULL OR NOT EXISTS (
        SELECT FROM authz.meters AS t WHERE t.name = of_meter AND t.kind = 'level'
    ) THEN
        RETURN true;
    END IF;
    DELETE FROM authz.usage_resources AS r
    WHERE r.workspace_id = of_workspace AND r.meter = of_meter AND r.resource = of_resource
      AND r.decision_id = by_decision AND r.amount <= let_go.amount;
    IF FOUND THEN
        RETURN true;
    END IF;
    UPDATE authz.usage_resources AS r SET amount = r.amount - let_go.amount
    WHERE r.workspace_id = of_workspace AND r.meter = of_meter AND r.resource = of_resource
      AND r.decision_id = by_decision;
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION authz.let_go IS 'False where the resource was given back by its name before: nothing is left to refund.';
REVOKE ALL ON FUNCTION authz.let_go FROM PUBLIC;

CREATE FUNCTION authz.refund(workspace text, key text, amounts jsonb)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' SET enable_seqscan = off
AS $$
DECLARE
    of_workspace CONSTANT uuid := authz.workspace_id_of(workspace);
    known authz.usage_keys;
    taken jsonb;
    wanted jsonb;
    again boolean := true;
    part record;
BEGIN
    IF of_workspace IS NULL THEN
        RETURN '{"outcome": "unknown_workspace"}';
    END IF;
    SELECT k.* INTO known
    FROM authz.usage_keys AS k
    WHERE k.workspace_id = of_workspace AND k.key = refund.key AND k.expires_at > clock_timestamp();
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    END IF;
    PERFORM authz.counters_locked(of_workspace, known.meters); -- a commit that is under way comes first, or waits
    SELECT k.* INTO known
    FROM authz.usage_keys AS k
    WHERE k.workspace_id = of_workspace AND k.key = refund.key
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    END IF;
    taken := CASE WHEN known.amounts IS NULL THEN '{}' ELSE authz.amounts_of(known.meters, known.amounts) END;
    wanted := COALESCE(refund.amounts, known.given_back, taken);
    IF known.amounts IS NULL
        OR known.given_back <> wanted
        OR EXISTS (
            SELECT FROM jsonb_each(wanted) AS w
            WHERE NOT taken ? w.key OR w.value::bigint > (taken ->> w.key)::bigint
        )
    THEN
        RETURN json_build_object('outcome', 'exceeds', 'taken', taken, 'given_back', known.given_back);
    END IF;

    IF known.given_back IS NULL THEN
        FOR part IN
            SELECT k.meter, k.start, (wanted ->> k.meter)::bigint AS amount
            FROM unnest(known.meters, known.starts) AS k (meter, start)
            WHERE (wanted ->> k.meter)::bigint > 0
        LOOP
            IF authz.let_go(of_workspace, part.meter, known.resource, known.decision_id, part.amount) THEN
                again := false;
                PERFORM authz.move_usage(
                    of_workspace, part.meter, part.start, -part.amount, 'release',
                    known.decision_id, resource => known.resource
                );
            END IF;
        END LOOP;
        UPDATE authz.usage_keys AS k SET given_back = wanted
        WHERE k.workspace_id = of_workspace AND k.key = refund.key;
    END IF;
    RETURN json_build_object(
        'outcome', 'given_back',
        'replayed', again,
        'released', wanted,
        'now', authz.quota_now(of_workspace, known.meters)
    );
END;
$$;
COMMENT ON FUNCTION authz.refund IS
    'Once, in the period it was taken in, up to what was taken. outcome: given_back, unknown, unknown_workspace, exceeds.';
REVOKE ALL ON FUNCTION authz.refund FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.refund TO authz_sidecar;

CREATE FUNCTION authz.release_resource(workspace text, meter text, resource text)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' SET enable_seqscan = off
AS $$
DECLARE
    of_workspace CONSTANT uuid := authz.workspace_id_of(workspace);
    gone record;
BEGIN
    IF of_workspace IS NULL THEN
        RETURN '{"outcome": "unknown_workspace"}';
    END IF;
    PERFORM authz.counters_locked(of_workspace, ARRAY[meter]);
    DELETE FROM authz.usage_resources AS r
    WHERE r.workspace_id = of_workspace
      AND r.meter = release_resource.meter
      AND r.resource = release_resource.resource
    RETURNING r.amount, r.decision_id INTO gone;
    IF FOUND THEN
        PERFORM authz.move_usage(
            of_workspace, meter, '-infinity', -gone.amount, 'release', gone.decision_id, resource => resource
        );
    END IF;
    RETURN json_build_object(
        'outcome', 'given_back',
        'replayed', gone.amount IS NULL,
        'released', jsonb_build_object(meter, COALESCE(gone.amount, 0)),
        'now', authz.quota_now(of_workspace, ARRAY[meter])
    );
END;
$$;
COMMENT ON FUNCTION authz.release_resource IS 'A level is given back by the name of the thing; twice is once.';
REVOKE ALL ON FUNCTION authz.release_resource FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.release_resource TO authz_sidecar;
