-- A cursor of the outbox must survive a move: in another cluster transactions are numbered anew, and after a failover or a
-- recovery to a moment the numbers that were lost are given again. So each of them begins an epoch.

CREATE TABLE authz.epochs (
    epoch integer NOT NULL,
    system_identifier bigint NOT NULL,
    timeline text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT epochs_pkey PRIMARY KEY (epoch)
);
COMMENT ON TABLE authz.epochs IS
    'The clusters that have written the outbox, in order. Within one, transactions are numbered upwards.';
COMMENT ON COLUMN authz.epochs.epoch IS 'The number of the epoch, from 1.';
COMMENT ON COLUMN authz.epochs.system_identifier IS 'Of the cluster, by pg_control_system().';
COMMENT ON COLUMN authz.epochs.timeline IS
    'Of the cluster: 8 hexadecimal digits. A failover or a recovery to a moment takes the next, in the same system_identifier.';
COMMENT ON COLUMN authz.epochs.began_at IS 'When its first row was written, or when epochs were introduced.';
COMMENT ON CONSTRAINT epochs_pkey ON authz.epochs IS 'Two who begin an epoch at once meet here.';
INSERT INTO authz.epochs (epoch, system_identifier, timeline)
SELECT 1, s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system() AS s;

CREATE FUNCTION authz.current_epoch()
RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last authz.epochs;
BEGIN
    SELECT e.* INTO last FROM authz.epochs AS e ORDER BY e.epoch DESC LIMIT 1;
    IF pg_is_in_recovery() OR (
        last.system_identifier = (SELECT s.system_identifier FROM pg_control_system() AS s)
        AND last.timeline = left(pg_walfile_name(pg_current_wal_lsn()), 8)
    ) THEN
        RETURN last.epoch;
    END IF;
    RETURN COALESCE(last.epoch, 0) + 1;
END;
$$;
COMMENT ON FUNCTION authz.current_epoch IS
    'The epoch of what is written now. All rows of the outbox that are of an earlier one are there: none is to come.
Returns: the number of the last epoch, or the next if this is not its cluster and timeline.
Called by: a login that reads the outbox, which it must be granted to; authz.this_epoch, authz.seal_history,
authz.only_pruned and authz.prune_history.';
REVOKE ALL ON FUNCTION authz.current_epoch FROM PUBLIC;

CREATE FUNCTION authz.this_epoch()
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now_is CONSTANT integer := authz.current_epoch();
BEGIN
    -- A primary key that is there already is no write, and whoever is beginning the same epoch is waited for.
    IF NOT EXISTS (SELECT FROM authz.epochs AS e WHERE e.epoch = now_is) THEN
        INSERT INTO authz.epochs (epoch, system_identifier, timeline)
        SELECT now_is, s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8)
        FROM pg_control_system() AS s
        ON CONFLICT ON CONSTRAINT epochs_pkey DO NOTHING;
    END IF;
    RETURN now_is;
END;
$$;
COMMENT ON FUNCTION authz.this_epoch IS 'The epoch of a row that is written now; begins it if it is its first.
Returns: authz.current_epoch().
Called by: the column epoch of authz.outbox.';
REVOKE ALL ON FUNCTION authz.this_epoch FROM PUBLIC;

-- Two steps, so that no row is rewritten.
ALTER TABLE authz.outbox ADD COLUMN epoch integer NOT NULL DEFAULT 1;
ALTER TABLE authz.outbox ALTER COLUMN epoch SET DEFAULT authz.this_epoch();
COMMENT ON COLUMN authz.outbox.epoch IS
    'In which cluster it was written (authz.epochs), so that a cursor survives a restore, a failover and an upgrade.';
ALTER TABLE authz.history_digests ADD COLUMN after_epoch integer NOT NULL DEFAULT 1;
ALTER TABLE authz.history_digests ADD COLUMN to_epoch integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN authz.history_digests.after_epoch IS 'The epoch of after_transaction.';
COMMENT ON COLUMN authz.history_digests.to_epoch IS 'The epoch of to_transaction.';
CREATE INDEX outbox_epoch_transaction_id_idx ON authz.outbox (epoch, transaction, id);
COMMENT ON INDEX authz.outbox_epoch_transaction_id_idx IS 'Finds what is new for a reader of all workspaces.';
COMMENT ON INDEX authz.outbox_transaction_id_idx IS 'As outbox_epoch_transaction_id_idx, for readers of before the epochs.';
COMMENT ON TABLE authz.outbox IS
    'Who changed what, and when: one row for each change of a workspace, its members, invitations and overrides, written
