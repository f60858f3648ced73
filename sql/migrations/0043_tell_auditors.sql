-- Who was what, when: for auditors, who may execute these functions and touch nothing. What was published is kept,
-- and the database and the decision log hold each other's hashes.

DO $$
BEGIN
    -- A role belongs to the whole server: another database of it may have made this one already.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authz_audit') THEN
        CREATE ROLE authz_audit NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- made by the migration of another database a moment ago
END;
$$;
GRANT USAGE ON SCHEMA authz TO authz_audit;

CREATE TABLE authz.policy_history (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    login text NOT NULL DEFAULT session_user,
    revision text NOT NULL,
    catalog text NOT NULL,
    version text NOT NULL,
    plans bytea NOT NULL,
    bundle bytea NOT NULL,
    CONSTRAINT policy_history_pkey PRIMARY KEY (id)
);
CREATE INDEX policy_history_revision_idx ON authz.policy_history (revision);
COMMENT ON TABLE authz.policy_history IS
'What was published, kept for good: sidecar migrate adds a row if file or bundle differ from the last row''s.';
COMMENT ON COLUMN authz.policy_history.id IS 'Rises with each publication.';
COMMENT ON COLUMN authz.policy_history.at IS 'When it was published.';
COMMENT ON COLUMN authz.policy_history.login IS 'The database login that published it.';
COMMENT ON COLUMN authz.policy_history.revision IS 'The policy revision.';
COMMENT ON COLUMN authz.policy_history.catalog IS
'SHA-256 of plans, 64 hexadecimal digits: it changes with comments too.';
COMMENT ON COLUMN authz.policy_history.version IS 'The version of the sidecar that published it.';
COMMENT ON COLUMN authz.policy_history.plans IS 'plans.yaml, as it was read.';
COMMENT ON COLUMN authz.policy_history.bundle IS 'The bundle, as sidecar compile -o writes it.';
COMMENT ON SEQUENCE authz.policy_history_id_seq IS 'The ids of policy_history.';
COMMENT ON CONSTRAINT policy_history_pkey ON authz.policy_history IS 'One row for each publication.';
COMMENT ON INDEX authz.policy_history_revision_idx IS 'Finds the files of a revision.';

CREATE TABLE authz.log_anchors (
    writer text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    head bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended boolean NOT NULL DEFAULT false,
    removed_at timestamptz,
    CONSTRAINT log_anchors_pkey PRIMARY KEY (writer, number),
    CONSTRAINT log_anchors_head_check CHECK (length(head) = 32)
);
COMMENT ON TABLE authz.log_anchors IS
'Heads of decision logs, kept where their writers cannot rewrite them.';
COMMENT ON COLUMN authz.log_anchors.writer IS 'The writer of the log: <host>-<start in ms, base 36>-<pid>.';
COMMENT ON COLUMN authz.log_anchors.number IS 'The number of the line, n.';
COMMENT ON COLUMN authz.log_anchors.head IS 'The seal of the line, h: 32 bytes.';
COMMENT ON COLUMN authz.log_anchors.at IS 'When it was written here.';
COMMENT ON COLUMN authz.log_anchors.ended IS 'Whether it is the writer''s last line.';
COMMENT ON COLUMN authz.log_anchors.removed_at IS
'When the writer''s files were deleted because they were old. NULL: they are kept.';
COMMENT ON CONSTRAINT log_anchors_pkey ON authz.log_anchors IS 'One head for each line.';
COMMENT ON CONSTRAINT log_anchors_head_check ON authz.log_anchors IS 'A SHA-256 has 32 bytes.';

CREATE TABLE authz.history_digests (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    writer text COLLATE "C" NOT NULL,
    after_transaction xid8 NOT NULL,
    after_id bigint NOT NULL,
    to_transaction xid8 NOT NULL,
    to_id bigint NOT NULL,
    first_at timestamptz NOT NULL,
    rows bigint NOT NULL,
    sha256 bytea NOT NULL,
    CONSTRAINT history_digests_pkey PRIMARY KEY (id),
    CONSTRAINT history_digests_sha256_check CHECK (length(sha256) = 32)
);
COMMENT ON TABLE authz.history_digests IS
'Hashes of the outbox, part by part in the order of (transaction, id). The decision log has them too, in its lines of
kind history.';
COMMENT ON COLUMN authz.history_digests.id IS 'Rises with each part.';
COMMENT ON COLUMN authz.history_digests.at IS 'When it was hashed.';
COMMENT ON COLUMN authz.history_digests.writer IS 'The writer of the decision log that was told.';
COMMENT ON COLUMN authz.history_digests.after_transaction IS 'The part begins after this transaction and after_id.';
COMMENT ON COLUMN authz.history_digests.after_id IS 'The id of the last row of the part before.';
COMMENT ON COLUMN authz.history_digests.to_transaction IS 'The transaction of its last row.';
COMMENT ON COLUMN authz.history_digests.to_id IS 'The id of its last row.';
COMMENT ON COLUMN authz.history_digests.first_at IS
'When its first row was written: if the history was pruned up to later than that, rows are gone.';
COMMENT ON COLUMN authz.history_digests.rows IS 'How many rows it has.';
COMMENT ON COLUMN authz.history_digests.sha256 IS 'SHA-256 of the rows'' hashes (authz.outbox_hash), in their order.';
COMMENT ON SEQUENCE authz.history_digests_id_seq IS 'The ids of history_digests.';
COMMENT ON CONSTRAINT history_digests_pkey ON authz.history_digests IS 'One row for each part.';
COMMENT ON CONSTRAINT history_digests_sha256_check ON authz.history_digests IS 'A SHA-256 has 32 bytes.';

CREATE FUNCTION authz.keep_anchors()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.writer, NEW.number, NEW.head, NEW.at, NEW.ended)
            IS DISTINCT FROM (OLD.writer, OLD.number, OLD.head, OLD.at, OLD.ended)
        THEN
            RAISE EXCEPTION 'an anchor of a decision log stays as it is' USING ERRCODE = 'AZ003';
        END IF;
        RETURN NEW;
    END IF;
    IF NOT EXISTS (
        SELECT FROM authz.log_anchors AS a
        WHERE a.writer = OLD.writer
          AND a.number > OLD.number
          AND date_trunc('hour', a.at, 'UTC') = date_trunc('hour', OLD.at, 'UTC')
    ) THEN
        RAISE EXCEPTION 'the last anchor of an hour is kept' USING ERRCODE = 'AZ003';
    END IF;
    RETURN OLD;
END;
$$;
COMMENT ON FUNCTION authz.keep_anchors IS
'Trigger: refuses to change an anchor but for removed_at, and to delete the last one of an hour.
Returns: the row.
Raises: AZ003 if it refuses.
Called by: trigger keep_anchors on authz.log_anchors.';
REVOKE ALL ON FUNCTION authz.keep_anchors FROM PUBLIC;
CREATE TRIGGER keep_anchors BEFORE UPDATE OR DELETE ON authz.log_anchors
    FOR EACH ROW EXECUTE FUNCTION authz.keep_anchors();
COMMENT ON TRIGGER keep_anchors ON authz.log_anchors IS 'An anchor holds.';

