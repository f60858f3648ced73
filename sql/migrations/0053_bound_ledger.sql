-- Lines of periods that ended long ago become one line each, so that the ledger has a bound; a key that nothing resets has
-- one too, unless it is the only way to give something back.

COMMENT ON TABLE authz.usage_ledger IS
    'Every change of a counter: the counter is the sum of its lines (authz.miscounts compares them). Lines of periods that
ended long ago may have become one of kind carried (authz.fold_usage). No foreign key: a purged workspace''s lines are
deleted by authz.forget_usage.';
COMMENT ON COLUMN authz.usage_ledger.at IS
    'When it was charged or given back; of kind carried, when the lines that it stands for were deleted.';
COMMENT ON COLUMN authz.usage_ledger.kind IS
    'consume, commit (of a reservation), release (given back), adjust (by an operator or sidecar load, or because the
billing day has moved), or carried (the sum of lines of a period that were deleted).';
COMMENT ON COLUMN authz.usage_ledger.user_id IS 'The user who used it. NULL: given back, adjusted or carried.';
COMMENT ON COLUMN authz.usage_ledger.action IS
    'The action that it was used for. NULL: given back, adjusted or carried.';
COMMENT ON COLUMN authz.usage_ledger.decision_id IS
    'The decision that charged it first; of a reservation the one that made it, however late it was committed; a line that
gives back has the id of the line that it undoes. NULL: adjusted or carried.';

CREATE FUNCTION authz.is_old_usage(line authz.usage_ledger, before timestamptz)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN line.at < before
    AND line.kind <> 'carried'
    -- A month that is counted from a 31st may have three days more than the one that begins on a 28th.
    AND isfinite(line.period_start)
    AND line.period_start < before - interval '34 days'
    -- What a clock that was wrong has charged to another period is left to authz.recount.
    AND line.at >= line.period_start - interval '5 minutes';
COMMENT ON FUNCTION authz.is_old_usage IS
    'Whether a line of the ledger is of a period that had ended, and was written, before a time.
- line: the line.
- before: the time.
Returns: true or false; false where nothing restarts, for a line of kind carried, and for one that authz.recount would
charge to another period.
Called by: authz.fold_usage; the owner, in sidecar tidy.';
REVOKE ALL ON FUNCTION authz.is_old_usage FROM PUBLIC;

CREATE FUNCTION authz.fold_usage(before timestamptz, from_page bigint, pages bigint, at_most bigint)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    low CONSTANT tid := format('(%s,0)', from_page);
    high CONSTANT tid := format('(%s,0)', from_page + pages);
    gone bigint;
BEGIN
    -- One at a time, or two would carry one period in two lines.
    PERFORM pg_advisory_xact_lock(hashtextextended('authz.fold_usage', 0));
    WITH old AS (
        DELETE FROM authz.usage_ledger AS l WHERE l.ctid = ANY (ARRAY(
            SELECT e.ctid
            FROM authz.usage_ledger AS e
            -- A workspace that is being purged is passed over: its lines go with it, and a sum would stay.
            JOIN authz.workspaces AS w ON w.id = e.workspace_id
            WHERE e.ctid >= low AND e.ctid < high AND authz.is_old_usage(e, before)
            LIMIT at_most
            FOR KEY SHARE OF w SKIP LOCKED
            FOR UPDATE OF e SKIP LOCKED
        ))
        RETURNING l.workspace_id, l.meter, l.period_start, l.amount
    ), total AS (
        SELECT o.workspace_id, o.meter, o.period_start, sum(o.amount) AS amount, count(*) AS lines
        FROM old AS o
        GROUP BY o.workspace_id, o.meter, o.period_start
    ), carried AS (
        DELETE FROM authz.usage_ledger AS l USING total AS t
        WHERE l.workspace_id = t.workspace_id AND l.meter = t.meter AND l.period_start = t.period_start
          AND l.kind = 'carried'
        RETURNING l.workspace_id, l.meter, l.period_start, l.amount
    ), written AS (
        INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
        SELECT t.workspace_id, clock_timestamp(), t.meter, t.period_start, (
            t.amount + COALESCE((
                SELECT sum(c.amount)
                FROM carried AS c
                WHERE c.workspace_id = t.workspace_id AND c.meter = t.meter AND c.period_start = t.period_start
            ), 0)
        )::bigint, 'carried'
        FROM total AS t
        ORDER BY t.workspace_id, t.meter, t.period_start
    )
    SELECT COALESCE(sum(t.lines), 0) INTO gone FROM total AS t;
    RETURN gone;