in the transaction that changes it. Its rows outlive the workspace. They are never updated, and deleted by
authz.prune_history alone. Within a workspace they happened in the order of id; among workspaces they may be
committed in another order. To read on after the last row that was read, and miss none that is committed later:
WHERE (epoch, transaction, id) > (last epoch, last transaction, last id)
AND (epoch < authz.current_epoch() OR transaction < pg_snapshot_xmin(pg_current_snapshot()))
ORDER BY epoch, transaction, id';
COMMENT ON TABLE authz.history_digests IS
    'Hashes of the outbox, part by part in the order of (epoch, transaction, id). The decision log has them too, in its
lines of kind history.';

CREATE OR REPLACE FUNCTION authz.members_at(
    at timestamp with time zone DEFAULT clock_timestamp(),
    workspace uuid DEFAULT NULL::uuid,
    OUT workspace_id uuid,
    OUT user_id text,
    OUT role text,
    OUT since timestamp with time zone,
    OUT granted_kind text,
    OUT granted_by text,
    OUT event bigint
)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
 SET work_mem TO '64MB'
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (
        SELECT
            o.workspace_id, o.id, o.at, o.epoch, o.transaction, o.kind, o.actor, o.actor_kind,
            o.data ->> 'user' AS user_id,
            CASE o.kind
                WHEN 'member.joined' THEN o.data ->> 'role'
                WHEN 'member.found' THEN o.data ->> 'role'
                WHEN 'member.role_changed' THEN o.data ->> 'to'
            END AS role,
            o.data ->> 'granted_by' AS granted_by,
            CASE WHEN o.kind = 'member.found' THEN (o.data ->> 'since')::timestamptz END AS since
        FROM authz.outbox AS o
        WHERE (members_at.workspace IS NULL OR o.workspace_id = members_at.workspace)
          AND o.at <= members_at.at
          AND o.kind IN (
              'member.joined', 'member.left', 'member.removed', 'member.role_changed', 'member.found', 'member.lost'
          )
        UNION ALL
        SELECT o.workspace_id, o.id, o.at, o.epoch, o.transaction, o.kind, o.actor, o.actor_kind, m.user_id, NULL, NULL, NULL
        FROM authz.outbox AS o
        CROSS JOIN LATERAL jsonb_to_recordset(o.data -> 'members') AS m (user_id text)
        WHERE (members_at.workspace IS NULL OR o.workspace_id = members_at.workspace)
          AND o.at <= members_at.at
          AND o.kind = 'workspace.deleted'
    ),
    gone AS (
        SELECT o.workspace_id, max(o.id) AS id
        FROM authz.outbox AS o
        WHERE (members_at.workspace IS NULL OR o.workspace_id = members_at.workspace)
          AND o.at <= members_at.at
          AND o.kind IN ('workspace.purged', 'workspace.lost')
        GROUP BY o.workspace_id
    ),
    last AS (
        SELECT DISTINCT ON (t.workspace_id, t.user_id COLLATE "C") t.*
        FROM told AS t
        ORDER BY t.workspace_id, t.user_id COLLATE "C", t.id DESC
    ),
    -- Rows of before the one who invited was told in member.joined itself.
    invited AS (
        SELECT DISTINCT ON (o.workspace_id, o.epoch, o.transaction)
            o.workspace_id, o.epoch, o.transaction, o.actor, o.data ->> 'invited_by' AS invited_by
        FROM authz.outbox AS o
        WHERE (members_at.workspace IS NULL OR o.workspace_id = members_at.workspace)
          AND o.at <= members_at.at
          AND o.kind = 'invitation.accepted'
        ORDER BY o.workspace_id, o.epoch, o.transaction
    )
    SELECT
        l.workspace_id,
        l.user_id,
        COALESCE(n.later, l.role),
        COALESCE(l.since, l.at),
        CASE
            WHEN l.kind = 'member.found' THEN 'found'
            WHEN l.kind = 'member.joined' AND COALESCE(l.granted_by, i.invited_by) IS NOT NULL THEN 'user'
            ELSE l.actor_kind
        END,
        CASE
            WHEN l.kind = 'member.found' THEN NULL
            WHEN l.kind = 'member.joined' THEN COALESCE(l.granted_by, i.invited_by, l.actor)
            ELSE l.actor
        END,
        l.id
    FROM last AS l
    LEFT JOIN gone AS g ON g.workspace_id = l.workspace_id
    LEFT JOIN invited AS i
        ON i.workspace_id = l.workspace_id AND i.epoch = l.epoch AND i.transaction = l.transaction
        AND i.actor = l.user_id
    LEFT JOIN authz.names_since('role', members_at.at) AS n
        ON n.name = l.role AND l.id > n.first_id AND l.id < n.last_id
    WHERE l.role IS NOT NULL AND (g.id IS NULL OR l.id > g.id)
    ORDER BY l.workspace_id, l.user_id COLLATE "C";