DO $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT * FROM (VALUES
            ('policy_history', 'truncate'), ('policy_history', 'update'), ('policy_history', 'delete'),
            ('history_digests', 'truncate'), ('history_digests', 'update'), ('history_digests', 'delete'),
            ('log_anchors', 'truncate')
        ) AS v (name, verb)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER refuse_%s BEFORE %s ON authz.%I FOR EACH STATEMENT'
            ' EXECUTE FUNCTION authz.refuse_unrecorded()',
            each.verb, each.verb, each.name
        );
        EXECUTE format(
            'COMMENT ON TRIGGER refuse_%s ON authz.%I IS %L', each.verb, each.name, 'What was written stays.'
        );
    END LOOP;
END;
$$;

CREATE FUNCTION authz.names_since(
    kind text, at timestamptz, OUT first_id bigint, OUT last_id bigint, OUT name text, OUT later text
)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE renames AS (
        SELECT
            row_number() OVER (ORDER BY o.id) AS number,
            COALESCE(lag(o.id) OVER (ORDER BY o.id), 0) AS before,
            o.id,
            o.data -> 'names' AS names
        FROM authz.outbox AS o
        WHERE o.workspace_id = '00000000-0000-0000-0000-000000000000'
          AND o.kind = 'names.changed'
          AND o.data ->> 'of' = names_since.kind
          AND o.at <= names_since.at
    ),
    known AS (
        SELECT DISTINCT e.name
        FROM renames AS r
        CROSS JOIN LATERAL jsonb_each_text(r.names) AS n (former, later)
        CROSS JOIN LATERAL (VALUES (n.former), (n.later)) AS e (name)
    ),
    walk AS (
        SELECT (SELECT count(*) + 1 FROM renames) AS number, k.name, k.name AS later FROM known AS k
        UNION ALL
        SELECT r.number, k.name, w.later
        FROM walk AS w
        JOIN renames AS r ON r.number = w.number - 1
        JOIN known AS k ON COALESCE(r.names ->> k.name, k.name) = w.name
    )
    SELECT r.before, r.id, w.name, w.later
    FROM walk AS w
    JOIN renames AS r ON r.number = w.number
    WHERE w.name <> w.later;
END;
COMMENT ON FUNCTION authz.names_since IS
'What names that the history tells are called at a moment, by the renames that were published since.
- kind: role, feature, meter or plan.
- at: the moment.
- first_id: (result) of rows of the outbox after this id
- last_id: (result) and before this one,
- name: (result) a name that was renamed since,
- later: (result) and what it is called.
Returns: a row for each name and time that it was called so; what is not there has kept its name.
Called by: authz.members_at, authz.workspaces_told and authz.overrides_told.';
REVOKE ALL ON FUNCTION authz.names_since FROM PUBLIC;

