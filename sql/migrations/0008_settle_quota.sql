-- What becomes of quota afterwards: a reservation is committed or released, what was taken is given back.

CREATE FUNCTION authz.counters_locked(workspace_id uuid, meters text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM FROM authz.workspace_usage AS u
    WHERE u.workspace_id = counters_locked.workspace_id AND u.meter = ANY (counters_locked.meters)
    ORDER BY u.meter
    FOR UPDATE;
END;
$$;
REVOKE ALL ON FUNCTION authz.counters_locked FROM PUBLIC;

CREATE FUNCTION authz.move_usage(workspace_id uuid, meter text, period_start timestamptz, amount bigint)
RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    -- A period that is over lives in the ledger alone.
    UPDATE authz.workspace_usage AS u SET used = u.used + move_usage.amount
    WHERE u.workspace_id = move_usage.workspace_id
      AND u.meter = move_usage.meter
      AND u.period_start = move_usage.period_start;
END;
REVOKE ALL ON FUNCTION authz.move_usage FROM PUBLIC;

CREATE FUNCTION authz.reservation_now(reservation authz.usage_reservations, replayed boolean)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
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

CREATE FUNCTION authz.commit_reservation(reservation text, amounts jsonb)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    held authz.usage_reservations;
    meters text[];
    wanted jsonb;
    above text[];
    moment timestamptz;
    hold record;
    taken bigint;
    charges jsonb := '{}';
BEGIN
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = commit_reservation.reservation FOR UPDATE;
    IF NOT FOUND THEN
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

    PERFORM authz.counters_locked(held.workspace_id, meters);
    moment := clock_timestamp();
    IF held.expires_at <= moment THEN
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
            CONTINUE WHEN NOT FOUND; -- somebody has made it meanwhile: to make it twice is to make it once
        END IF;
        PERFORM authz.move_usage(held.workspace_id, hold.meter, hold.period_start, taken);
        PERFORM authz.charge(
            held.workspace_id, hold.meter, hold.period_start, taken, 'commit',
            held.user_id, held.action, held.resource, held.decision_id, moment
        );
        charges := charges || jsonb_build_object(hold.meter, jsonb_build_array(taken, hold.period_start));
    END LOOP;
    PERFORM authz.settle(held.workspace_id, held.id, wanted, charges);
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
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    held authz.usage_reservations;
    again boolean;
BEGIN
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = release_reservation.reservation FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    ELSIF held.state = 'committed' THEN
        RETURN '{"outcome": "committed"}';
    END IF;
    again := held.state = 'released';
    IF NOT again THEN
        PERFORM authz.counters_locked(
            held.workspace_id, ARRAY(SELECT jsonb_object_keys(held.amounts))
        );
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
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
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

CREATE FUNCTION authz.amounts_in(charges jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN (SELECT COALESCE(jsonb_object_agg(c.key, c.value -> 0), '{}') FROM jsonb_each(charges) AS c);
COMMENT ON FUNCTION authz.amounts_in IS 'meter: amount, of meter: [amount, period_start].';
REVOKE ALL ON FUNCTION authz.amounts_in FROM PUBLIC;

CREATE FUNCTION authz.let_go(of_workspace uuid, of_meter text, of_resource text, by_decision text, amount bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
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
COMMENT ON FUNCTION authz.let_go IS 'False where the resource was given back by its name before: then nothing is left to refund.';
REVOKE ALL ON FUNCTION authz.let_go FROM PUBLIC;

CREATE FUNCTION authz.refund(workspace text, key text, amounts jsonb)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    of_workspace CONSTANT uuid := authz.workspace_id_of(workspace);
    known authz.usage_keys;
    taken jsonb;
    wanted jsonb;
    moment timestamptz;
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
    IF known.reservation IS NOT NULL THEN -- a commit may be under way: it comes first, or waits
        PERFORM FROM authz.usage_reservations AS r
        WHERE r.workspace_id = of_workspace AND r.id = known.reservation
        FOR UPDATE;
    END IF;
    PERFORM authz.counters_locked(of_workspace, ARRAY(SELECT jsonb_object_keys(known.answer -> 'quota')));
    SELECT k.* INTO known
    FROM authz.usage_keys AS k
    WHERE k.workspace_id = of_workspace AND k.key = refund.key
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    END IF;
    moment := clock_timestamp();
    taken := authz.amounts_in(known.taken);
    wanted := COALESCE(refund.amounts, known.given_back, taken);
    IF (known.reservation IS NOT NULL AND taken = '{}')
        OR (known.given_back IS NOT NULL AND known.given_back <> wanted)
        OR EXISTS (
            SELECT FROM jsonb_each(wanted) AS w
            WHERE NOT taken ? w.key OR w.value::bigint > (taken ->> w.key)::bigint
        )
    THEN
        RETURN json_build_object('outcome', 'exceeds', 'taken', taken, 'given_back', known.given_back);
    END IF;

    IF known.given_back IS NULL THEN
        FOR part IN
            SELECT w.key AS meter, w.value::bigint AS amount, (known.taken -> w.key ->> 1)::timestamptz AS start
            FROM jsonb_each(wanted) AS w
            WHERE w.value::bigint > 0
            ORDER BY w.key COLLATE "C"
        LOOP
            CONTINUE WHEN NOT authz.let_go(
                of_workspace, part.meter, known.resource, known.decision_id, part.amount
            );
            PERFORM authz.move_usage(of_workspace, part.meter, part.start, -part.amount);
            PERFORM authz.charge(
                of_workspace, part.meter, part.start, -part.amount, 'release',
                NULL, NULL, known.resource, known.decision_id, moment
            );
        END LOOP;
        UPDATE authz.usage_keys AS k SET given_back = wanted
        WHERE k.workspace_id = of_workspace AND k.key = refund.key;
    END IF;
    RETURN json_build_object(
        'outcome', 'given_back',
        'replayed', known.given_back IS NOT NULL,
        'released', wanted,
        'now', authz.quota_now(of_workspace, ARRAY(SELECT jsonb_object_keys(taken)))
    );
END;
$$;
COMMENT ON FUNCTION authz.refund IS
    'Once, in the period it was taken in, up to what was taken. outcome: given_back, unknown, unknown_workspace, exceeds.';
REVOKE ALL ON FUNCTION authz.refund FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.refund TO authz_sidecar;

CREATE FUNCTION authz.release_resource(workspace text, meter text, resource text)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
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
        PERFORM authz.move_usage(of_workspace, meter, '-infinity', -gone.amount);
        PERFORM authz.charge(
            of_workspace, meter, '-infinity', -gone.amount, 'release',
            NULL, NULL, resource, gone.decision_id, clock_timestamp()
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

CREATE FUNCTION authz.recount(in_workspace uuid, fix boolean)
RETURNS TABLE (meter text, counted bigint, in_ledger bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    counter record;
BEGIN
    -- The counters of one workspace are locked for as long as it takes to add them up.
    FOR counter IN
        SELECT u.meter, u.period_start, u.used
        FROM authz.workspace_usage AS u
        WHERE u.workspace_id = in_workspace
        ORDER BY u.meter
        FOR UPDATE
    LOOP
        meter := counter.meter;
        counted := counter.used;
        SELECT COALESCE(sum(l.amount), 0) INTO in_ledger
        FROM authz.usage_ledger AS l
        WHERE l.workspace_id = in_workspace AND l.meter = counter.meter AND l.period_start = counter.period_start;
        CONTINUE WHEN counted = in_ledger;
        IF fix THEN
            UPDATE authz.workspace_usage AS u SET used = greatest(in_ledger, 0)
            WHERE u.workspace_id = in_workspace AND u.meter = counter.meter;
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION authz.recount IS 'The counters that are not the sum of their ledger; *fix* makes them so. Call it one by one.';
REVOKE ALL ON FUNCTION authz.recount FROM PUBLIC;

CREATE FUNCTION authz.tidy()
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    gone bigint;
    total bigint;
BEGIN
    DELETE FROM authz.usage_keys AS k WHERE k.expires_at < now();
    GET DIAGNOSTICS total = ROW_COUNT;
    DELETE FROM authz.usage_holds AS h WHERE h.expires_at < now();
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM authz.usage_reservations AS r WHERE r.expires_at < now() - interval '30 days';
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END;
$$;
COMMENT ON FUNCTION authz.tidy IS
    'Removes what no answer depends on: expired keys and holds, and reservations that ended a month ago. How many.';
REVOKE ALL ON FUNCTION authz.tidy FROM PUBLIC;

CREATE FUNCTION authz.set_usage(workspace_id uuid, meters text[], used bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    of_workspace CONSTANT uuid := workspace_id;
    counter record;
    before bigint;
BEGIN
    -- As many counters as there are, all of them: what is not named has used nothing.
    PERFORM authz.counters_locked(of_workspace, ARRAY(SELECT t.name FROM authz.meters AS t));
    DELETE FROM authz.usage_keys AS k WHERE k.workspace_id = of_workspace;
    DELETE FROM authz.usage_holds AS h WHERE h.workspace_id = of_workspace;
    DELETE FROM authz.usage_resources AS r WHERE r.workspace_id = of_workspace;
    DELETE FROM authz.usage_reservations AS r WHERE r.workspace_id = of_workspace;
    FOR counter IN
        SELECT
            t.name AS meter,
            lower(authz.period_of(t.per, authz.anchor_of(t.anchor, w.subscribed_at), clock_timestamp())) AS start,
            COALESCE(given.used, 0) AS used
        FROM authz.workspaces AS w
        CROSS JOIN authz.meters AS t
        LEFT JOIN unnest(set_usage.meters, set_usage.used) AS given (meter, used) ON given.meter = t.name
        WHERE w.id = of_workspace AND t.kind <> 'members'
        ORDER BY t.name
    LOOP
        SELECT COALESCE(sum(l.amount), 0) INTO before
        FROM authz.usage_ledger AS l
        WHERE l.workspace_id = of_workspace AND l.meter = counter.meter AND l.period_start = counter.start;
        IF before <> counter.used THEN
            PERFORM authz.charge(
                of_workspace, counter.meter, counter.start, counter.used - before, 'adjust',
                NULL, NULL, NULL, NULL, clock_timestamp()
            );
        END IF;
        IF counter.used = 0 THEN
            DELETE FROM authz.workspace_usage AS u
            WHERE u.workspace_id = of_workspace AND u.meter = counter.meter;
        ELSE
            INSERT INTO authz.workspace_usage AS u (workspace_id, meter, period_start, used)
            VALUES (of_workspace, counter.meter, counter.start, counter.used)
            ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO UPDATE
            SET period_start = excluded.period_start, used = excluded.used, held_until = NULL;
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION authz.set_usage IS
    'As an operator or a world file says it; what was reserved, and the keys of what was taken, are forgotten.';
REVOKE ALL ON FUNCTION authz.set_usage FROM PUBLIC;
