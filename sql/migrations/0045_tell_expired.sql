-- A reservation that had expired when it was released says so: its quota was back by itself, before anybody gave it back.
-- It is over for good as any other that was released: nobody commits it late.

ALTER TABLE authz.usage_reservations DROP CONSTRAINT usage_reservations_state_check;
ALTER TABLE authz.usage_reservations ADD CONSTRAINT usage_reservations_state_check
    CHECK (state IN ('held', 'committed', 'released', 'expired'));
COMMENT ON CONSTRAINT usage_reservations_state_check ON authz.usage_reservations IS 'The states of a reservation.';
COMMENT ON COLUMN authz.usage_reservations.state IS
    'held, committed, released, or expired: released after it had expired. One that has expired and was not released
stays held.';

CREATE OR REPLACE FUNCTION authz.release_reservation(reservation text)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
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
    again := held.state IN ('released', 'expired');
    IF NOT again THEN
        DELETE FROM authz.usage_holds AS h WHERE h.workspace_id = held.workspace_id AND h.reservation = held.id;
        UPDATE authz.usage_reservations AS r
        SET state = CASE WHEN r.expires_at <= clock_timestamp() THEN 'expired' ELSE 'released' END
        WHERE r.workspace_id = held.workspace_id AND r.id = held.id
        RETURNING r.* INTO held;
    END IF;
    RETURN authz.reservation_now(held, again);
END;
$$;

COMMENT ON FUNCTION authz.release_reservation IS
    'Gives back all that a reservation holds. One that has expired holds nothing any more, and cannot be committed late
from then on.
- reservation: its id.
Returns: an object with outcome: settled, as authz.reservation_now, with state released or expired, also when it was
released before; unknown (no such reservation); committed (it is too late).
Called by: authz_sidecar, to release a reservation.';

CREATE OR REPLACE FUNCTION authz.commit_reservation(reservation text, amounts jsonb)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
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
    ELSIF held.state = 'committed' THEN
        RETURN '{"outcome": "committed"}';
    ELSIF held.state <> 'held' THEN
        RETURN '{"outcome": "released"}'; -- in its time or later
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