END;
$$;
COMMENT ON FUNCTION authz.fold_usage IS
    'Deletes old lines of the ledger (authz.is_old_usage) in a part of the table, and writes their sum as one line of kind
carried for each workspace, meter and period, so that counters and periods add up as before. Passes over lines and
workspaces that another session has locked; waits for another call of itself.
- before: as in authz.is_old_usage.
- from_page: the first page of the part.
- pages: how many pages it has.
- at_most: how many lines.
Returns: how many lines were deleted.
Called by: the owner, in sidecar tidy.';
REVOKE ALL ON FUNCTION authz.fold_usage FROM PUBLIC;

CREATE FUNCTION authz.is_spent_key(known authz.usage_keys)
RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF known.amounts IS NULL THEN
        RETURN NOT EXISTS (
            SELECT FROM authz.usage_reservations AS r
            WHERE r.workspace_id = known.workspace_id AND r.id = known.reservation
              AND r.state = 'held' AND r.expires_at > clock_timestamp()
        );
    END IF;
    RETURN known.resource IS NOT NULL OR known.given_back IS NOT NULL OR NOT EXISTS (
        SELECT FROM unnest(known.meters, known.amounts) AS k (meter, amount)
        JOIN authz.meters AS t ON t.name = k.meter AND t.kind = 'level'
        WHERE k.amount > 0
    );
END;
$$;
COMMENT ON FUNCTION authz.is_spent_key IS
    'Whether an idempotency key may go by its age. It may not while its reservation is open, nor while it is what a level
without a resource is given back by.
- known: the row of authz.usage_keys.
Returns: true or false.
Called by: authz.tidy.';
REVOKE ALL ON FUNCTION authz.is_spent_key FROM PUBLIC;

DROP FUNCTION authz.tidy(bigint, bigint);
CREATE FUNCTION authz.tidy(from_page bigint, pages bigint, keys_before timestamptz DEFAULT '-infinity')
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A part of each table at a time, as it lies on the disk: an index by date would cost each use of quota more.
    low CONSTANT tid := format('(%s,0)', from_page);
    high CONSTANT tid := format('(%s,0)', from_page + pages);
    gone bigint;
    total bigint;
BEGIN
    IF from_page * current_setting('block_size')::bigint >= greatest(
        pg_relation_size('authz.usage_keys'),
        pg_relation_size('authz.usage_holds'),
        pg_relation_size('authz.usage_reservations')
    ) THEN
        RETURN NULL;
    END IF;
    -- What somebody has locked is in use: it is left for the next time, and nobody waits.
    DELETE FROM authz.usage_keys AS k WHERE k.ctid = ANY (ARRAY(
        SELECT e.ctid FROM authz.usage_keys AS e
        WHERE e.ctid >= low AND e.ctid < high AND (e.expires_at < now() OR e.at < keys_before AND authz.is_spent_key(e))
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS total = ROW_COUNT;
    DELETE FROM authz.usage_holds AS h WHERE h.ctid = ANY (ARRAY(
        SELECT e.ctid FROM authz.usage_holds AS e
        WHERE e.ctid >= low AND e.ctid < high AND e.expires_at < now()
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM authz.usage_reservations AS r WHERE r.ctid = ANY (ARRAY(
        SELECT e.ctid FROM authz.usage_reservations AS e
        WHERE e.ctid >= low AND e.ctid < high AND e.expires_at < now() - interval '30 days'
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END;
$$;
COMMENT ON FUNCTION authz.tidy IS
    'Deletes what no answer depends on any more, in a part of each table: keys and holds that have expired, keys that are
older than keys_before (authz.is_spent_key), and reservations that ended 30 days ago. Passes over rows that another session
has locked.
- from_page: the first page (of 8 kB, unless the server was built otherwise) of each table to look at.
- pages: how many pages.
- keys_before: keys that were taken before this time are deleted though they have not expired; -infinity: none.
Returns: how many rows were deleted; NULL if no table is as long.
Called by: the owner, in sidecar tidy.';
REVOKE ALL ON FUNCTION authz.tidy FROM PUBLIC;

COMMENT ON TABLE authz.usage_keys IS
    'Idempotency keys of what was taken or reserved, with the answer, so that a retry is answered the same and takes
nothing more. A key whose effect was given back is free (authz.key_stands): its row stays until a request takes it
anew, or until the period of what was taken has ended and 24 hours more. Denials are not kept. Removed by authz.tidy,
also by its age.';
