-- Consumes that wait together are one call and one commit, and a workspace that is locked holds up only its own.
--
-- The order of locks is that of every other function: counters by workspace and meter, then workspaces, then keys.

CREATE FUNCTION authz.consume_many(items json, waits boolean)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    asked record; -- a column of all items in each field
    used_before bigint[]; -- of each item's counter; NULL: not locked
    held_until timestamptz[];
    unchanged boolean[]; -- its counter and its workspace; NULL: the workspace is not locked
    moment timestamptz;
    item record;
    last_workspace uuid;
    last_meter text;
    used_now bigint;
    done bigint[]; -- used after each item; NULL: nothing was done
    locked bigint[] := '{}';
    with_key bigint := 0;
    keys_kept bigint;
BEGIN
    SELECT i.* INTO asked
    FROM json_to_record(items) AS i (
        workspace_id uuid[], facts_version bigint[], ceiling bigint[], starts timestamptz[], ends timestamptz[],
        until timestamptz[], user_id text[], action text[], meter text[], amount bigint[], resource text[],
        key text[], fingerprint text[], decision_id text[], answer json[]
    );
    IF waits THEN
        PERFORM FROM (
            SELECT DISTINCT i.workspace_id, i.meter COLLATE "C" AS meter
            FROM unnest(asked.workspace_id, asked.meter) AS i (workspace_id, meter)
            ORDER BY 1, 2
        ) AS i
        CROSS JOIN LATERAL (
            SELECT FROM authz.workspace_usage AS u
            WHERE u.workspace_id = i.workspace_id AND u.meter = i.meter
            FOR UPDATE
        ) AS u;
        PERFORM FROM (SELECT DISTINCT i.id FROM unnest(asked.workspace_id) AS i (id) ORDER BY 1) AS i
        CROSS JOIN LATERAL (SELECT FROM authz.workspaces AS w WHERE w.id = i.id FOR SHARE) AS w;
    ELSE
        -- A key can still be waited for, while somebody else uses it for another meter.
        PERFORM set_config('lock_timeout', '5ms', true);
    END IF;

    -- A row is seen as it is when it is locked, though it may have changed since the statement began.
    SELECT
        array_agg(u.used ORDER BY i.n),
        array_agg(u.held_until ORDER BY i.n),
        array_agg(w.facts_version = i.facts_version AND u.period_start = i.starts ORDER BY i.n)
    INTO used_before, held_until, unchanged
    FROM (
        SELECT i.*
        FROM unnest(asked.workspace_id, asked.meter, asked.facts_version, asked.starts)
            WITH ORDINALITY AS i (workspace_id, meter, facts_version, starts, n)
        ORDER BY i.workspace_id, i.meter COLLATE "C", i.n
    ) AS i
    LEFT JOIN LATERAL (
        SELECT u.used, u.period_start, u.held_until
        FROM authz.workspace_usage AS u
        WHERE u.workspace_id = i.workspace_id AND u.meter = i.meter
        FOR UPDATE SKIP LOCKED
    ) AS u ON true
    LEFT JOIN LATERAL (
        SELECT w.facts_version
        FROM authz.workspaces AS w
        WHERE w.id = i.workspace_id AND u.used IS NOT NULL
        FOR SHARE SKIP LOCKED
    ) AS w ON true;
    moment := clock_timestamp(); -- after the locks: whoever waited past midnight is not charged yesterday

    done := array_fill(NULL::bigint, ARRAY[cardinality(used_before)]);
    FOR item IN
        SELECT
            i.n,
            i.workspace_id,
            i.meter,
            i.amount,
            i.ceiling,
            i.used_before,
            i.key IS NOT NULL AS has_key,
            CASE
                WHEN i.used_before IS NULL THEN (
                    SELECT 'locked'
                    FROM authz.workspace_usage AS u
                    WHERE u.workspace_id = i.workspace_id AND u.meter = i.meter
                )
                WHEN i.unchanged IS NULL THEN (
                    SELECT 'locked' FROM authz.workspaces AS w WHERE w.id = i.workspace_id
                )
                WHEN i.unchanged
                    AND moment >= i.starts
                    AND (moment < LEAST(i.ends, i.until)) IS NOT FALSE
                    AND (i.held_until <= moment) IS NOT FALSE
                    AND (
                        i.key IS NULL
                        OR row_number() OVER (PARTITION BY i.workspace_id, i.key ORDER BY i.n) = 1
                        AND (
                            SELECT true
                            FROM authz.usage_keys AS k
                            WHERE k.workspace_id = i.workspace_id AND k.key = i.key
                        ) IS NULL
                    )
                    THEN 'plain'
            END AS state
        FROM unnest(
            asked.workspace_id, asked.meter, asked.amount, asked.ceiling, asked.starts, asked.ends, asked.until,
            asked.key, used_before, held_until, unchanged
        ) WITH ORDINALITY AS i (
            workspace_id, meter, amount, ceiling, starts, ends, until,
            key, used_before, held_until, unchanged, n
        )
        ORDER BY i.workspace_id, i.meter COLLATE "C", i.n
    LOOP
        IF used_now IS NULL OR item.workspace_id <> last_workspace OR item.meter <> last_meter THEN
            last_workspace := item.workspace_id;
            last_meter := item.meter;
            used_now := item.used_before;
        END IF;
        IF item.state = 'locked' THEN
            locked := locked || item.n;
        ELSIF item.state = 'plain' AND (used_now + item.amount <= item.ceiling) IS NOT FALSE THEN
            used_now := used_now + item.amount;
            done[item.n] := used_now;
            IF item.has_key THEN
                with_key := with_key + 1;
            END IF;
        END IF;
    END LOOP;

    WITH item AS MATERIALIZED (
        SELECT i.*
        FROM unnest(
            done, asked.workspace_id, asked.ceiling, asked.starts, asked.ends, asked.user_id, asked.action,
            asked.meter, asked.amount, asked.resource, asked.key, asked.fingerprint, asked.decision_id, asked.answer
        ) WITH ORDINALITY AS i (
            used, workspace_id, ceiling, starts, ends, user_id, action,
            meter, amount, resource, key, fingerprint, decision_id, answer, n
        )
        WHERE i.used IS NOT NULL
    ), key AS (
        INSERT INTO authz.usage_keys (
            workspace_id, key, fingerprint, decision_id, answer, at, quota,
            meters, amounts, starts, resource, expires_at
        )
        SELECT
            i.workspace_id,
            i.key,
            i.fingerprint,
            i.decision_id,
            i.answer,
            moment,
            jsonb_build_object(i.meter, jsonb_build_array(i.ceiling, i.used, 0, i.ends)),
            ARRAY[i.meter],
            ARRAY[i.amount],
            ARRAY[i.starts],
            i.resource,
            COALESCE(i.ends, 'infinity') + interval '24 hours'
        FROM item AS i
        WHERE i.key IS NOT NULL
        ORDER BY i.workspace_id, i.key COLLATE "C"
        ON CONFLICT ON CONSTRAINT usage_keys_pkey DO NOTHING
        RETURNING 1
    ), charged AS (
        UPDATE authz.workspace_usage AS u SET used = c.used
        FROM (SELECT i.workspace_id, i.meter, max(i.used) AS used FROM item AS i GROUP BY 1, 2) AS c
        WHERE u.workspace_id = c.workspace_id AND u.meter = c.meter
    ), line AS (
        INSERT INTO authz.usage_ledger
            (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
        SELECT
            i.workspace_id,
            moment,
            i.meter,
            i.starts,
            i.amount,
            'consume',
            i.user_id,
            i.action,
            i.resource,
            i.decision_id
        FROM item AS i
    )
    SELECT count(*) INTO keys_kept FROM key;
    IF keys_kept <> with_key THEN -- somebody else has used one for another meter: the figures after it are wrong
        RAISE EXCEPTION 'an idempotency key was used meanwhile' USING ERRCODE = '40001';
    END IF;
    RETURN json_build_object('at', moment, 'used', done, 'locked', locked);
END;
$$;
COMMENT ON FUNCTION authz.consume_many IS
'As authz.consume for each item, in one transaction with one commit. Of one counter, an item sees what the items before
it have taken; of the items with the same key, at most the first is done. An item for which something is not as its
decision saw it is left undone without a trace, and authz.take is to be called for it.
- items: an object with an array for each parameter of authz.consume, all of one length of at least 1; the array of
  answer has JSON values, not text.
- waits: whether to wait for the locks of counters and workspaces; for items of one workspace only, so that no
  workspace waits for another. Else items whose counter or workspace is locked by another session are left undone.
Returns: at: when; used: of each item how much of its counter was used by then, null if it was left undone; locked: the
numbers, from 1, of the items that were left undone because of a lock.
Raises: 40001 if a key was used by another session in the middle; 55P03 if one was waited for too long: without waits,
5 ms. Nothing was done then.
Called by: authz_sidecar, for consumes that arrive together.';
REVOKE ALL ON FUNCTION authz.consume_many FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.consume_many TO authz_sidecar;