END;
$$;

CREATE OR REPLACE FUNCTION authz.history(
    since timestamp with time zone DEFAULT NULL::timestamp with time zone,
    until timestamp with time zone DEFAULT NULL::timestamp with time zone,
    workspace uuid DEFAULT NULL::uuid,
    kinds text[] DEFAULT NULL::text[],
    after bigint DEFAULT 0,
    OUT id bigint,
    OUT at timestamp with time zone,
    OUT transaction xid8,
    OUT workspace_id uuid,
    OUT slug text,
    OUT kind text,
    OUT user_id text,
    OUT data jsonb,
    OUT actor text,
    OUT actor_kind text,
    OUT granted_by text,
    OUT decision_id text
)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $$
BEGIN
    RETURN QUERY
    SELECT
        o.id, o.at, o.transaction, o.workspace_id,
        COALESCE(
            (SELECT w.slug FROM authz.workspaces AS w WHERE w.id = o.workspace_id),
            (
                SELECT s.data ->> 'slug' FROM authz.outbox AS s
                WHERE s.workspace_id = o.workspace_id AND s.data ? 'slug'
                ORDER BY s.id DESC
                LIMIT 1
            )
        ),
        o.kind, o.data ->> 'user', o.data, o.actor, o.actor_kind,
        CASE WHEN o.kind = 'member.joined' THEN COALESCE(o.data ->> 'granted_by', (
            SELECT i.data ->> 'invited_by' FROM authz.outbox AS i
            WHERE i.epoch = o.epoch
              AND i.transaction = o.transaction
              AND i.workspace_id = o.workspace_id
              AND i.kind = 'invitation.accepted'
              AND i.actor = o.data ->> 'user'
            LIMIT 1
        )) END,
        o.decision_id
    FROM authz.outbox AS o
    WHERE o.id > history.after
      AND (history.since IS NULL OR o.at >= history.since)
      AND (history.until IS NULL OR o.at < history.until)
      AND (history.workspace IS NULL OR o.workspace_id = history.workspace)
      AND (history.kinds IS NULL OR o.kind = ANY (history.kinds))
    ORDER BY o.id
    LIMIT 1000;
END;
$$;

CREATE OR REPLACE FUNCTION authz.only_pruned()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $$
BEGIN
    IF EXISTS (SELECT FROM old_rows) AND NOT EXISTS (
        SELECT FROM authz.outbox AS p
        WHERE p.epoch = authz.current_epoch()
          AND p.transaction = pg_current_xact_id()
          AND p.kind = 'history.pruned'
          AND p.data ->> 'sha256' = (
              SELECT encode(sha256(string_agg(authz.outbox_hash(o), '' ORDER BY o.epoch, o.transaction, o.id)), 'hex')
              FROM old_rows AS o
          )
    ) THEN
        RAISE EXCEPTION 'rows of authz.outbox are deleted by authz.prune_history alone' USING ERRCODE = 'AZ003';
    END IF;
    RETURN NULL;
END;
$$;

