-- Who goes with a deleted workspace is looked up once a statement, and not once for each member: a workspace of
-- thousands of members is deleted at once.

CREATE OR REPLACE FUNCTION authz.record_members()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    who CONSTANT text := authz.actor();
    who_kind CONSTANT text := authz.actor_kind();
    granted CONSTANT jsonb := jsonb_strip_nulls(jsonb_build_object(
        'invitation', NULLIF(current_setting('authz.invitation', true), ''),
        'granted_by', NULLIF(current_setting('authz.granted_by', true), '')
    ));
    gone jsonb; -- who went with a deleted workspace: {"workspace_id user_id": true}
BEGIN
    -- A workspace that is not there any more has taken its members with it: that is recorded once, not for each.
    IF TG_OP = 'INSERT' THEN
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id, who, who_kind, 'member.joined',
            jsonb_build_object('user', n.user_id, 'role', n.role) || granted
        FROM new_rows AS n
        JOIN authz.workspaces AS w ON w.id = n.workspace_id;
    ELSIF TG_OP = 'DELETE' THEN
        -- Of a deleted workspace those are recorded who were put into it since: the others went with it.
        SELECT COALESCE(jsonb_object_agg(concat_ws(' ', left_with.workspace_id, left_with.user_id), true), '{}')
        INTO gone
        FROM (
            SELECT d.workspace_id, m.user_id
            FROM authz.workspaces AS w
            CROSS JOIN LATERAL (
                SELECT e.workspace_id, e.data FROM authz.outbox AS e
                WHERE e.workspace_id = w.id AND e.kind = 'workspace.deleted'
                ORDER BY e.id DESC
                LIMIT 1
            ) AS d
            CROSS JOIN LATERAL jsonb_to_recordset(d.data -> 'members') AS m (user_id text)
            WHERE w.deleted_at IS NOT NULL AND w.id IN (SELECT o.workspace_id FROM old_rows AS o)
            EXCEPT
            SELECT j.workspace_id, j.data ->> 'user'
            FROM authz.workspaces AS w
            CROSS JOIN LATERAL (
                SELECT e.workspace_id, e.id FROM authz.outbox AS e
                WHERE e.workspace_id = w.id AND e.kind = 'workspace.deleted'
                ORDER BY e.id DESC
                LIMIT 1
            ) AS d
            JOIN authz.outbox AS j
                ON j.workspace_id = d.workspace_id AND j.id > d.id AND j.kind IN ('member.joined', 'member.found')
            WHERE w.deleted_at IS NOT NULL AND w.id IN (SELECT o.workspace_id FROM old_rows AS o)
        ) AS left_with;
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            o.workspace_id, who, who_kind,
            CASE WHEN o.user_id = who AND who_kind = 'user' THEN 'member.left' ELSE 'member.removed' END,
            jsonb_build_object('user', o.user_id, 'role', o.role)
        FROM old_rows AS o
        JOIN authz.workspaces AS w ON w.id = o.workspace_id
        WHERE w.deleted_at IS NULL OR NOT gone ? concat_ws(' ', o.workspace_id, o.user_id);
    ELSIF TG_NAME = 'record_members_moved' THEN
        -- Two tables of one statement cannot be paired once keys move: a key is gone, and another has come.
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            o.workspace_id, who, who_kind, 'member.removed', jsonb_build_object('user', o.user_id, 'role', o.role)
        FROM old_rows AS o
        WHERE NOT EXISTS (
            SELECT FROM new_rows AS n WHERE n.workspace_id = o.workspace_id AND n.user_id = o.user_id
        );
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id, who, who_kind, 'member.joined', jsonb_build_object('user', n.user_id, 'role', n.role)
        FROM new_rows AS n
        WHERE NOT EXISTS (
            SELECT FROM old_rows AS o WHERE o.workspace_id = n.workspace_id AND o.user_id = n.user_id
        );
    ELSE
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id, who, who_kind, 'member.role_changed',
            jsonb_build_object('user', n.user_id, 'from', o.role, 'to', n.role)
        FROM new_rows AS n
        JOIN old_rows AS o ON o.workspace_id = n.workspace_id AND o.user_id = n.user_id
        WHERE n.role <> o.role;
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id, who, who_kind, 'member.changed',
            jsonb_build_object('user', n.user_id, 'joined_at', jsonb_build_object(
                'from', o.joined_at, 'to', n.joined_at
            ))
        FROM new_rows AS n
        JOIN old_rows AS o ON o.workspace_id = n.workspace_id AND o.user_id = n.user_id
        WHERE n.joined_at <> o.joined_at;
    END IF;
    RETURN NULL;
END;
$$;
