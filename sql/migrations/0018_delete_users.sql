-- A user who is deleted leaves no membership behind, and no workspace without an owner.

CREATE FUNCTION authz.forget_users(users text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    left_ids uuid[];
    ownerless_ids uuid[];
BEGIN
    -- Of a workspace that will go its reservations and counters come first, since whoever takes quota holds them when he
    -- locks the workspace.
    SELECT array_agg(m.workspace_id) INTO left_ids
    FROM authz.workspace_memberships AS m
    WHERE m.user_id = ANY (users)
      AND NOT EXISTS (
          SELECT FROM authz.workspace_memberships AS o
          WHERE o.workspace_id = m.workspace_id AND o.user_id <> ALL (users)
      );
    PERFORM FROM authz.usage_reservations AS r WHERE r.workspace_id = ANY (left_ids)
    ORDER BY r.workspace_id, r.id FOR UPDATE;
    PERFORM FROM authz.workspace_usage AS u WHERE u.workspace_id = ANY (left_ids)
    ORDER BY u.workspace_id, u.meter FOR UPDATE;
    -- Whoever joins, leaves or moves ownership in one of them waits, or we wait for him; in the order of their ids, so
    -- that two cannot wait for each other. FOR UPDATE from the start: some of these rows will be deleted.
    PERFORM FROM authz.workspaces AS w
    WHERE w.id IN (
        SELECT m.workspace_id FROM authz.workspace_memberships AS m WHERE m.user_id = ANY (users)
        UNION ALL
        SELECT d.id FROM authz.workspaces AS d WHERE d.default_of = ANY (users)
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
    UPDATE authz.workspace_memberships AS m
    SET role = 'owner'
    FROM (
        SELECT DISTINCT ON (c.workspace_id) c.workspace_id, c.user_id
        FROM authz.workspace_memberships AS c
        LEFT JOIN authz.roles AS r ON r.name = c.role
        WHERE c.workspace_id = ANY (ownerless_ids)
        ORDER BY c.workspace_id, r.rank DESC NULLS LAST, c.joined_at, c.user_id
    ) AS heir
    WHERE m.workspace_id = heir.workspace_id AND m.user_id = heir.user_id;
    -- Nobody is left who could use it, hand it over, or ask for it back.
    DELETE FROM authz.workspaces AS w
    WHERE w.id = ANY (left_ids)
      AND NOT EXISTS (SELECT FROM authz.workspace_memberships AS m WHERE m.workspace_id = w.id);
END;
$$;
COMMENT ON FUNCTION authz.forget_users IS
    'Removes them everywhere. What they owned goes to the most senior member, then the earliest; what nobody else is in goes.';
REVOKE ALL ON FUNCTION authz.forget_users FROM PUBLIC;

CREATE FUNCTION authz.forget_deleted_users()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM old_rows) THEN
        RETURN NULL;
    END IF;
    PERFORM authz.forget_users(ARRAY(SELECT o.id::text FROM old_rows AS o));
    DELETE FROM authz.users AS u USING old_rows AS o WHERE u.id = o.id::text; -- who was auth.users' and came here
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.forget_deleted_users IS
    'Other than at a signup, an error is raised: the deletion can be tried again, a workspace without owner would stay.';
REVOKE ALL ON FUNCTION authz.forget_deleted_users FROM PUBLIC;

CREATE TRIGGER on_user_deleted AFTER DELETE ON authz.users
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.forget_deleted_users();
DO $$
BEGIN
    IF to_regclass('auth.users') IS NOT NULL THEN
        CREATE TRIGGER on_auth_user_deleted AFTER DELETE ON auth.users
            REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.forget_deleted_users();
    END IF;
END;
$$;
