-- A key stands as long as its effect stands: once that was given back, the next request under the key is a new one.
--
-- A fresh key pays nothing for it: only the conflict with a key that is there leads here, by authz.take. Who takes a
-- key anew and who commits its expired reservation late meet at the row of the key, the last lock of both.

CREATE FUNCTION authz.key_stands(known authz.usage_keys, moment timestamptz)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF known.expires_at <= moment THEN
        RETURN false;
    ELSIF known.amounts IS NULL THEN
        -- Committed: since the row of the key was read.
        RETURN EXISTS (
            SELECT FROM authz.usage_reservations AS r
            WHERE r.workspace_id = known.workspace_id AND r.id = known.reservation
              AND (r.state = 'committed' OR r.state = 'held' AND r.expires_at > moment)
        );
    ELSIF known.resource IS NOT NULL AND EXISTS (
        SELECT FROM unnest(known.meters, known.amounts) AS k (meter, amount)
        JOIN authz.meters AS t ON t.name = k.meter AND t.kind = 'level'
        WHERE NOT EXISTS (
            SELECT FROM authz.usage_resources AS r
            WHERE r.workspace_id = known.workspace_id AND r.meter = k.meter AND r.resource = known.resource
              -- Nothing was taken where it existed before, by whichever decision.
              AND (r.decision_id = known.decision_id OR k.amount = 0)
        )
    ) THEN
        RETURN false;
    ELSIF known.given_back IS NULL THEN
        RETURN true;
    END IF;
    RETURN (
        SELECT NOT COALESCE(bool_and(k.is_back), false)
            AND NOT COALESCE(bool_and(k.is_back) FILTER (WHERE k.is_level), false)
        FROM (
            SELECT
                COALESCE((known.given_back ->> k.meter)::bigint, 0) >= k.amount AS is_back,
                t.name IS NOT NULL AS is_level
            FROM unnest(known.meters, known.amounts) AS k (meter, amount)
            LEFT JOIN authz.meters AS t ON t.name = k.meter AND t.kind = 'level'
            WHERE k.amount > 0
        ) AS k
    );
END;
$$;
COMMENT ON FUNCTION authz.key_stands IS
'Whether the effect of a key stands, so that the same request under it is a duplicate. It does not once the key or its
reservation has expired, the reservation was released, all was refunded, or a level was given back: its resource on
any of the levels, or without a resource all of the levels. What took nothing stands.
- known: the row of authz.usage_keys.
- moment: at which time it must not have expired.
Returns: true or false.
Called by: authz.repeat_of and authz.take.';
REVOKE ALL ON FUNCTION authz.key_stands FROM PUBLIC;

CREATE FUNCTION authz.key_taken_anew(workspace_id uuid, key text, reservation text)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF key IS NULL THEN
        RETURN false;
    END IF;
    PERFORM FROM authz.usage_keys AS k
    WHERE k.workspace_id = key_taken_anew.workspace_id
      AND k.key = key_taken_anew.key
      AND k.reservation = key_taken_anew.reservation
    FOR UPDATE;
    -- Another statement: whoever was waited for has put another row in its place.
    RETURN NOT FOUND AND EXISTS (
        SELECT FROM authz.usage_keys AS k
        WHERE k.workspace_id = key_taken_anew.workspace_id
          AND k.key = key_taken_anew.key
          AND k.reservation IS DISTINCT FROM key_taken_anew.reservation
    );
END;
$$;
COMMENT ON FUNCTION authz.key_taken_anew IS
'Whether the key of a reservation is another request''s by now. If not, locks it until the transaction ends.
- workspace_id: the workspace.
- key: the key of the reservation; NULL: none.
- reservation: its id.
Returns: true or false; false if the key was forgotten.
Called by: authz.commit_reservation and authz.take.';
REVOKE ALL ON FUNCTION authz.key_taken_anew FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.repeat_of(
    workspace_id uuid,
    meters text[],
    resource text,
    key text,
    fingerprint text,
    moment timestamp with time zone
)
RETURNS json
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known authz.usage_keys;
    changed boolean;
    levels text[];
    made record;
