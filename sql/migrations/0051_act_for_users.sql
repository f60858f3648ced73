-- A backend may act for a user: the outbox says for whom a change was made and by whose token. A workspace is shown with
-- a page of its members. What a biller says of a workspace that was purged is told apart from what names nothing.

ALTER TABLE authz.outbox ADD COLUMN via text;
ALTER TABLE authz.outbox ALTER COLUMN via SET DEFAULT NULLIF(current_setting('authz.via', true), '');
COMMENT ON COLUMN authz.outbox.via IS
'The name of the caller''s token by which the actor, a user, was acted for. NULL: they acted themselves, or it is no user.';
CREATE INDEX outbox_external_id_idx ON authz.outbox ((data #>> '{external_id,to}')) WHERE kind = 'workspace.changed';
COMMENT ON INDEX authz.outbox_external_id_idx IS 'Finds the workspaces that had an external id at any time.';

DROP FUNCTION authz.acting_as(text, text, text);
CREATE FUNCTION authz.acting_as(actor text, kind text, decision text DEFAULT NULL, via text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM
        set_config('authz.actor', acting_as.actor, true),
        set_config('authz.actor_kind', acting_as.kind, true),
        set_config('authz.decision', COALESCE(acting_as.decision, ''), true),
        set_config('authz.via', COALESCE(acting_as.via, ''), true);
END;
$$;
COMMENT ON FUNCTION authz.acting_as IS
'Says who makes the changes of this transaction, for the outbox. Written in FROM, it runs before what is selected.
- actor: a user id, the name of a caller''s token, or what stands for a database login.
- kind: user, caller or sql.
- decision: the id of the decision that allowed the changes, or of the line of the decision log that tells of them;
NULL: there is none.
- via: the name of the caller''s token by which the user is acted for; NULL: they act themselves.
Returns: nothing.
Called by: authz_sidecar, in each statement that changes something; the owner, in sidecar load.';
REVOKE ALL ON FUNCTION authz.acting_as FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.acting_as TO authz_sidecar;

-- Rows of before have the hash that they had.
CREATE OR REPLACE FUNCTION authz.outbox_hash(entry authz.outbox)
RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN sha256(convert_to((
    CASE WHEN (entry).via IS NULL THEN json_build_array(
        (entry).id,
        to_char((entry).at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        (entry).workspace_id,
        (entry).actor,
        (entry).actor_kind,
        (entry).kind,
        (entry).data,
        (entry).decision_id
    ) ELSE json_build_array(
        (entry).id,
        to_char((entry).at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        (entry).workspace_id,
        (entry).actor,
        (entry).actor_kind,
        (entry).kind,
        (entry).data,
        (entry).decision_id,
        (entry).via
    ) END
)::text, 'UTF8'));
COMMENT ON FUNCTION authz.outbox_hash IS
'A row of the outbox as one hash, the same in each session, after dump and restore, and in each major version.
- entry: the row.
Returns: SHA-256 of the UTF-8 JSON [id, at in UTC, workspace_id, actor, actor_kind, kind, data, decision_id], and via
behind it where there is one.
Called by: authz.prune_history, authz.only_pruned and authz.digest_of.';

-- As before, for a row that has one column more.
CREATE OR REPLACE FUNCTION authz.prune_history(before timestamptz)
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
            SELECT encode(sha256(string_agg(authz.outbox_hash(o), '' ORDER BY o.transaction, o.id)), 'hex')
            FROM authz.outbox AS o
            WHERE o.id IN (SELECT g.id FROM gone AS g)
        ),
        (
            SELECT array_agg(ROW(
                k.id, before, pg_current_xact_id(), k.workspace_id, session_user, 'sql', k.kind, k.data, NULL, NULL
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

CREATE FUNCTION authz.was_purged(workspace text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.outbox AS o
        WHERE o.kind IN ('workspace.purged', 'workspace.lost')
          AND o.workspace_id IN (
              SELECT CASE
                  WHEN workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
                      THEN workspace::uuid
              END
              UNION ALL
              SELECT s.workspace_id FROM authz.outbox AS s
              WHERE s.kind IN ('workspace.created', 'workspace.found', 'workspace.slug_changed')
                AND COALESCE(s.data ->> 'slug', s.data ->> 'to') = was_purged.workspace
              UNION ALL
              SELECT e.workspace_id FROM authz.outbox AS e
              WHERE e.kind = 'workspace.changed'
                AND e.data #>> '{external_id,to}' = substr(was_purged.workspace, 5)
                AND was_purged.workspace LIKE 'ext:%'
          )
    );
END;
$$;
COMMENT ON FUNCTION authz.was_purged IS
'Whether the history knows that a workspace of this name was there, and is gone for good. Of one that is there it says
nothing.
- workspace: what was its UUID, its slug, or ext: and its external_id, at any time.
Returns: whether there was one; false too where that part of the history was pruned.
Called by: authz_sidecar, when a biller speaks of a workspace that is not there.';
REVOKE ALL ON FUNCTION authz.was_purged FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.was_purged TO authz_sidecar;

DROP FUNCTION authz.workspace_known(text);
CREATE FUNCTION authz.workspace_known(workspace text, after text DEFAULT NULL, at_most integer DEFAULT 1001)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known CONSTANT uuid := authz.workspace_id_of(workspace);
BEGIN
    RETURN (
        SELECT authz.workspace_state(w.id, true)::jsonb || jsonb_build_object(
            'name', w.name,
            'external_id', w.external_id,
            'created_at', w.created_at,
            'owner', (
                SELECT m.user_id FROM authz.workspace_memberships AS m
                WHERE m.workspace_id = w.id AND m.role = 'owner'
            ),
            'members', authz.people_of(w.id, workspace_known.after, workspace_known.at_most)::jsonb
        )
        FROM authz.workspaces AS w
        WHERE w.id = known AND w.deleted_at IS NULL
    );
END;
$$;
COMMENT ON FUNCTION authz.workspace_known IS 'A workspace as administrators know it, with a page of its members.
- workspace: its UUID, its slug, or ext: and its external_id.
- after: the last user id of the page before; NULL: from the beginning.
- at_most: how many members; one more than a page has, to see whether there is another.
Returns: authz.workspace_state, and name, external_id, created_at, owner (a user id, or null) and members (as
authz.people_of); NULL if there is no such workspace.
Called by: authz_sidecar, to show a workspace; authz.patch_workspace.';
REVOKE ALL ON FUNCTION authz.workspace_known FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.workspace_known TO authz_sidecar;
COMMENT ON FUNCTION authz.people_of IS
'A page of the members of a workspace in the order of their user ids, whatever their roles.
- workspace_id: the workspace.
- after: the last user id of the page before; NULL: from the beginning.
- at_most: how many members.
Returns: a list as of authz.member_document, with times in UTC; empty if there are no more.
Called by: authz_sidecar, to list members; authz.workspace_known.';