CREATE OR REPLACE FUNCTION authz.prune_history(before timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $$
DECLARE
    doomed bigint[];
    standing authz.outbox[];
    hash text;
BEGIN
    IF before IS NULL OR NOT isfinite(before) OR before > clock_timestamp() THEN
        RAISE EXCEPTION 'before is not a moment that has been: %', before USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(7022042);
    -- One statement, and so one snapshot. A row takes the id of one that it stands for: what comes later is later.
    WITH members AS MATERIALIZED (SELECT m.* FROM authz.members_at(before) AS m),
    workspaces AS MATERIALIZED (SELECT w.* FROM authz.workspaces_told(before, NULL) AS w),
    overrides AS MATERIALIZED (SELECT f.* FROM authz.overrides_told(before, NULL) AS f),
    old AS MATERIALIZED (SELECT o.* FROM authz.outbox AS o WHERE o.at < before),
    last AS (
        SELECT o.workspace_id, max(o.id) AS id,
            max(o.id) FILTER (WHERE o.kind LIKE 'workspace.%') AS of_itself,
            max(o.id) FILTER (WHERE o.kind LIKE 'workspace.%' OR o.kind LIKE 'override.%') AS of_state
        FROM old AS o
        GROUP BY o.workspace_id
    ),
    gone AS (
        SELECT o.* FROM old AS o
        LEFT JOIN members AS m ON m.workspace_id = o.workspace_id AND m.event = o.id
        LEFT JOIN last AS l ON l.workspace_id = o.workspace_id
        -- What was found and still tells it stays.
        WHERE NOT (o.kind = 'member.found' AND m.event IS NOT NULL)
          AND NOT (o.kind = 'workspace.found' AND l.of_state = o.id)
          AND o.kind NOT IN ('history.began', 'history.pruned')
    ),
    kept AS (
        SELECT m.workspace_id, m.event AS id, 'member.found' AS kind,
            jsonb_build_object('user', m.user_id, 'role', m.role, 'since', m.since) AS data
        FROM members AS m
        UNION ALL
        SELECT w.workspace_id, l.of_itself, 'workspace.found',
            jsonb_build_object(
                'slug', w.slug, 'name', w.name, 'plan', w.plan, 'status', w.status, 'reason', w.reason,
                'subscribed_at', w.subscribed_at
            )
            || CASE WHEN w.billing IS NULL THEN '{}' ELSE jsonb_build_object('billing', w.billing) END
            || CASE WHEN w.deleted THEN '{"deleted": true}' ELSE '{}' END::jsonb
            || jsonb_build_object('overrides', COALESCE((
                SELECT jsonb_agg(jsonb_build_object(
                    'of', f.kind, 'name', f.name, 'value', f.value, 'expires_at', f.expires_at, 'reason', f.reason
                ) ORDER BY f.kind, f.name)
                FROM overrides AS f
                WHERE f.workspace_id = w.workspace_id
            ), '[]'))
        FROM workspaces AS w
        JOIN last AS l ON l.workspace_id = w.workspace_id
    )
    SELECT
        (SELECT array_agg(g.id) FROM gone AS g),
        (
            SELECT encode(sha256(string_agg(authz.outbox_hash(o), '' ORDER BY o.epoch, o.transaction, o.id)), 'hex')
            FROM authz.outbox AS o
            WHERE o.id IN (SELECT g.id FROM gone AS g)
        ),
        (
            SELECT array_agg(ROW(
                k.id, before, pg_current_xact_id(), k.workspace_id, session_user, 'sql', k.kind, k.data, NULL, NULL, authz.current_epoch()
            )::authz.outbox)
            FROM kept AS k
            JOIN gone AS g ON g.id = k.id
        )
    INTO doomed, hash, standing;
    IF doomed IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM authz.record('00000000-0000-0000-0000-000000000000', 'history.pruned', jsonb_build_object(
        'before', before, 'rows', cardinality(doomed), 'sha256', hash
    ));
    DELETE FROM authz.outbox AS o WHERE o.id = ANY (doomed);
    INSERT INTO authz.outbox (id, at, transaction, workspace_id, actor, actor_kind, kind, data, decision_id)
    OVERRIDING SYSTEM VALUE
    SELECT s.id, s.at, s.transaction, s.workspace_id, s.actor, s.actor_kind, s.kind, s.data, s.decision_id
    FROM unnest(standing) AS s;
    RETURN cardinality(doomed);
END;
$$;

DROP FUNCTION authz.digest_of(xid8, bigint, xid8, bigint);
CREATE FUNCTION authz.digest_of(part authz.history_digests, OUT rows bigint, OUT sha256 bytea)
RETURNS record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT count(*), pg_catalog.sha256(COALESCE(
        string_agg(authz.outbox_hash(o), '' ORDER BY o.epoch, o.transaction, o.id), ''
    ))
    INTO rows, sha256
    FROM authz.outbox AS o
    WHERE (o.epoch, o.transaction, o.id) > (part.after_epoch, part.after_transaction, part.after_id)
      AND (o.epoch, o.transaction, o.id) <= (part.to_epoch, part.to_transaction, part.to_id);
END;
$$;
COMMENT ON FUNCTION authz.digest_of IS 'A part of the outbox as one hash.
- part: where it begins and ends.
- rows: (result) how many rows it has.
- sha256: (result) SHA-256 of their hashes (authz.outbox_hash), in the order of (epoch, transaction, id).
Returns: one row.
Called by: authz.seal_history and authz.digests.';
REVOKE ALL ON FUNCTION authz.digest_of FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.seal_history(writer text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $$
DECLARE
    most CONSTANT bigint := 100000;
    current CONSTANT integer := authz.current_epoch();
    last authz.history_digests;
    made authz.history_digests;
    digest record;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7022043) THEN
        RETURN NULL; -- another worker is at it
    END IF;
    SELECT d.* INTO last FROM authz.history_digests AS d ORDER BY d.id DESC LIMIT 1;
    IF last.at > clock_timestamp() - interval '1 hour' AND last.rows < most THEN
        RETURN NULL;
    END IF;
    made.after_epoch := COALESCE(last.to_epoch, 1);
    made.after_transaction := COALESCE(last.to_transaction, '0');
    made.after_id := COALESCE(last.to_id, 0);
    SELECT p.epoch, p.transaction, p.id, min(p.at) OVER ()
    INTO made.to_epoch, made.to_transaction, made.to_id, made.first_at
    FROM (
        SELECT o.epoch, o.transaction, o.id, o.at
        FROM authz.outbox AS o
        WHERE (o.epoch, o.transaction, o.id) > (made.after_epoch, made.after_transaction, made.after_id)
          AND (o.epoch < current OR o.transaction < pg_snapshot_xmin(pg_current_snapshot()))
        ORDER BY o.epoch, o.transaction, o.id
        LIMIT most
    ) AS p
    ORDER BY p.epoch DESC, p.transaction DESC, p.id DESC
    LIMIT 1;
    IF made.to_id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT d.rows, d.sha256 INTO made.rows, made.sha256
    FROM authz.digest_of(made) AS d;
    INSERT INTO authz.history_digests AS h
        (writer, after_epoch, after_transaction, after_id, to_epoch, to_transaction, to_id, first_at, rows, sha256)
    VALUES (
        seal_history.writer, made.after_epoch, made.after_transaction, made.after_id,
        made.to_epoch, made.to_transaction, made.to_id, made.first_at, made.rows, made.sha256
    )
    RETURNING h.id, h.at INTO made.id, made.at;
    RETURN json_build_object(
        'mark', made.id,
        'at', made.at,
        'after', json_build_array(made.after_transaction::text, made.after_id),
        'to', json_build_array(made.to_transaction::text, made.to_id),
        'rows', made.rows,
        'sha256', encode(made.sha256, 'hex')
    );
END;
$$;

CREATE OR REPLACE FUNCTION authz.digests(
    since timestamp with time zone DEFAULT NULL::timestamp with time zone,
    until timestamp with time zone DEFAULT NULL::timestamp with time zone,
    OUT id bigint,
    OUT at timestamp with time zone,
    OUT writer text,
    OUT rows bigint,
    OUT sha256 bytea,
    OUT rows_now bigint,
    OUT sha256_now bytea,
    OUT pruned boolean
)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $$
BEGIN
    RETURN QUERY
    SELECT
        d.id, d.at, d.writer, d.rows, d.sha256, n.rows, n.sha256,
        EXISTS (
            SELECT FROM authz.outbox AS p
            WHERE p.workspace_id = '00000000-0000-0000-0000-000000000000'
              AND p.kind = 'history.pruned'
              AND (p.data ->> 'before')::timestamptz > d.first_at
        )
    FROM authz.history_digests AS d
    CROSS JOIN LATERAL authz.digest_of(d) AS n
    WHERE (digests.since IS NULL OR d.at >= digests.since)
      AND (digests.until IS NULL OR d.at < digests.until)
    ORDER BY d.id;
END;
$$;