BEGIN
    IF repeat_of.key IS NOT NULL THEN
        SELECT k.* INTO known
        FROM authz.usage_keys AS k
        WHERE k.workspace_id = repeat_of.workspace_id AND k.key = repeat_of.key;
        IF FOUND AND authz.key_stands(known, moment) THEN
            IF known.fingerprint <> repeat_of.fingerprint THEN
                RETURN '{"outcome": "key_reused"}';
            END IF;
            changed := known.given_back IS NOT NULL OR known.reservation IS NOT NULL AND known.amounts IS NOT NULL;
            RETURN json_build_object(
                'outcome', 'repeated',
                'decision_id', known.decision_id,
                'answer', known.answer,
                'at', known.at,
                'quota', known.quota,
                'reservation', known.held,
                'state', CASE
                    WHEN known.reservation IS NOT NULL AND known.amounts IS NULL THEN 'held'
                    WHEN known.reservation IS NOT NULL THEN 'committed'
                END,
                -- Not "now", by which the sidecar before this migration knows a resource that exists.
                'usage_now', CASE WHEN changed THEN authz.quota_now(
                    repeat_of.workspace_id, ARRAY(SELECT jsonb_object_keys(known.quota))
                ) END
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
        SELECT w.facts_version, w.subscribed_at INTO workspace
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

CREATE OR REPLACE FUNCTION authz.commit_reservation(reservation text, amounts jsonb)
RETURNS json
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    held authz.usage_reservations;
    meters text[];
    wanted jsonb;
    above text[];
    hold record;
    taken bigint;
    anew boolean;
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
    IF commit_reservation.amounts IS NOT NULL AND wanted <> '{}'
        AND NOT EXISTS (SELECT FROM jsonb_each(wanted) AS w WHERE w.value::bigint > 0)
    THEN
        RETURN '{"outcome": "nothing"}';
    END IF;
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

    anew := authz.key_taken_anew(held.workspace_id, held.key, held.id);
    IF held.expires_at <= clock_timestamp() THEN -- after the locks: whoever saw it expired has its room
        IF anew THEN
            RETURN '{"outcome": "taken_anew"}';
        END IF;
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
        CONTINUE WHEN taken = 0;
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

CREATE OR REPLACE FUNCTION authz.refund(workspace text, key text, amounts jsonb)
RETURNS json
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    of_workspace CONSTANT uuid := authz.workspace_id_of(workspace);
    known authz.usage_keys;
    taken jsonb;
    wanted jsonb;
    again boolean := true;
    meters_locked text[];
    part record;
BEGIN
    IF of_workspace IS NULL THEN
        RETURN '{"outcome": "unknown_workspace"}';
    END IF;
    LOOP
        SELECT k.* INTO known
        FROM authz.usage_keys AS k
        WHERE k.workspace_id = of_workspace AND k.key = refund.key AND k.expires_at > clock_timestamp();
        IF NOT FOUND THEN
            RETURN '{"outcome": "unknown"}';
        END IF;
        meters_locked := known.meters;
        PERFORM authz.counters_locked(of_workspace, meters_locked); -- a commit that is under way comes first, or waits
        SELECT k.* INTO known
        FROM authz.usage_keys AS k
        WHERE k.workspace_id = of_workspace AND k.key = refund.key
        FOR UPDATE;
        EXIT WHEN known.meters <@ meters_locked; -- else another request has taken it anew meanwhile
    END LOOP;
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

COMMENT ON TABLE authz.usage_keys IS
'Idempotency keys of what was taken or reserved, with the answer, so that a retry is answered the same and takes
nothing more. A key whose effect was given back is free (authz.key_stands): its row stays until a request takes it
anew, or until the period of what was taken has ended and 24 hours more. Denials are not kept. Removed by authz.tidy.';
COMMENT ON COLUMN authz.usage_keys.meters IS
'The meters that were taken; of a committed reservation those of which more than 0 was committed.';
COMMENT ON COLUMN authz.usage_keys.amounts IS
'How much of each was taken, in the order of meters; 0: the resource existed on it. NULL: it is reserved, and not
committed.';
COMMENT ON COLUMN authz.usage_ledger.decision_id IS
'The decision that charged it first; of a reservation the one that made it, however late it was committed; a line that
gives back has the id of the line that it undoes. NULL: adjusted.';
COMMENT ON FUNCTION authz.repeat_of IS
'Whether a request was carried out before: under its key, if the effect of that stands, or because its resource exists.
- workspace_id: the workspace.
- meters: the meters that it takes.
- resource: the resource that it names; NULL: none.
- key: its idempotency key; NULL: none.
- fingerprint: of the request.
- moment: at which time the key must not have expired.
Returns: NULL if this is the first time; else an object with outcome:
key_reused (another request had the key);
repeated, with decision_id, answer, at, quota, reservation as in usage_keys, state (held or committed; null without a
reservation) and usage_now (authz.quota_now if the effect was committed or refunded in part since, else null);
repeated, with decision_id, revision, now (authz.quota_now), if the resource exists on every level among the meters.
Called by: authz.repeated and authz.take.';
COMMENT ON FUNCTION authz.commit_reservation IS
'Charges what was reserved, or less, to the period in which it was reserved. Limits and rights are not looked at
again.
- reservation: its id.
- amounts: how much of each meter: {meter: amount}, not all of them 0; a meter that is not named is committed whole.
  NULL: all of them.
Returns: an object with outcome:
settled, as authz.reservation_now; also when the same was committed before;
unknown (no such reservation);
not_held, with meters (those that were never reserved) and amounts (what is reserved);
nothing (all amounts are 0);
exceeds, with meters (those with more than is reserved) and amounts (what is reserved);
expired, with workspace_id, user, action, resource and amounts, for a new decision;
taken_anew (it has expired, and its key was taken by another request since);
committed or released (it was settled in another way before).
Called by: authz_sidecar, to commit a reservation.';
COMMENT ON FUNCTION authz.settle IS
'Marks a reservation as committed, removes its holds, and notes in its key what was taken, so that it can be refunded.
- workspace_id: the workspace.
- reservation: the reservation''s id.
- committed: what is committed: {meter: amount}.
- meters: the meters of which more than 0 is committed.
- amounts: how much of each was charged, in the order of meters; 0 where the resource existed.
- starts: when the charged period of each began, in the order of meters.
Returns: nothing.
Called by: authz.commit_reservation and authz.take.';
COMMENT ON FUNCTION authz.refund IS
'Gives back what was taken under an idempotency key, or committed of its reservation: once, whole or in part, in the
period in which it was taken. Refunded whole, the key is free; in part, it stays used.
- workspace: the workspace''s UUID or slug.
- key: the idempotency key.
- amounts: how much of each meter: {meter: amount}; a meter that is not named is not refunded. NULL: all of it.
Returns: an object with outcome:
given_back, with replayed (nothing was given back now), released ({meter: amount}) and now (authz.quota_now);
unknown_workspace; unknown (no such key, or it has expired);
exceeds (more than was taken, or another amount than before), with taken and given_back ({meter: amount} or null).
Called by: authz_sidecar, to refund what a key has taken.';
COMMENT ON FUNCTION authz.take IS
'Consumes or reserves: all meters or none. Under the locks of the counters it looks again at the workspace''s
version, the period, the limits and the key or resource, since others may have changed them after the decision.
- workspace_id: the workspace.
- facts_version: its facts_version when the decision was made.
- user_id: the user.
- action: the action.
- meters: the meters, in the order of their names, in which they are locked.
- amounts: how much of each, in the order of meters.
- limits: the plan''s limit of each, in the order of meters; NULL is unlimited. An override replaces it.
- resource: the resource; on a level it is created, and only once. NULL: none.
- key: the idempotency key; NULL: none.
- fingerprint: of the request; see usage_keys.fingerprint.
- ttl_s: for how many seconds to reserve; NULL: consume.
- reservation: the id of the reservation to make; without ttl_s: of an expired one that is committed late; else NULL.
- decision_id: the decision.
- revision: its policy revision.
- answer: what a retry is told again; see usage_keys.answer.
Returns: an object with outcome:
taken, with at, quota ({meter: [limit or null, used, reserved, resets at or null]}) and reservation ({id,
expires_at, amounts} or null);
repeated or key_reused, as authz.repeat_of;
refused (no room), with facts, as authz.facts;
stale (the workspace or the period has changed: decide again);
settled (the reservation to be committed late is committed or released, or its key was taken anew).
Raises: 22023 for a meter that counts members; P0002 for one that is not in authz.meters.
Called by: authz_sidecar, to consume or reserve, and to commit a reservation that has expired.';