CREATE FUNCTION authz.members_at(
    at timestamptz DEFAULT clock_timestamp(),
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT user_id text,
    OUT role text,
    OUT since timestamptz,
    OUT granted_kind text,
    OUT granted_by text,
    OUT event bigint
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan -- of one workspace: by index
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (
        SELECT
            o.workspace_id, o.id, o.at, o.transaction, o.kind, o.actor, o.actor_kind,
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
        SELECT o.workspace_id, o.id, o.at, o.transaction, o.kind, o.actor, o.actor_kind, m.user_id, NULL, NULL, NULL
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
        SELECT DISTINCT ON (o.workspace_id, o.transaction)
            o.workspace_id, o.transaction, o.actor, o.data ->> 'invited_by' AS invited_by
        FROM authz.outbox AS o
        WHERE (members_at.workspace IS NULL OR o.workspace_id = members_at.workspace)
          AND o.at <= members_at.at
          AND o.kind = 'invitation.accepted'
        ORDER BY o.workspace_id, o.transaction
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
        ON i.workspace_id = l.workspace_id AND i.transaction = l.transaction AND i.actor = l.user_id
    LEFT JOIN authz.names_since('role', members_at.at) AS n
        ON n.name = l.role AND l.id > n.first_id AND l.id < n.last_id
    WHERE l.role IS NOT NULL AND (g.id IS NULL OR l.id > g.id)
    ORDER BY l.workspace_id, l.user_id COLLATE "C";
END;
$$;
COMMENT ON FUNCTION authz.members_at IS
'Who was in which workspace, as the history tells it. A role is named as it was at that moment. Whether the user
existed (authz.is_somebody) is not looked at.
- at: the moment; now unless given.
- workspace: a workspace; NULL: all.
- workspace_id: (result) the workspace.
- user_id: (result) the user.
- role: (result) their role.
- since: (result) when they got it.
- granted_kind: (result) who gave it: user, caller or sql; found: nobody saw it being given (authz.find_unrecorded).
- granted_by: (result) their name: of who came by an invitation, who invited them. NULL where it was found.
- event: (result) the id of the row of the outbox that tells it.
Returns: a row for each membership, by workspace and user.
Called by: authz_audit; authz.unaccounted, authz.find_unrecorded and authz.prune_history.';
REVOKE ALL ON FUNCTION authz.members_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.members_at TO authz_audit;

CREATE FUNCTION authz.workspaces_told(
    at timestamptz,
    workspace uuid,
    OUT workspace_id uuid,
    OUT event bigint,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT reason text,
    OUT subscribed_at timestamptz,
    OUT deleted boolean
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (
        SELECT o.workspace_id, o.id, o.kind, o.data, o.kind IN ('workspace.created', 'workspace.found') AS is_whole
        FROM authz.outbox AS o
        WHERE (workspaces_told.workspace IS NULL OR o.workspace_id = workspaces_told.workspace)
          AND o.at <= workspaces_told.at
          AND o.kind LIKE 'workspace.%'
    ),
    base AS (
        SELECT
            t.workspace_id,
            max(t.id) FILTER (WHERE t.is_whole) AS id,
            max(t.id) FILTER (WHERE t.kind IN ('workspace.purged', 'workspace.lost')) AS gone
        FROM told AS t
        GROUP BY t.workspace_id
    ),
    now AS (
        SELECT
            t.workspace_id,
            max(t.id) AS event,
            (array_agg(CASE WHEN t.is_whole THEN t.data ->> 'slug' ELSE t.data ->> 'to' END ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind = 'workspace.slug_changed'))[1] AS slug,
            (array_agg(CASE WHEN t.is_whole THEN t.data ->> 'name' ELSE t.data ->> 'to' END ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind = 'workspace.renamed'))[1] AS name,
            (array_agg(CASE WHEN t.is_whole THEN t.data ->> 'plan' ELSE t.data ->> 'to' END ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind = 'workspace.plan_changed'))[1] AS plan,
            max(t.id) FILTER (WHERE t.is_whole OR t.kind = 'workspace.plan_changed') AS plan_event,
            (array_agg(CASE WHEN t.is_whole THEN COALESCE(t.data ->> 'status', 'active') ELSE t.data ->> 'to' END
                ORDER BY t.id DESC) FILTER (WHERE t.is_whole OR t.kind = 'workspace.status_changed'))[1] AS status,
            (array_agg(
                CASE WHEN t.kind = 'workspace.changed' THEN t.data #>> '{reason,to}' ELSE t.data ->> 'reason' END
                ORDER BY t.id DESC
            ) FILTER (
                WHERE t.is_whole OR t.kind = 'workspace.status_changed'
                    OR t.kind = 'workspace.changed' AND t.data ? 'reason'
            ))[1] AS reason,
            (array_agg(
                CASE WHEN t.is_whole THEN t.data ->> 'subscribed_at' ELSE t.data ->> 'to' END ORDER BY t.id DESC
            )   FILTER (WHERE t.is_whole OR t.kind = 'workspace.anchor_changed'))[1] AS subscribed_at,
            (array_agg(t.kind = 'workspace.deleted' OR t.is_whole AND t.data ? 'deleted' ORDER BY t.id DESC)
                FILTER (WHERE t.is_whole OR t.kind IN ('workspace.deleted', 'workspace.restored')))[1] AS deleted
        FROM told AS t
        JOIN base AS b ON b.workspace_id = t.workspace_id AND t.id >= b.id AND (b.gone IS NULL OR b.gone < b.id)
        GROUP BY t.workspace_id
    )
    SELECT
        w.workspace_id, w.event, w.slug, w.name, COALESCE(n.later, w.plan), w.status, w.reason,
        w.subscribed_at::timestamptz, w.deleted
    FROM now AS w
    LEFT JOIN authz.names_since('plan', workspaces_told.at) AS n
        ON n.name = w.plan AND w.plan_event > n.first_id AND w.plan_event < n.last_id;
END;
$$;
COMMENT ON FUNCTION authz.workspaces_told IS
'What the history tells of workspaces at a moment, deleted ones too.
- at: the moment.
- workspace: a workspace; NULL: all.
- workspace_id: (result) the workspace.
- event: (result) the id of the last row about the workspace itself.
- slug: (result) its slug.
- name: (result) its name.
- plan: (result) its plan.
- status: (result) active or suspended.
- reason: (result) why.
- subscribed_at: (result) where its months begin. NULL: rows of before this was recorded do not tell it.
- deleted: (result) whether it was deleted.
Returns: a row for each workspace that was there.
Called by: authz.workspaces_at, authz.unaccounted, authz.find_unrecorded and authz.prune_history.';
REVOKE ALL ON FUNCTION authz.workspaces_told FROM PUBLIC;

CREATE FUNCTION authz.overrides_told(
    at timestamptz,
    workspace uuid,
    OUT workspace_id uuid,
    OUT kind text,
    OUT name text,
    OUT value jsonb,
    OUT expires_at timestamptz,
    OUT reason text,
    OUT event bigint
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (
        SELECT o.workspace_id, o.id, o.data, o.kind = 'override.set' AS is_set
        FROM authz.outbox AS o
        WHERE (overrides_told.workspace IS NULL OR o.workspace_id = overrides_told.workspace)
          AND o.at <= overrides_told.at
          AND o.kind IN ('override.set', 'override.removed')
        UNION ALL
        SELECT o.workspace_id, o.id, f.override, true
        FROM authz.outbox AS o
        CROSS JOIN LATERAL jsonb_array_elements(o.data -> 'overrides') AS f (override)
        WHERE (overrides_told.workspace IS NULL OR o.workspace_id = overrides_told.workspace)
          AND o.at <= overrides_told.at
          AND o.kind = 'workspace.found'
    ),
    base AS (
        SELECT o.workspace_id, max(o.id) AS id
        FROM authz.outbox AS o
        WHERE (overrides_told.workspace IS NULL OR o.workspace_id = overrides_told.workspace)
          AND o.at <= overrides_told.at
          AND o.kind IN ('workspace.created', 'workspace.found', 'workspace.purged', 'workspace.lost')
        GROUP BY o.workspace_id
    ),
    renamed AS (
        SELECT 'feature' AS kind, n.* FROM authz.names_since('feature', overrides_told.at) AS n
        UNION ALL
        SELECT 'limit', n.* FROM authz.names_since('meter', overrides_told.at) AS n
    ),
    named AS (
        SELECT
            t.workspace_id, t.id, t.data, t.is_set, t.data ->> 'of' AS kind,
            COALESCE(r.later, t.data ->> 'name') AS name
        FROM told AS t
        LEFT JOIN renamed AS r
            ON r.kind = t.data ->> 'of' AND r.name = t.data ->> 'name' AND t.id > r.first_id AND t.id < r.last_id
    ),
    last AS (
        SELECT DISTINCT ON (t.workspace_id, t.kind, t.name) t.*
        FROM named AS t
        ORDER BY t.workspace_id, t.kind, t.name, t.id DESC, t.is_set -- two that became one
    )
    SELECT
        l.workspace_id, l.kind, l.name, l.data -> 'value', (l.data ->> 'expires_at')::timestamptz,
        l.data ->> 'reason', l.id
    FROM last AS l
    LEFT JOIN base AS b ON b.workspace_id = l.workspace_id
    WHERE l.is_set AND (b.id IS NULL OR l.id >= b.id);
END;
$$;
COMMENT ON FUNCTION authz.overrides_told IS
'The overrides that the history tells of at a moment, those that had expired too.
- at: the moment.
- workspace: a workspace; NULL: all.
- workspace_id: (result) the workspace.
- kind: (result) feature or limit.
- name: (result) the feature or the meter.
- value: (result) true, false, a number or "unlimited".
- expires_at: (result) when it ends. NULL: never.
- reason: (result) why it was given. NULL: nobody said.
- event: (result) the id of the row of the outbox that tells it.
Returns: a row for each override.
Called by: authz.workspaces_at, authz.unaccounted, authz.find_unrecorded and authz.prune_history.';
REVOKE ALL ON FUNCTION authz.overrides_told FROM PUBLIC;

CREATE FUNCTION authz.workspaces_at(
    at timestamptz DEFAULT clock_timestamp(),
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT features jsonb,
    OUT limits jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        w.workspace_id, w.slug, w.name, w.plan, w.status,
        COALESCE(o.features, '{}'), COALESCE(o.limits, '{}')
    FROM authz.workspaces_told(workspaces_at.at, workspaces_at.workspace) AS w
    LEFT JOIN (
        SELECT
            t.workspace_id,
            jsonb_object_agg(t.name, t.value) FILTER (WHERE t.kind = 'feature') AS features,
            jsonb_object_agg(t.name, NULLIF(t.value, '"unlimited"')) FILTER (WHERE t.kind = 'limit') AS limits
        FROM authz.overrides_told(workspaces_at.at, workspaces_at.workspace) AS t
        WHERE t.expires_at IS NULL OR t.expires_at > workspaces_at.at
        GROUP BY t.workspace_id
    ) AS o ON o.workspace_id = w.workspace_id
    WHERE NOT w.deleted
    ORDER BY w.workspace_id;
END;
$$;
COMMENT ON FUNCTION authz.workspaces_at IS
'The workspaces as the facts told of them at a moment, as the history tells it. Names are those of that moment.
- at: the moment; now unless given.
- workspace: a workspace; NULL: all.
- workspace_id: (result) the workspace.
- slug: (result) its slug.
- name: (result) its name.
- plan: (result) its plan.
- status: (result) active or suspended.
- features: (result) {feature: true or false} of the overrides that held.
- limits: (result) {meter: limit, or null for unlimited} of the overrides that held.
Returns: a row for each workspace that was there and not deleted, by workspace.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.workspaces_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.workspaces_at TO authz_audit;

CREATE FUNCTION authz.workspaces_called(
    slug text,
    OUT workspace_id uuid,
    OUT since timestamptz,
    OUT until timestamptz,
    OUT created_at timestamptz,
    OUT deleted_at timestamptz
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (
        SELECT
            o.workspace_id, o.id, o.at,
            CASE
                WHEN o.kind IN ('workspace.created', 'workspace.found') THEN o.data ->> 'slug'
                WHEN o.kind = 'workspace.slug_changed' THEN o.data ->> 'to'
            END AS slug
        FROM authz.outbox AS o
        WHERE o.kind IN (
            'workspace.created', 'workspace.found', 'workspace.slug_changed', 'workspace.purged', 'workspace.lost'
        )
    ),
    called AS (
        SELECT t.*, lead(t.at) OVER (PARTITION BY t.workspace_id ORDER BY t.id) AS until FROM told AS t
    ),
    own AS (
        SELECT
            c.workspace_id,
            min(c.at) AS since,
            CASE WHEN bool_or(c.until IS NULL) THEN NULL ELSE max(c.until) END AS until
        FROM called AS c
        WHERE c.slug = workspaces_called.slug
        GROUP BY c.workspace_id
    )
    SELECT
        w.workspace_id, w.since, w.until,
        (SELECT min(o.at) FROM authz.outbox AS o
            WHERE o.workspace_id = w.workspace_id AND o.kind IN ('workspace.created', 'workspace.found')),
        (SELECT o.at FROM authz.outbox AS o
            WHERE o.workspace_id = w.workspace_id
              AND o.kind IN ('workspace.deleted', 'workspace.purged', 'workspace.lost')
              AND NOT EXISTS (
                  SELECT FROM authz.outbox AS r
                  WHERE r.workspace_id = o.workspace_id
                    AND r.id > o.id
                    AND r.kind IN ('workspace.restored', 'workspace.created', 'workspace.found')
              )
            ORDER BY o.id LIMIT 1)
    FROM own AS w
    ORDER BY w.since, w.workspace_id;
END;
$$;
COMMENT ON FUNCTION authz.workspaces_called IS
'The workspaces that had a slug at any time.
- slug: the slug.
- workspace_id: (result) the workspace.
- since: (result) when it was first called so.
- until: (result) when it was last called so. NULL: it still is.
- created_at: (result) since when the workspace is known.
- deleted_at: (result) when it was deleted, and not restored. NULL: it is there.
Returns: a row for each workspace, by since.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.workspaces_called FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.workspaces_called TO authz_audit;

CREATE FUNCTION authz.not_understood(at timestamptz DEFAULT clock_timestamp(), workspace uuid DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN (
        SELECT count(*)
        FROM authz.outbox AS o
        WHERE (not_understood.workspace IS NULL OR o.workspace_id = not_understood.workspace)
          AND o.at <= not_understood.at
          AND o.kind NOT IN (
              'workspace.created', 'workspace.renamed', 'workspace.slug_changed', 'workspace.plan_changed',
              'workspace.status_changed', 'workspace.anchor_changed', 'workspace.changed', 'workspace.deleted',
              'workspace.restored', 'workspace.purged', 'workspace.found', 'workspace.lost',
              'member.joined', 'member.left', 'member.removed', 'member.role_changed', 'member.changed',
              'member.found', 'member.lost',
              'invitation.created', 'invitation.accepted', 'invitation.revoked', 'invitation.replaced',
              'invitation.voided', 'override.set', 'override.removed',
              'names.changed', 'catalog.changed', 'history.began', 'history.pruned'
          )
    );
END;
$$;
COMMENT ON FUNCTION authz.not_understood IS
'How many rows of the outbox are of a kind that authz.members_at and authz.workspaces_at do not know, and leave out.
- at: up to which moment; now unless given.
- workspace: of a workspace; NULL: of all.
Returns: the number.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.not_understood FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.not_understood TO authz_audit;

CREATE FUNCTION authz.unaccounted(
    OUT workspace_id uuid, OUT workspace text, OUT what text, OUT name text, OUT recorded jsonb, OUT stored jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (SELECT t.* FROM authz.workspaces_told('infinity', NULL) AS t),
    differing AS (
        SELECT COALESCE(h.workspace_id, m.workspace_id) AS workspace_id, 'member' AS what,
            COALESCE(h.user_id, m.user_id) AS name, to_jsonb(h.role) AS recorded, to_jsonb(m.role) AS stored
        FROM authz.members_at('infinity') AS h
        FULL JOIN authz.workspace_memberships AS m ON m.workspace_id = h.workspace_id AND m.user_id = h.user_id
        WHERE h.role IS DISTINCT FROM m.role
        UNION ALL
        SELECT COALESCE(h.workspace_id, w.id), 'workspace', NULL, to_jsonb(h.slug), to_jsonb(w.slug)
        FROM told AS h
        FULL JOIN authz.workspaces AS w ON w.id = h.workspace_id
        WHERE h.workspace_id IS NULL OR w.id IS NULL
        UNION ALL
        SELECT w.id, v.what, NULL, v.recorded, v.stored
        FROM told AS h
        JOIN authz.workspaces AS w ON w.id = h.workspace_id
        CROSS JOIN LATERAL (VALUES
            ('slug', to_jsonb(h.slug), to_jsonb(w.slug)),
            ('name', to_jsonb(h.name), to_jsonb(w.name)),
            ('plan', to_jsonb(h.plan), to_jsonb(w.plan_tier)),
            ('status', to_jsonb(h.status), to_jsonb(w.status)),
            -- Rows of before it was recorded do not tell it.
            ('anchor', COALESCE(to_jsonb(h.subscribed_at), to_jsonb(w.subscribed_at)), to_jsonb(w.subscribed_at)),
            ('deleted', to_jsonb(h.deleted), to_jsonb(w.deleted_at IS NOT NULL))
        ) AS v (what, recorded, stored)
        WHERE v.recorded IS DISTINCT FROM v.stored
        UNION ALL
        SELECT COALESCE(h.workspace_id, f.workspace_id), COALESCE(h.kind, f.kind), COALESCE(h.name, f.name),
            CASE WHEN h.name IS NOT NULL THEN jsonb_build_object('value', h.value, 'expires_at', h.expires_at) END,
            CASE WHEN f.name IS NOT NULL THEN jsonb_build_object('value', f.value, 'expires_at', f.expires_at) END
        FROM authz.overrides_told('infinity', NULL) AS h
        FULL JOIN (
            SELECT f.workspace_id, f.kind, f.name, authz.override_document(f) -> 'value' AS value, f.expires_at
            FROM authz.workspace_features AS f
        ) AS f ON f.workspace_id = h.workspace_id AND f.kind = h.kind AND f.name = h.name
        WHERE (h.value, h.expires_at, h.name) IS DISTINCT FROM (f.value, f.expires_at, f.name)
    )
    SELECT d.workspace_id, COALESCE(w.slug, h.slug), d.what, d.name, d.recorded, d.stored
    FROM differing AS d
    LEFT JOIN authz.workspaces AS w ON w.id = d.workspace_id
    LEFT JOIN told AS h ON h.workspace_id = d.workspace_id
    ORDER BY d.workspace_id, d.what, d.name;
END;
$$;
COMMENT ON FUNCTION authz.unaccounted IS
'Where the tables and the history differ: what was changed without being recorded. It takes seconds for some hundred
thousand members.
- workspace_id: (result) the workspace.
- workspace: (result) its slug.
- what: (result) member, workspace, slug, name, plan, status, anchor, deleted, feature or limit.
- name: (result) of a member the user, of an override the feature or meter; else NULL.
- recorded: (result) what the history tells: a role, a text, or {value, expires_at}. NULL: nothing.
- stored: (result) what the table has. NULL: nothing.
Returns: a row for each difference, by workspace.
Called by: authz_audit; authz.find_unrecorded.';
REVOKE ALL ON FUNCTION authz.unaccounted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.unaccounted TO authz_audit;

CREATE FUNCTION authz.find_unrecorded()
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    found bigint;
BEGIN
    -- Nobody changes them meanwhile; who reads waits for nothing.
    LOCK TABLE authz.workspaces, authz.workspace_memberships, authz.workspace_features IN SHARE ROW EXCLUSIVE MODE;
    WITH differing AS MATERIALIZED (SELECT u.* FROM authz.unaccounted() AS u),
    rows AS (
        SELECT DISTINCT
            d.workspace_id, 1 AS place, NULL AS name,
            CASE WHEN w.id IS NULL THEN 'workspace.lost' ELSE 'workspace.found' END AS kind,
            CASE WHEN w.id IS NULL THEN jsonb_build_object('slug', d.workspace) ELSE
                authz.workspace_document(w)
                || CASE WHEN w.deleted_at IS NULL THEN '{}' ELSE jsonb_build_object('deleted', w.deleted_at) END
                || jsonb_build_object('overrides', (
                    SELECT COALESCE(jsonb_agg(authz.override_document(f) ORDER BY f.kind, f.name), '[]')
                    FROM authz.workspace_features AS f
                    WHERE f.workspace_id = w.id
                ))
            END AS data
        FROM differing AS d
        LEFT JOIN authz.workspaces AS w ON w.id = d.workspace_id
        WHERE d.what <> 'member'
        UNION ALL
        SELECT d.workspace_id, 2, d.name, CASE WHEN d.stored IS NULL THEN 'member.lost' ELSE 'member.found' END,
            jsonb_build_object('user', d.name, 'role', COALESCE(d.stored, d.recorded))
        FROM differing AS d
        WHERE d.what = 'member'
    )
    INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
    SELECT r.workspace_id, session_user, 'sql', r.kind, r.data FROM rows AS r
    ORDER BY r.workspace_id, r.place, r.name COLLATE "C";
    GET DIAGNOSTICS found = ROW_COUNT;
    IF NOT EXISTS (
        SELECT FROM authz.outbox AS o
        WHERE o.workspace_id = '00000000-0000-0000-0000-000000000000' AND o.kind = 'history.began'
    ) THEN
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        VALUES (
            '00000000-0000-0000-0000-000000000000', session_user, 'sql', 'history.began',
            jsonb_build_object('found', found)
        );
    END IF;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION authz.find_unrecorded IS
'Records what nobody recorded, so that from then on the history and the tables agree: member.found, member.lost,
workspace.found (all that there is of it but its members) and workspace.lost; the first time history.began too. What
was found is never shown as granted. Changes of workspaces wait until the transaction ends.
Returns: how many rows were found or lost.
Called by: the owner, in sidecar migrate once, and by hand.';
REVOKE ALL ON FUNCTION authz.find_unrecorded FROM PUBLIC;

CREATE FUNCTION authz.known_since()
RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN GREATEST(
        (
            SELECT max((o.data ->> 'before')::timestamptz) FROM authz.outbox AS o
            WHERE o.workspace_id = '00000000-0000-0000-0000-000000000000' AND o.kind = 'history.pruned'
        ),
        (
            SELECT o.at FROM authz.outbox AS o
            WHERE o.workspace_id = '00000000-0000-0000-0000-000000000000'
              AND o.kind = 'history.began'
              AND o.data -> 'found' <> '0'
        ),
        (SELECT min(o.at) FROM authz.outbox AS o)
    );
END;
$$;
COMMENT ON FUNCTION authz.known_since IS
'The first moment that the history tells everything of: its first row, or when it first was made to agree with what
was there before it, or up to when it was pruned.
Returns: the moment; NULL if nothing was ever recorded.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.known_since FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.known_since TO authz_audit;

CREATE FUNCTION authz.prune_history(before timestamptz)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
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
            SELECT encode(sha256(string_agg(authz.outbox_hash(o), '' ORDER BY o.transaction, o.id)), 'hex')
            FROM authz.outbox AS o
            WHERE o.id IN (SELECT g.id FROM gone AS g)
        ),
        (
            SELECT array_agg(ROW(
                k.id, before, pg_current_xact_id(), k.workspace_id, session_user, 'sql', k.kind, k.data, NULL
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
COMMENT ON FUNCTION authz.prune_history IS
'Deletes rows of the outbox, and writes what then still stood as member.found and workspace.found, at that moment; so
the history tells the same from then on, but not who granted it. A row history.pruned tells of it.
- before: rows of before this moment are deleted.
Returns: how many rows were deleted.
Raises: 22023 if the moment has not been yet.
Called by: the owner, in sidecar tidy and by hand.';
REVOKE ALL ON FUNCTION authz.prune_history FROM PUBLIC;

CREATE FUNCTION authz.history(
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    workspace uuid DEFAULT NULL,
    kinds text[] DEFAULT NULL,
    after bigint DEFAULT 0,
    OUT id bigint,
    OUT at timestamptz,
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
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
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
            WHERE i.transaction = o.transaction
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
COMMENT ON FUNCTION authz.history IS
'A page of the outbox, 1,000 rows: the next one begins after the id of the last row.
- since: rows of this moment or later; NULL: from the beginning.
- until: rows of before this moment; NULL: to the end.
- workspace: of a workspace; NULL: of all.
- kinds: of these kinds; NULL: of all.
- after: rows behind this id.
- id: (result) the row''s id.
- at: (result) when it was written.
- transaction: (result) by which transaction.
- workspace_id: (result) the workspace; the nil UUID: of none.
- slug: (result) the workspace''s slug now, or its last. NULL: it is not known.
- kind: (result) what happened.
- user_id: (result) the user whom it happened to. NULL: nobody.
- data: (result) its particulars, in the names of then.
- actor: (result) who did it.
- actor_kind: (result) user, caller or sql.
- granted_by: (result) of who joined by an invitation: who invited them. Else NULL.
- decision_id: (result) the decision that allowed it. NULL: none is known.
Returns: the rows, by id.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.history FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.history TO authz_audit;

CREATE FUNCTION authz.effects(
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    OUT decision_id text,
    OUT at timestamptz,
    OUT workspace_id uuid,
    OUT id bigint,
    OUT kind text,
    OUT user_id text,
    OUT action text,
    OUT meter text,
    OUT amount bigint
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT l.decision_id, l.at, l.workspace_id, l.id, l.kind, l.user_id, l.action, l.meter, l.amount
    FROM authz.usage_ledger AS l
    WHERE l.decision_id IS NOT NULL
      AND (effects.since IS NULL OR l.at >= effects.since)
      AND (effects.until IS NULL OR l.at < effects.until);
END;
$$;
COMMENT ON FUNCTION authz.effects IS
'What was taken of quotas and given back by decisions, in no order.
- since: lines of this moment or later; NULL: from the beginning.
- until: lines of before this moment; NULL: to the end.
- decision_id: (result) the decision, as authz.usage_ledger has it.
- at: (result) when.
- workspace_id: (result) the workspace.
- id: (result) the line''s id.
- kind: (result) consume, commit or release.
- user_id: (result) who used it. NULL: given back.
- action: (result) for which action. NULL: given back.
- meter: (result) the meter.
- amount: (result) how much; negative: given back.
Returns: a row for each line of the ledger that has a decision.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.effects FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.effects TO authz_audit;

CREATE FUNCTION authz.publications(
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    OUT id bigint,
    OUT at timestamptz,
    OUT login text,
    OUT revision text,
    OUT catalog text,
    OUT version text
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT p.id, p.at, p.login, p.revision, p.catalog, p.version
    FROM authz.policy_history AS p
    WHERE (publications.since IS NULL OR p.at >= publications.since)
      AND (publications.until IS NULL OR p.at < publications.until)
    ORDER BY p.id;
END;
$$;
COMMENT ON FUNCTION authz.publications IS
'What was published in a time, without the files.
- since: in this moment or later; NULL: from the beginning.
- until: before this moment; NULL: to the end.
- id: (result) rises with each publication.
- at: (result) when.
- login: (result) by which database login.
- revision: (result) the policy revision.
- catalog: (result) SHA-256 of plans.yaml.
- version: (result) the version of the sidecar that published it.
Returns: a row for each publication, by id.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.publications FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.publications TO authz_audit;

CREATE FUNCTION authz.published(
    at timestamptz DEFAULT clock_timestamp(),
    OUT id bigint,
    OUT published_at timestamptz,
    OUT login text,
    OUT revision text,
    OUT catalog text,
    OUT version text
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT p.id, p.at, p.login, p.revision, p.catalog, p.version
    FROM authz.policy_history AS p
    WHERE p.at <= published.at
    ORDER BY p.id DESC
    LIMIT 1;
END;
$$;
COMMENT ON FUNCTION authz.published IS
'What was published last by a moment, without the files.
- at: the moment; now unless given.
- id: (result) rises with each publication.
- published_at: (result) when.
- login: (result) by which database login.
- revision: (result) the policy revision.
- catalog: (result) SHA-256 of plans.yaml.
- version: (result) the version of the sidecar that published it.
Returns: one row; none if nothing was published by then.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.published FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.published TO authz_audit;

CREATE FUNCTION authz.kept(
    revision text,
    OUT id bigint,
    OUT published_at timestamptz,
    OUT login text,
    OUT catalog text,
    OUT version text,
    OUT plans bytea,
    OUT bundle bytea
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT p.id, p.at, p.login, p.catalog, p.version, p.plans, p.bundle
    FROM authz.policy_history AS p
    WHERE p.revision = kept.revision
    ORDER BY p.id DESC;
END;
$$;
COMMENT ON FUNCTION authz.kept IS
'The files of a revision, as each publication of it left them: comments and titles of plans.yaml may differ.
- revision: the policy revision.
- id: (result) rises with each publication.
- published_at: (result) when.
- login: (result) by which database login.
- catalog: (result) SHA-256 of plans.
- version: (result) the version of the sidecar that published it.
- plans: (result) plans.yaml.
- bundle: (result) the bundle, as sidecar compile -o writes it.
Returns: a row for each publication, the last one first; none if it was never published.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.kept FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.kept TO authz_audit;

CREATE FUNCTION authz.people(
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT deleted_at timestamptz,
    OUT members jsonb,
    OUT invitations jsonb,
    OUT overrides jsonb,
    OUT limits jsonb,
    OUT usage jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT
        w.id, w.slug, w.name, w.plan_tier, w.status, w.deleted_at,
        COALESCE(m.members, '[]'), COALESCE(i.invitations, '[]'), COALESCE(f.overrides, '[]'),
        COALESCE(f.limits, '{}'), COALESCE(u.usage, '{}')
    FROM authz.workspaces AS w
    LEFT JOIN (
        SELECT m.workspace_id, jsonb_agg(
            authz.member_document(m)::jsonb || jsonb_build_object('exists', authz.is_somebody(m.user_id))
            ORDER BY m.user_id
        ) AS members
        FROM authz.workspace_memberships AS m
        WHERE people.workspace IS NULL OR m.workspace_id = people.workspace
        GROUP BY m.workspace_id
    ) AS m ON m.workspace_id = w.id
    LEFT JOIN (
        SELECT
            i.workspace_id,
            jsonb_agg(authz.invitation_document(i) ORDER BY authz.email_key(i.email)) AS invitations
        FROM authz.workspace_invitations AS i
        WHERE (people.workspace IS NULL OR i.workspace_id = people.workspace) AND i.expires_at > statement_timestamp()
        GROUP BY i.workspace_id
    ) AS i ON i.workspace_id = w.id
    LEFT JOIN (
        SELECT
            f.workspace_id,
            jsonb_agg(
                authz.override_document(f) || jsonb_build_object('changed_at', f.changed_at) ORDER BY f.kind, f.name
            ) AS overrides,
            jsonb_object_agg(f.name, f.at_most) FILTER (WHERE f.kind = 'limit') AS limits
        FROM authz.workspace_features AS f
        WHERE (people.workspace IS NULL OR f.workspace_id = people.workspace)
          AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ) AS f ON f.workspace_id = w.id
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(t.name, CASE
            WHEN t.kind = 'members' THEN w.member_count + jsonb_array_length(COALESCE(i.invitations, '[]'))
            WHEN c.period_start >= p.starts THEN c.used
            ELSE 0
        END) AS usage
        FROM authz.meters AS t
        LEFT JOIN authz.workspace_usage AS c ON c.workspace_id = w.id AND c.meter = t.name
        CROSS JOIN LATERAL authz.period_at(
            t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
        ) AS p
        WHERE t.kind <> 'owned' AND position('#' IN t.name) = 0
    ) AS u ON true
    WHERE (people.workspace IS NULL OR w.id = people.workspace)
      AND (w.deleted_at IS NULL OR m.members IS NOT NULL)
    ORDER BY w.slug;
END;
$$;
COMMENT ON FUNCTION authz.people IS
'Who is in a workspace, who is invited, and what it has instead of its plan.
- workspace: a workspace; NULL: all that are not deleted, or have members all the same.
- workspace_id: (result) the workspace.
- slug: (result) its slug.
- name: (result) its name.
- plan: (result) its plan.
- status: (result) active or suspended.
- deleted_at: (result) when it was deleted. NULL: it is not.
- members: (result) a list of {user, role, email, joined_at, exists (authz.is_somebody)}, by user.
- invitations: (result) the open ones, as authz.invitation_document.
- overrides: (result) those that hold: a list of {of, name, value, expires_at, reason, changed_at}.
- limits: (result) {meter: limit, or null for unlimited} of the overrides that hold.
- usage: (result) {meter: used} in the current period, without what is reserved and without meters of a user.
Returns: a row for each workspace, by slug.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.people FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.people TO authz_audit;

CREATE FUNCTION authz.audience(
    OUT plan text, OUT status text, OUT role text, OUT features jsonb, OUT workspaces bigint, OUT people bigint
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH overridden AS MATERIALIZED (
        SELECT f.workspace_id, jsonb_object_agg(f.name, f.enabled) AS features
        FROM authz.workspace_features AS f
        WHERE f.kind = 'feature' AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ),
    grouped AS (
        SELECT m.workspace_id, m.role, count(*) AS people
        FROM authz.workspace_memberships AS m
        WHERE authz.is_somebody(m.user_id)
        GROUP BY m.workspace_id, m.role
    )
    SELECT
        w.plan_tier, w.status, g.role, COALESCE(o.features, '{}'), count(*), sum(g.people)::bigint
    FROM grouped AS g
    JOIN authz.workspaces AS w ON w.id = g.workspace_id
    LEFT JOIN overridden AS o ON o.workspace_id = w.id
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4;
END;
$$;
COMMENT ON FUNCTION authz.audience IS
'How many people there are of each kind that policies tell apart now.
- plan: (result) their workspace''s plan.
- status: (result) its status.
- role: (result) their role.
- features: (result) {feature: true or false} of its overrides that hold.
- workspaces: (result) how many workspaces have such people.
- people: (result) how many memberships; who is in two workspaces counts twice.
Returns: a row for each kind.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.audience FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.audience TO authz_audit;

CREATE FUNCTION authz.audience_of(
    plan text,
    status text,
    role text,
    features jsonb,
    at_most bigint DEFAULT 20,
    OUT workspace_id uuid,
    OUT slug text,
    OUT user_id text
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT w.id, w.slug, m.user_id
    FROM authz.workspaces AS w
    JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id AND m.role = audience_of.role
    LEFT JOIN (
        SELECT f.workspace_id, jsonb_object_agg(f.name, f.enabled) AS features
        FROM authz.workspace_features AS f
        WHERE f.kind = 'feature' AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ) AS o ON o.workspace_id = w.id
    WHERE w.plan_tier = audience_of.plan
      AND w.status = audience_of.status
      AND COALESCE(o.features, '{}') = audience_of.features
      AND authz.is_somebody(m.user_id)
    ORDER BY w.slug, m.user_id
    LIMIT audience_of.at_most;
END;
$$;
COMMENT ON FUNCTION authz.audience_of IS
'Who the people of one row of authz.audience are.
- plan: their workspace''s plan.
- status: its status.
- role: their role.
- features: its overrides of features.
- at_most: how many people; NULL: all.
- workspace_id: (result) the workspace.
- slug: (result) its slug.
- user_id: (result) the user.
Returns: a row for each membership, by slug and user.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.audience_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.audience_of TO authz_audit;

CREATE FUNCTION authz.over_limits(
    limits jsonb,
    OUT workspace_id uuid,
    OUT slug text,
    OUT plan text,
    OUT meter text,
    OUT at_most bigint,
    OUT used bigint,
    OUT over bigint
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT p.key AS plan, t.name AS meter, t.kind, t.per, t.anchor, m.value::bigint AS at_most
        FROM jsonb_each(limits) AS p
        CROSS JOIN LATERAL jsonb_each_text(p.value) AS m
        JOIN authz.meters AS t ON t.name = m.key
        WHERE m.value IS NOT NULL
    ),
    owned AS MATERIALIZED (
        SELECT (array_agg(w.id ORDER BY w.created_at, w.id))[1] AS workspace_id, count(*) AS used
        FROM authz.workspace_memberships AS m
        JOIN authz.workspaces AS w ON w.id = m.workspace_id AND w.deleted_at IS NULL
        WHERE m.role = authz.owner_role() AND EXISTS (SELECT FROM asked AS a WHERE a.kind = 'owned')
        GROUP BY m.user_id
    ),
    counted AS (
        SELECT w.id, w.slug, w.plan_tier, a.meter, a.at_most, CASE a.kind
            WHEN 'members' THEN w.member_count + authz.open_invitations(w.id, statement_timestamp())
            WHEN 'owned' THEN (SELECT o.used FROM owned AS o WHERE o.workspace_id = w.id)
            ELSE (
                SELECT u.used
                FROM authz.workspace_usage AS u
                CROSS JOIN LATERAL authz.period_at(
                    a.per, authz.anchor_of(a.anchor, w.subscribed_at), statement_timestamp()
                ) AS p
                WHERE u.workspace_id = w.id AND u.meter = a.meter AND u.period_start >= p.starts
            )
        END AS used
        FROM asked AS a
        JOIN authz.workspaces AS w ON w.plan_tier = a.plan AND w.deleted_at IS NULL
        WHERE NOT EXISTS (
            SELECT FROM authz.workspace_features AS f
            WHERE f.workspace_id = w.id
              AND f.kind = 'limit'
              AND f.name = a.meter
              AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        )
    )
    SELECT c.id, c.slug, c.plan_tier, c.meter, c.at_most, c.used, c.used - c.at_most
    FROM counted AS c
    WHERE c.used > c.at_most
    ORDER BY c.plan_tier, c.meter, c.slug;
END;
$$;
COMMENT ON FUNCTION authz.over_limits IS
'The workspaces that have used more, in the current period, than plans would allow. Overridden limits are left out.
- limits: {plan: {meter: limit, or null for unlimited}}.
- workspace_id: (result) the workspace.
- slug: (result) its slug.
- plan: (result) its plan.
- meter: (result) the meter.
- at_most: (result) the limit.
- used: (result) how much was used, without what is reserved.
- over: (result) how much that is too much.
Returns: a row for each workspace and meter, by plan, meter and slug.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.over_limits FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.over_limits TO authz_audit;

CREATE FUNCTION authz.anchor_log(writer text, number bigint, head bytea, ended boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO authz.log_anchors (writer, number, head, ended)
    VALUES (anchor_log.writer, anchor_log.number, anchor_log.head, anchor_log.ended)
    ON CONFLICT ON CONSTRAINT log_anchors_pkey DO NOTHING;
    IF NOT FOUND AND NOT EXISTS (
        SELECT FROM authz.log_anchors AS a
        WHERE a.writer = anchor_log.writer AND a.number = anchor_log.number AND a.head = anchor_log.head
    ) THEN
        RAISE EXCEPTION 'line % of % has another head', number, writer USING ERRCODE = 'AZ003';
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.anchor_log IS
'Keeps the head of a decision log. It only inserts; the same head again changes nothing.
- writer: the writer of the log.
- number: the number of the line.
- head: its seal, 32 bytes.
- ended: whether it is the writer''s last line.
Returns: nothing.
Raises: AZ003 if another head of this line is kept; 23514 if the head has not 32 bytes.
Called by: authz_sidecar, every few seconds.';
REVOKE ALL ON FUNCTION authz.anchor_log FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.anchor_log TO authz_sidecar;

CREATE FUNCTION authz.log_removed(writer text)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    marked bigint;
BEGIN
    UPDATE authz.log_anchors AS a SET removed_at = clock_timestamp()
    WHERE a.writer = log_removed.writer AND a.removed_at IS NULL;
    GET DIAGNOSTICS marked = ROW_COUNT;
    RETURN marked;
END;
$$;
COMMENT ON FUNCTION authz.log_removed IS
'Notes that the files of a writer are deleted because they are old: they are not missing.
- writer: the writer of the log.
Returns: how many anchors were marked.
Called by: the owner, in sidecar tidy, before it deletes them.';
REVOKE ALL ON FUNCTION authz.log_removed FROM PUBLIC;

CREATE FUNCTION authz.thin_anchors()
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM authz.log_anchors AS a
    WHERE a.at < clock_timestamp() - interval '1 day'
      AND EXISTS (
          SELECT FROM authz.log_anchors AS later
          WHERE later.writer = a.writer
            AND later.number > a.number
            AND date_trunc('hour', later.at, 'UTC') = date_trunc('hour', a.at, 'UTC')
      );
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END;
$$;
COMMENT ON FUNCTION authz.thin_anchors IS
'Deletes anchors that are older than a day, but for the last one of each hour and writer.
Returns: how many were deleted.
Called by: the owner, in sidecar tidy.';
REVOKE ALL ON FUNCTION authz.thin_anchors FROM PUBLIC;

CREATE FUNCTION authz.anchors(
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    after_writer text DEFAULT '',
    after_number bigint DEFAULT 0,
    OUT writer text,
    OUT number bigint,
    OUT head bytea,
    OUT at timestamptz,
    OUT ended boolean,
    OUT removed_at timestamptz
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT a.writer, a.number, a.head, a.at, a.ended, a.removed_at
    FROM authz.log_anchors AS a
    WHERE (a.writer, a.number) > (anchors.after_writer, anchors.after_number)
      AND (anchors.since IS NULL OR EXISTS (
          SELECT FROM authz.log_anchors AS last WHERE last.writer = a.writer AND last.at >= anchors.since
      ))
      AND (anchors.until IS NULL OR EXISTS (
          SELECT FROM authz.log_anchors AS first WHERE first.writer = a.writer AND first.at <= anchors.until
      ))
    ORDER BY a.writer, a.number
    LIMIT 1000;
END;
$$;
COMMENT ON FUNCTION authz.anchors IS
'A page of the heads of decision logs, 1,000 rows: the next one begins after the last row''s writer and number.
- since: all heads of writers that have one of this moment or later; NULL: of all.
- until: all heads of writers that have one of this moment or before; NULL: of all.
- after_writer: rows behind this writer
- after_number: and number.
- writer: (result) the writer of the log.
- number: (result) the number of the line.
- head: (result) its seal.
- at: (result) when it was written here.
- ended: (result) whether it is the writer''s last line.
- removed_at: (result) when the files were deleted because they were old. NULL: they are kept.
Returns: the rows, by writer and number.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.anchors FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.anchors TO authz_audit;

CREATE FUNCTION authz.digest_of(
    after_transaction xid8,
    after_id bigint,
    to_transaction xid8,
    to_id bigint,
    OUT rows bigint,
    OUT sha256 bytea
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT count(*), pg_catalog.sha256(COALESCE(
        string_agg(authz.outbox_hash(o), '' ORDER BY o.transaction, o.id), ''
    ))
    INTO rows, sha256
    FROM authz.outbox AS o
    WHERE (o.transaction, o.id) > (after_transaction, after_id)
      AND (o.transaction, o.id) <= (to_transaction, to_id);
END;
$$;
COMMENT ON FUNCTION authz.digest_of IS
'A part of the outbox as one hash.
- after_transaction: the part begins after this transaction
- after_id: and id,
- to_transaction: and ends with this transaction
- to_id: and id.
- rows: (result) how many rows it has.
- sha256: (result) SHA-256 of their hashes (authz.outbox_hash), in the order of (transaction, id).
Returns: one row.
Called by: authz.seal_history and authz.digests.';
REVOKE ALL ON FUNCTION authz.digest_of FROM PUBLIC;

CREATE FUNCTION authz.seal_history(writer text)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    most CONSTANT bigint := 100000;
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
    made.after_transaction := COALESCE(last.to_transaction, '0');
    made.after_id := COALESCE(last.to_id, 0);
    SELECT p.transaction, p.id, min(p.at) OVER () INTO made.to_transaction, made.to_id, made.first_at
    FROM (
        SELECT o.transaction, o.id, o.at
        FROM authz.outbox AS o
        WHERE (o.transaction, o.id) > (made.after_transaction, made.after_id)
          AND o.transaction < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY o.transaction, o.id
        LIMIT most
    ) AS p
    ORDER BY p.transaction DESC, p.id DESC
    LIMIT 1;
    IF made.to_id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT d.rows, d.sha256 INTO made.rows, made.sha256
    FROM authz.digest_of(made.after_transaction, made.after_id, made.to_transaction, made.to_id) AS d;
    INSERT INTO authz.history_digests AS h
        (writer, after_transaction, after_id, to_transaction, to_id, first_at, rows, sha256)
    VALUES (
        seal_history.writer, made.after_transaction, made.after_id, made.to_transaction, made.to_id, made.first_at,
        made.rows, made.sha256
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
COMMENT ON FUNCTION authz.seal_history IS
'Hashes the rows of the outbox since the last time, up to those that no transaction can come before any more, at most
100,000, and keeps the hash. At most once an hour, unless there were more rows.
- writer: the writer of the decision log, which tells of it in a line of kind history.
Returns: {mark (history_digests.id), at, after: [transaction, id], to: [transaction, id], rows, sha256 (hexadecimal)};
NULL if it was done within the hour, another session is at it, or there are no rows.
Called by: authz_sidecar, each hour.';
REVOKE ALL ON FUNCTION authz.seal_history FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.seal_history TO authz_sidecar;

CREATE FUNCTION authz.digests(
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    OUT id bigint,
    OUT at timestamptz,
    OUT writer text,
    OUT rows bigint,
    OUT sha256 bytea,
    OUT rows_now bigint,
    OUT sha256_now bytea,
    OUT pruned boolean
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
    CROSS JOIN LATERAL authz.digest_of(d.after_transaction, d.after_id, d.to_transaction, d.to_id) AS n
    WHERE (digests.since IS NULL OR d.at >= digests.since)
      AND (digests.until IS NULL OR d.at < digests.until)
    ORDER BY d.id;
END;
$$;
COMMENT ON FUNCTION authz.digests IS
'The hashes of the history that were kept, and what its rows hash to now.
- since: hashes of this moment or later; NULL: from the beginning.
- until: hashes of before this moment; NULL: to the end.
- id: (result) the mark that the line of the decision log names.
- at: (result) when it was hashed.
- writer: (result) the writer of the decision log that was told.
- rows: (result) how many rows it had.
- sha256: (result) their hash then.
- rows_now: (result) how many rows it has.
- sha256_now: (result) their hash now.
- pruned: (result) whether rows of it were pruned, so that the two differ.
Returns: a row for each hash, by id.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.digests FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.digests TO authz_audit;

-- What an auditor asks of now is answered as the sidecar answers it.
GRANT EXECUTE ON FUNCTION
    authz.catalog_revision, authz.names_for, authz.read_as, authz.facts_for, authz.members_of, authz.to_come
    TO authz_audit;
DO $$
DECLARE
    each regprocedure;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'authz.catalog_revision()', 'authz.names_for(text)', 'authz.read_as(bigint)',
        'authz.facts_for(text[], text[], text[])', 'authz.members_of(text, text, integer)',
        'authz.to_come(uuid[], text[])'
    ]::regprocedure[] LOOP
        EXECUTE format('COMMENT ON FUNCTION %s IS %L', each, replace(
            obj_description(each, 'pg_proc'), 'Called by: authz_sidecar', 'Called by: authz_audit, authz_sidecar'
        ));
    END LOOP;
END;
$$;
