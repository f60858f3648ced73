-- A worker that starts has nothing to compare the clock of the database with but its own clock: so a take carries that too.

CREATE OR REPLACE FUNCTION authz.distrust_clock()
RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tolerance CONSTANT interval := '5 minutes'; -- as in sidecar/store/clock.py
    most_skew CONSTANT interval := '1 hour'; -- ditto
    expected CONSTANT timestamptz := NULLIF(current_setting('authz.expected_at', true), '');
    worker CONSTANT timestamptz := NULLIF(current_setting('authz.worker_at', true), '');
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF expected IS NULL OR moment BETWEEN expected - tolerance AND expected + tolerance THEN
        IF worker IS NOT NULL AND moment NOT BETWEEN worker - most_skew AND worker + most_skew THEN
            RAISE EXCEPTION 'the clock of the database says %, that of the sidecar %', moment, worker
                USING ERRCODE = 'AZ043', HINT = 'Correct the one that is wrong.';
        END IF;
        RETURN NEW;
    ELSIF NEW.period_start > OLD.period_start AND (
        isfinite(OLD.period_start)
        -- The first use of a meter: it may begin the period that both clocks are in.
        OR NEW.period_start IS DISTINCT FROM (
            SELECT lower(authz.period_of(t.per, authz.anchor_of(t.anchor, w.subscribed_at), expected))
            FROM authz.meters AS t, authz.workspaces AS w
            WHERE t.name = NEW.meter AND w.id = NEW.workspace_id
        )
    )
    OR OLD.held_until > expected AND OLD.held_until <= moment
    THEN
        RAISE EXCEPTION 'the clock of the database says %, expected was %', moment, expected
            USING ERRCODE = 'AZ042', HINT = 'If the database is right: sidecar clock accept.';
    END IF;
    RETURN NEW;
END;
$$;
COMMENT ON FUNCTION authz.distrust_clock IS
'Trigger: while the clock is more than five minutes from the time that the sidecar expects, no period of a counter begins,
and no reservation counts as over that is not by the expected time; nor while it is more than an hour from the clock of the
sidecar. Both are settings of the transaction. Without them, as in the hands of an operator, the clock is trusted.
Returns: the new row.
Raises: AZ042 or, of the sidecar''s clock, AZ043 instead.
Called by: trigger distrust_clock on authz.workspace_usage.';
