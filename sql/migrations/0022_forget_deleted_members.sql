-- A user who is deleted does not come back with a workspace that is restored: he goes from those that wait for their
-- purge as well, and what is restored has its one owner, or nobody could restore it.

CREATE FUNCTION authz.hand_over(workspace_ids uuid[])
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE authz.workspace_memberships AS m
    SET role = 'owner'
    FROM (
        SELECT DISTINCT ON (c.workspace_id) c.workspace_id, c.user_id
        FROM authz.workspace_memberships AS c
        LEFT JOIN authz.roles AS r ON r.name = c.role
        WHERE c.workspace_id = ANY (workspace_ids)
        ORDER BY c.workspace_id, r.rank DESC NULLS LAST, c.joined_at, c.user_id
    ) AS heir
    WHERE m.workspace_id = heir.workspace_id AND m.user_id = heir.user_id;
END;
COMMENT ON FUNCTION authz.hand_over IS
    'Workspaces without an owner get one: the most senior member, then the earliest, who holds no declared role last.';
REVOKE ALL ON FUNCTION authz.hand_over FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.forget_users(users text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    left_ids uuid[];
    ownerless_ids uuid[];
BEGIN
    -- Of a workspace that will go its counters come first, since whoever takes quota holds them when he locks the
    -- workspace.
    SELECT array_agg(m.workspace_id) INTO left_ids
    FROM authz.workspace_memberships AS m
    WHERE m.user_id = ANY (users)
      AND NOT EXISTS (
          SELECT FROM authz.workspace_memberships AS o
          WHERE o.workspace_id = m.workspace_id AND o.user_id <> ALL (users)
      );
    PERFORM FROM authz.workspace_usage AS u WHERE u.workspace_id = ANY (left_ids)
    ORDER BY u.workspace_id, u.meter FOR UPDATE;
    -- Whoever joins, leaves or moves ownership in one of them waits, or we wait for him; in the order of their ids, so
    -- that two cannot wait for each other. FOR UPDATE from the start: some of these rows will be deleted.
    PERFORM FROM authz.workspaces AS w
    WHERE w.id IN (
        SELECT m.workspace_id FROM authz.workspace_memberships AS m WHERE m.user_id = ANY (users)
        UNION ALL
        SELECT d.id FROM authz.workspaces AS d WHERE d.default_of = ANY (users)
        UNION ALL
        SELECT b.id
        FROM authz.workspaces AS b
        CROSS JOIN LATERAL jsonb_to_recordset(b.members_before) AS before (user_id text)
        WHERE b.deleted_at IS NOT NULL AND before.user_id = ANY (users)
    )
    ORDER BY w.id FOR UPDATE;

    UPDATE authz.workspaces AS w SET default_of = NULL WHERE w.default_of = ANY (users);
    -- The owner goes before his heir is made owner: at no time may there be two (workspace_memberships_owner_key).
    WITH gone AS (
        DELETE FROM authz.workspace_memberships AS m WHERE m.user_id = ANY (users)
        RETURNING m.workspace_id, m.role
    )
    SELECT array_agg(g.workspace_id), array_agg(g.workspace_id) FILTER (WHERE g.role = 'owner')
    INTO left_ids, ownerless_ids
    FROM gone AS g;
    PERFORM authz.hand_over(ownerless_ids);
    WITH kept AS (
        UPDATE authz.workspaces AS w
        SET members_before = (
            SELECT COALESCE(jsonb_agg(before.member ORDER BY before.member ->> 'user_id'), '[]')
            FROM jsonb_array_elements(w.members_before) AS before (member)
            WHERE before.member ->> 'user_id' <> ALL (users)
        )
        WHERE w.deleted_at IS NOT NULL
          AND EXISTS (
              SELECT FROM jsonb_to_recordset(w.members_before) AS before (user_id text)
              WHERE before.user_id = ANY (users)
          )
        RETURNING w.id
    )
    SELECT left_ids || array_agg(k.id) INTO left_ids FROM kept AS k;
    -- Nobody is left who could use it, hand it over, or ask for it back.
    DELETE FROM authz.workspaces AS w
    WHERE w.id = ANY (left_ids)
      AND COALESCE(w.members_before, '[]') = '[]'
      AND NOT EXISTS (SELECT FROM authz.workspace_memberships AS m WHERE m.workspace_id = w.id);
END;
$$;

CREATE OR REPLACE FUNCTION authz.restore_workspace(workspace_id uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before jsonb;
BEGIN
    SELECT w.members_before INTO before
    FROM authz.workspaces AS w
    WHERE w.id = restore_workspace.workspace_id AND w.deleted_at IS NOT NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no workspace % was deleted and not purged yet', workspace_id USING ERRCODE = 'AZ001';
    END IF;
    UPDATE authz.workspaces AS w SET deleted_at = NULL, deleted_by = NULL, members_before = NULL
    WHERE w.id = restore_workspace.workspace_id;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role, joined_at)
    SELECT restore_workspace.workspace_id, m.user_id, m.role, m.joined_at
    FROM jsonb_to_recordset(before) AS m (user_id text, role text, joined_at timestamptz);
    IF EXISTS (SELECT FROM authz.roles AS r WHERE r.name = 'owner') AND NOT EXISTS (
        SELECT FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = restore_workspace.workspace_id AND m.role = 'owner'
    ) THEN
        PERFORM authz.hand_over(ARRAY[restore_workspace.workspace_id]);
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.restore_workspace IS
    'For an operator: its members as they were, but for users who were deleted since. Invitations are gone.';
