-- What an operator does with the ledger: compare, correct, tidy up, and say what is used.

CREATE FUNCTION authz.usage_locked(of_workspace uuid)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    meters CONSTANT text[] := ARRAY(
        SELECT t.name FROM authz.meters AS t WHERE t.kind <> 'members'
        UNION
        SELECT u.meter FROM authz.workspace_usage AS u WHERE u.workspace_id = of_workspace
    );
BEGIN
    -- Every counter has its row, so that it can be locked.
    INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
    SELECT of_workspace, m, '-infinity', 0 FROM unnest(meters) AS m ORDER BY m COLLATE "C"
    ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO NOTHING;
    PERFORM authz.counters_locked(of_workspace, meters);
END;
$$;
COMMENT ON FUNCTION authz.usage_locked IS
    'For who is going to change or delete the workspace itself: its usage first, or he and who spends wait in a circle.';
REVOKE ALL ON FUNCTION authz.usage_locked FROM PUBLIC;

CREATE FUNCTION authz.miscounts(of_workspace uuid)
RETURNS TABLE (kind text, meter text, resource text, counted bigint, expected bigint, period_start timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- One statement sees one moment: counter and ledger change together, so no lock is needed to compare them.
    SELECT 'counter', c.meter, NULL, c.counted, c.expected, c.period_start
    FROM (
        SELECT
            COALESCE(u.meter, l.meter) AS meter,
            CASE WHEN u.period_start >= COALESCE(l.period_start, u.period_start) THEN u.used ELSE 0 END AS counted,
            CASE WHEN l.period_start >= COALESCE(u.period_start, l.period_start) THEN l.amount ELSE 0 END AS expected,
            greatest(u.period_start, l.period_start) AS period_start
        FROM (
            SELECT w.meter, w.period_start, w.used FROM authz.workspace_usage AS w WHERE w.workspace_id = of_workspace
        ) AS u
        FULL JOIN (
            SELECT DISTINCT ON (g.meter) g.meter, g.period_start, sum(g.amount)::bigint AS amount
            FROM authz.usage_ledger AS g
            WHERE g.workspace_id = of_workspace
            GROUP BY g.meter, g.period_start
            ORDER BY g.meter, g.period_start DESC
        ) AS l ON l.meter = u.meter
    ) AS c
    WHERE c.counted <> c.expected
    UNION ALL
    SELECT 'resource', COALESCE(r.meter, l.meter), COALESCE(r.resource, l.resource),
        COALESCE(r.amount, 0), COALESCE(l.amount, 0), '-infinity'
    FROM (
        SELECT e.meter, e.resource, e.amount FROM authz.usage_resources AS e WHERE e.workspace_id = of_workspace
    ) AS r
    FULL JOIN (
        SELECT g.meter, g.resource, sum(g.amount)::bigint AS amount
        FROM authz.usage_ledger AS g
        JOIN authz.meters AS t ON t.name = g.meter AND t.kind = 'level'
        WHERE g.workspace_id = of_workspace AND g.resource IS NOT NULL AND g.period_start = '-infinity'
        GROUP BY g.meter, g.resource
    ) AS l ON l.meter = r.meter AND l.resource = r.resource
    WHERE COALESCE(r.amount, 0) <> COALESCE(l.amount, 0)
    UNION ALL
    SELECT 'members', NULL, NULL, w.member_count, m.members, NULL
    FROM authz.workspaces AS w
    CROSS JOIN LATERAL (
        SELECT count(*) AS members FROM authz.workspace_memberships AS p WHERE p.workspace_id = w.id
    ) AS m
    WHERE w.id = of_workspace AND w.member_count <> m.members;
END;
COMMENT ON FUNCTION authz.miscounts IS
    'The counters and resources that are not the sum of their ledger, and members that are not the memberships.';
REVOKE ALL ON FUNCTION authz.miscounts FROM PUBLIC;

CREATE FUNCTION authz.recount(of_workspace uuid)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong record;
BEGIN
    PERFORM authz.usage_locked(of_workspace);
    PERFORM FROM authz.workspaces AS w WHERE w.id = of_workspace FOR NO KEY UPDATE;
    FOR wrong IN SELECT m.* FROM authz.miscounts(of_workspace) AS m LOOP
        IF wrong.kind = 'counter' THEN
            UPDATE authz.workspace_usage AS u
            SET used = greatest(wrong.expected, 0), period_start = wrong.period_start
            WHERE u.workspace_id = of_workspace AND u.meter = wrong.meter;
        ELSIF wrong.kind = 'members' THEN
            UPDATE authz.workspaces AS w SET member_count = wrong.expected WHERE w.id = of_workspace;
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
COMMENT ON FUNCTION authz.recount IS 'Makes what is miscounted the sum of its ledger, and the members the memberships.';
REVOKE ALL ON FUNCTION authz.recount FROM PUBLIC;

CREATE FUNCTION authz.tidy(from_page bigint, pages bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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
        WHERE e.ctid >= low AND e.ctid < high AND e.expires_at < now()
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
    'Removes what no answer depends on: keys and holds that are over, and reservations that ended a month ago. How many; NULL where the tables have ended.';
REVOKE ALL ON FUNCTION authz.tidy FROM PUBLIC;

CREATE FUNCTION authz.set_usage(workspace_id uuid, meters text[], used bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_workspace CONSTANT uuid := workspace_id;
    counter record;
    before bigint;
BEGIN
    PERFORM authz.usage_locked(of_workspace); -- all of it: what is not named has used nothing
    DELETE FROM authz.usage_reservations AS r WHERE r.workspace_id = of_workspace;
    DELETE FROM authz.usage_holds AS h WHERE h.workspace_id = of_workspace;
    DELETE FROM authz.usage_keys AS k WHERE k.workspace_id = of_workspace;
    WITH gone AS (
        DELETE FROM authz.usage_resources AS r WHERE r.workspace_id = of_workspace
        RETURNING r.meter, r.resource, r.amount
    )
    INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind, resource)
    SELECT of_workspace, clock_timestamp(), g.meter, '-infinity', -g.amount, 'adjust', g.resource FROM gone AS g;

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
            INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
            VALUES (
                of_workspace, clock_timestamp(), counter.meter, counter.start, counter.used - before, 'adjust'
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
