-- Time is not trusted forward either: a period begins, and a reservation ends early, only if the clock that says so has
-- advanced as the sidecar's own monotonic clock has.
--
-- A trigger, and on one column: whatever makes a period begin writes it, and who consumes within a period does not.

CREATE TABLE authz.clock (
    only_row boolean NOT NULL DEFAULT true,
    accepted bigint NOT NULL,
    accepted_at timestamptz NOT NULL,
    CONSTRAINT clock_pkey PRIMARY KEY (only_row),
    CONSTRAINT clock_only_row_check CHECK (only_row)
);
INSERT INTO authz.clock (accepted, accepted_at) VALUES (0, now());
COMMENT ON TABLE authz.clock IS
'How often an operator has accepted the clock of the database as it is. Workers that see another number compare it with
their own clock from then on.';
COMMENT ON COLUMN authz.clock.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN authz.clock.accepted IS 'How many times.';
COMMENT ON COLUMN authz.clock.accepted_at IS 'The last time, by the clock that was accepted; else when the table was made.';
COMMENT ON CONSTRAINT clock_pkey ON authz.clock IS 'There is one row.';
COMMENT ON CONSTRAINT clock_only_row_check ON authz.clock IS 'There is one row.';

CREATE FUNCTION authz.clock_now()
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT json_build_object('at', extract(epoch FROM clock_timestamp()), 'accepted', c.accepted)
        FROM authz.clock AS c
    );
END;
$$;
COMMENT ON FUNCTION authz.clock_now IS
'The clock of the database, and how often it was accepted.
Returns: {at: seconds since 1970, accepted}.
Called by: authz_sidecar, once a second.';
REVOKE ALL ON FUNCTION authz.clock_now FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.clock_now TO authz_sidecar;

CREATE FUNCTION authz.accept_clock()
RETURNS timestamptz
LANGUAGE sql
AS $$
    UPDATE authz.clock SET accepted = accepted + 1, accepted_at = clock_timestamp() RETURNING accepted_at
$$;
COMMENT ON FUNCTION authz.accept_clock IS
'Accepts the clock as it is: within seconds, every worker trusts it again.
Returns: what the clock says.
Called by: the owner, in sidecar clock accept.';
REVOKE ALL ON FUNCTION authz.accept_clock FROM PUBLIC;

CREATE FUNCTION authz.distrust_clock()
RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tolerance CONSTANT interval := '5 minutes'; -- as in sidecar/store/clock.py
    expected CONSTANT timestamptz := NULLIF(current_setting('authz.expected_at', true), '');
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF expected IS NULL OR moment BETWEEN expected - tolerance AND expected + tolerance THEN
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
'Trigger: while the clock is more than five minutes from the time that the sidecar expects, which is a setting of the
transaction, no period of a counter begins, and no reservation counts as over that is not by the expected time. Without
the setting, as in the hands of an operator, the clock is trusted.
Returns: the new row.
Raises: AZ042 instead.
Called by: trigger distrust_clock on authz.workspace_usage.';
REVOKE ALL ON FUNCTION authz.distrust_clock FROM PUBLIC;
CREATE TRIGGER distrust_clock
BEFORE UPDATE OF period_start ON authz.workspace_usage
FOR EACH ROW WHEN (NEW.period_start > OLD.period_start OR OLD.held_until IS NOT NULL)
EXECUTE FUNCTION authz.distrust_clock();
COMMENT ON TRIGGER distrust_clock ON authz.workspace_usage IS
'Lets no period begin by a clock that is not trusted. Who consumes within a period does not write period_start.';

-- A recount compares every period.

CREATE FUNCTION authz.due_period(
    per text, anchored_at timestamptz, period_start timestamptz, at timestamptz, moment timestamptz
)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN period_start > moment THEN (SELECT p.starts FROM authz.period_at(per, anchored_at, moment) AS p)
    WHEN at < period_start - interval '5 minutes' THEN (SELECT p.starts FROM authz.period_at(per, anchored_at, at) AS p)
    ELSE period_start
