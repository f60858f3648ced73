-- A workspace that is deleted loses its members at once, so that nothing that asks for a member finds it. Its rows, its
-- slug and what an application keeps by its id stay until it is purged: a mistake can be undone until then, and nobody
-- else is found behind an old link.

ALTER TABLE authz.workspaces
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN deleted_by text COLLATE "C",
    ADD COLUMN members_before jsonb, -- [{user_id, role, joined_at}], when it was deleted
    ADD CONSTRAINT workspaces_deleted_check
        CHECK ((deleted_at IS NULL) = (deleted_by IS NULL) AND (deleted_at IS NULL) = (members_before IS NULL));
CREATE INDEX workspaces_deleted_at_idx ON authz.workspaces (deleted_at) WHERE deleted_at IS NOT NULL; -- for the purge

CREATE FUNCTION authz.record_workspace()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM authz.record(NEW.id, 'workspace.created', jsonb_build_object(
            'slug', NEW.slug, 'name', NEW.name, 'plan', NEW.plan_tier
        ));
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM authz.record(OLD.id, 'workspace.purged', jsonb_build_object('slug', OLD.slug));
        RETURN NULL;
    END IF;

    IF NEW.name <> OLD.name THEN
        PERFORM authz.record(NEW.id, 'workspace.renamed', jsonb_build_object('from', OLD.name, 'to', NEW.name));
    END IF;
    IF NEW.plan_tier <> OLD.plan_tier THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.plan_changed',
            jsonb_build_object('from', OLD.plan_tier, 'to', NEW.plan_tier, 'as_of', NEW.plan_as_of)
        );
    END IF;
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.deleted', jsonb_build_object(
            'slug', NEW.slug, 'name', NEW.name, 'members', NEW.members_before
        ));
    ELSIF NEW.deleted_at IS NULL AND OLD.deleted_at IS NOT NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.restored', jsonb_build_object('slug', NEW.slug));
    ELSIF NEW.status <> OLD.status THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.status_changed',
            jsonb_build_object('from', OLD.status, 'to', NEW.status, 'reason', NEW.status_reason)
        );
    END IF;
    RETURN NULL;
END;
$$;
REVOKE ALL ON FUNCTION authz.record_workspace FROM PUBLIC;

CREATE TRIGGER record_workspace_inserted AFTER INSERT OR DELETE ON authz.workspaces
    FOR EACH ROW EXECUTE FUNCTION authz.record_workspace();
CREATE TRIGGER record_workspace_updated AFTER UPDATE OF name, plan_tier, status, deleted_at ON authz.workspaces
    FOR EACH ROW EXECUTE FUNCTION authz.record_workspace();

CREATE FUNCTION authz.restore_workspace(workspace_id uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
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
END;
$$;
COMMENT ON FUNCTION authz.restore_workspace IS
    'For an operator: its members as they were. Invitations are gone, and users who were deleted since come back too.';
REVOKE ALL ON FUNCTION authz.restore_workspace FROM PUBLIC;

CREATE FUNCTION authz.purge_workspaces(grace interval DEFAULT '30 days', at_most integer DEFAULT 100)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    purged integer;
BEGIN
    WITH due AS (
        SELECT w.id
        FROM authz.workspaces AS w
        WHERE w.deleted_at <= clock_timestamp() - grace
          AND w.member_count = 0 -- somebody is in it again: restored by hand
        ORDER BY w.deleted_at
        LIMIT at_most
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM authz.workspaces AS w USING due WHERE w.id = due.id;
    GET DIAGNOSTICS purged = ROW_COUNT;
    RETURN purged;
END;
$$;
COMMENT ON FUNCTION authz.purge_workspaces IS
    'For an operator, as often as he likes: how many were deleted for good, with all that refers to them.';
REVOKE ALL ON FUNCTION authz.purge_workspaces FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.workspace_locked(workspace text)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    found_id uuid;
BEGIN
    SELECT w.id INTO found_id
    FROM authz.workspaces AS w
    WHERE (
            w.slug = workspace
            OR w.id = CASE
                WHEN workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
                    THEN workspace::uuid
            END
        )
      AND w.deleted_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'workspace "%" does not exist', workspace USING ERRCODE = 'AZ001';
    END IF;
    RETURN found_id;
END;
$$;