END;
COMMENT ON FUNCTION authz.due_period IS
'The period that a line of the ledger belongs to. A clock that went forward and back leaves lines in a period that had
not begun.
- per: the meter''s.
- anchored_at: authz.anchor_of the meter.
- period_start: the period in which it was charged.
- at: when it was charged.
- moment: now.
Returns: when the period began: the one that holds moment if period_start is later than that, the one that holds at if
period_start is more than five minutes later than that, else period_start.
Called by: authz.miscounts and authz.recount.';
REVOKE ALL ON FUNCTION authz.due_period FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.miscounts(of_workspace uuid)
RETURNS TABLE (
    kind text, meter text, resource text, counted bigint, expected bigint, period_start timestamptz
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH known AS MATERIALIZED (
        SELECT
            t.name,
            t.per,
            authz.anchor_of(t.anchor, w.subscribed_at) AS anchored_at,
            (
                SELECT p.starts
                FROM authz.period_at(t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()) AS p
            ) AS starts
        FROM authz.meters AS t
        CROSS JOIN authz.workspaces AS w
        WHERE w.id = miscounts.of_workspace
    ), counter AS (
        -- A counter of a later period counts in this one.
        SELECT
            u.meter,
            u.used,
            CASE WHEN u.period_start > statement_timestamp() THEN COALESCE(t.starts, u.period_start)
                ELSE u.period_start END AS period_start
        FROM authz.workspace_usage AS u
        LEFT JOIN known AS t ON t.name = u.meter
        WHERE u.workspace_id = miscounts.of_workspace
    ), line AS (
        SELECT
            g.meter,
            CASE WHEN g.period_start > statement_timestamp() THEN COALESCE(t.starts, g.period_start)
                ELSE g.period_start END AS charged,
            CASE WHEN t.name IS NULL THEN g.period_start
                ELSE authz.due_period(t.per, t.anchored_at, g.period_start, g.at, statement_timestamp())
                END AS due,
            g.amount
        FROM authz.usage_ledger AS g
        LEFT JOIN known AS t ON t.name = g.meter
        WHERE g.workspace_id = miscounts.of_workspace
    ), booked AS (
        SELECT b.meter, b.period_start, sum(b.charged)::bigint AS charged, sum(b.due)::bigint AS due
        FROM (
            SELECT l.meter, l.charged AS period_start, l.amount AS charged, 0 AS due FROM line AS l
            UNION ALL
            SELECT l.meter, l.due, 0, l.amount FROM line AS l
            UNION ALL
            SELECT c.meter, c.period_start, 0, 0 FROM counter AS c
        ) AS b
        GROUP BY b.meter, b.period_start
    ), compared AS (
        SELECT
            b.meter,
            b.period_start,
            b.period_start < COALESCE(c.period_start, t.starts) AS is_over,
            CASE
                WHEN b.period_start = c.period_start THEN c.used
                WHEN b.period_start < COALESCE(c.period_start, t.starts) THEN b.charged
                ELSE 0
            END AS counted,
            b.due AS expected
        FROM booked AS b
        LEFT JOIN counter AS c ON c.meter = b.meter
        LEFT JOIN known AS t ON t.name = b.meter
    )
    SELECT
        CASE WHEN c.is_over THEN 'period' ELSE 'counter' END,
        c.meter,
        NULL::text,
        c.counted,
        c.expected,
        c.period_start
    FROM compared AS c
    WHERE c.counted <> c.expected
    UNION ALL
    SELECT
        'resource',
        COALESCE(r.meter, l.meter),
        COALESCE(r.resource, l.resource),
        COALESCE(r.amount, 0),
        COALESCE(l.amount, 0),
        '-infinity'::timestamptz
    FROM (
        SELECT e.meter, e.resource, e.amount
        FROM authz.usage_resources AS e
        WHERE e.workspace_id = miscounts.of_workspace
    ) AS r
    FULL JOIN (
        SELECT g.meter, g.resource, sum(g.amount)::bigint AS amount
        FROM authz.usage_ledger AS g
        JOIN authz.meters AS t ON t.name = g.meter AND t.kind = 'level'
        WHERE g.workspace_id = miscounts.of_workspace
          AND g.resource IS NOT NULL
          AND g.period_start = '-infinity'
        GROUP BY g.meter, g.resource
    ) AS l ON l.meter = r.meter AND l.resource = r.resource
    WHERE COALESCE(r.amount, 0) <> COALESCE(l.amount, 0)
    UNION ALL
    SELECT 'members', NULL, NULL, w.member_count, m.members, NULL
    FROM authz.workspaces AS w
    CROSS JOIN LATERAL (
        SELECT count(*) AS members FROM authz.workspace_memberships AS p WHERE p.workspace_id = w.id
    ) AS m
    WHERE w.id = miscounts.of_workspace AND w.member_count <> m.members;
END;
COMMENT ON FUNCTION authz.miscounts IS
'What of a workspace does not add up: counters and resources that are not the sum of their ledger, periods with more or
less in the ledger than was used in them, and a member_count that is not the number of memberships. It locks nothing.
- of_workspace: the workspace.
- kind: (result) counter, period (one that is over for its counter), resource or members.
- meter: (result) the meter; NULL for members.
- resource: (result) the resource; NULL for the other kinds.
- counted: (result) what the database goes by.
- expected: (result) what the ledger or the memberships add up to.
- period_start: (result) when the period began; -infinity for a resource, NULL for members.
Returns: a row for each difference; none if all is well.
Called by: authz.recount; the owner, in sidecar recount.';

CREATE OR REPLACE FUNCTION authz.recount(of_workspace uuid)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong record;
BEGIN
    PERFORM authz.usage_locked(of_workspace);
    PERFORM FROM authz.workspaces AS w WHERE w.id = of_workspace FOR NO KEY UPDATE;
    PERFORM authz.charge_due_periods(of_workspace, statement_timestamp());
    FOR wrong IN SELECT m.* FROM authz.miscounts(of_workspace) AS m ORDER BY m.period_start LOOP
        IF wrong.kind = 'counter' THEN
            UPDATE authz.workspace_usage AS u
            SET used = greatest(wrong.expected, 0), period_start = wrong.period_start
            WHERE u.workspace_id = of_workspace AND u.meter = wrong.meter;
        ELSIF wrong.kind = 'members' THEN
            UPDATE authz.workspaces AS w SET member_count = wrong.expected WHERE w.id = of_workspace;
        ELSIF wrong.kind = 'period' THEN
            CONTINUE; -- the ledger alone has periods that are over
        ELSIF wrong.expected <= 0 THEN
            DELETE FROM authz.usage_resources AS r
            WHERE r.workspace_id = of_workspace AND r.meter = wrong.meter AND r.resource = wrong.resource;
        ELSE
            INSERT INTO authz.usage_resources (workspace_id, meter, resource, amount, decision_id, revision)
            SELECT of_workspace, wrong.meter, wrong.resource, wrong.expected, l.decision_id, c.revision
            FROM authz.catalog AS c, authz.usage_ledger AS l
            WHERE l.workspace_id = of_workspace AND l.meter = wrong.meter AND l.resource = wrong.resource
              AND l.amount > 0
            ORDER BY l.id DESC
            LIMIT 1
            ON CONFLICT ON CONSTRAINT usage_resources_pkey DO UPDATE SET amount = excluded.amount;
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION authz.recount IS
'Puts right what authz.miscounts finds in a workspace: lines of the ledger are charged to the period in which they were
used, counters and resources become the sum of their ledger, member_count the number of memberships. Locks the counters
and the workspace.
- of_workspace: the workspace.
Returns: nothing.
Called by: the owner, in sidecar recount --fix.';

CREATE FUNCTION authz.charge_due_periods(of_workspace uuid, moment timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    meter record;
BEGIN
    FOR meter IN
        SELECT t.name, t.per, a.anchored_at, p.starts
        FROM authz.workspaces AS w
        CROSS JOIN authz.meters AS t
        CROSS JOIN LATERAL (SELECT authz.anchor_of(t.anchor, w.subscribed_at) AS anchored_at) AS a
        CROSS JOIN LATERAL authz.period_at(t.per, a.anchored_at, moment) AS p
        WHERE w.id = of_workspace
    LOOP
        UPDATE authz.usage_ledger AS l
        SET period_start = authz.due_period(meter.per, meter.anchored_at, l.period_start, l.at, moment)
        WHERE l.workspace_id = of_workspace
          AND l.meter = meter.name
          AND l.period_start
              <> authz.due_period(meter.per, meter.anchored_at, l.period_start, l.at, moment);
        -- So that a commit and a refund charge the same period.
        UPDATE authz.usage_holds AS h SET period_start = meter.starts
        WHERE h.workspace_id = of_workspace AND h.meter = meter.name AND h.period_start > moment;
        UPDATE authz.usage_keys AS k
        SET starts[array_position(k.meters, meter.name)] = meter.starts
        WHERE k.workspace_id = of_workspace
          AND k.starts[array_position(k.meters, meter.name)] > moment;
        UPDATE authz.workspace_usage AS u SET period_start = meter.starts
        WHERE u.workspace_id = of_workspace AND u.meter = meter.name AND u.period_start > moment;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION authz.charge_due_periods IS
'Charges what a clock that went forward and back has charged to a period that had not begun, to the period in which it
was used (authz.due_period), with reservations, keys and counters. The caller holds the locks of the counters.
- of_workspace: the workspace.
- moment: now.
Returns: nothing.
Called by: authz.recount.';
REVOKE ALL ON FUNCTION authz.charge_due_periods FROM PUBLIC;
