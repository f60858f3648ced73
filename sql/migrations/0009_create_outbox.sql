-- Who changed what, and when: one row for each change of a workspace, its members, invitations and overrides, written
-- in the transaction that changes it. A company sends its e-mails by it, and keeps it as its audit trail.

CREATE TABLE authz.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(), -- by which a reader knows that no earlier row is to come
    workspace_id uuid NOT NULL, -- not a foreign key: what happened outlives what it happened to
    actor text NOT NULL, -- a user, a caller's token or a database login, by name
    actor_kind text NOT NULL,
    kind text NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT outbox_actor_kind_check CHECK (actor_kind IN ('user', 'caller', 'sql'))
);
CREATE INDEX outbox_transaction_id_idx ON authz.outbox (transaction, id); -- for who reads what is new
COMMENT ON TABLE authz.outbox IS
    'To read on: WHERE (transaction, id) > (last, last) AND transaction < pg_snapshot_xmin(pg_current_snapshot()).';

CREATE FUNCTION authz.acting_as(actor text, kind text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM set_config('authz.actor', acting_as.actor, true), set_config('authz.actor_kind', acting_as.kind, true);
END;
$$;
COMMENT ON FUNCTION authz.acting_as IS
    'Who the changes of this transaction are recorded for. Called in FROM, it comes before what is selected.';
REVOKE ALL ON FUNCTION authz.acting_as FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.acting_as TO authz_sidecar;

CREATE FUNCTION authz.actor()
RETURNS text
LANGUAGE sql STABLE SET search_path = ''
RETURN COALESCE(NULLIF(current_setting('authz.actor', true), ''), session_user::text);
REVOKE ALL ON FUNCTION authz.actor FROM PUBLIC;

CREATE FUNCTION authz.actor_kind()
RETURNS text
LANGUAGE sql STABLE SET search_path = ''
RETURN COALESCE(NULLIF(current_setting('authz.actor_kind', true), ''), 'sql');
REVOKE ALL ON FUNCTION authz.actor_kind FROM PUBLIC;

CREATE FUNCTION authz.record(workspace_id uuid, kind text, data jsonb)
RETURNS void
LANGUAGE sql VOLATILE SET search_path = ''
BEGIN ATOMIC
    INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
    VALUES (record.workspace_id, authz.actor(), authz.actor_kind(), record.kind, record.data);
END;
REVOKE ALL ON FUNCTION authz.record FROM PUBLIC;

CREATE FUNCTION authz.record_members()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    who CONSTANT text := authz.actor();
BEGIN
    -- A workspace that is not there any more has taken its members with it: that is recorded once, not for each.
    IF TG_OP = 'INSERT' THEN
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id,
            who,
            authz.actor_kind(),
            'member.joined',
            jsonb_build_object('user', n.user_id, 'role', n.role)
        FROM new_rows AS n
        JOIN authz.workspaces AS w ON w.id = n.workspace_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            o.workspace_id,
            who,
            authz.actor_kind(),
            CASE WHEN o.user_id = who AND authz.actor_kind() = 'user' THEN 'member.left' ELSE 'member.removed' END,
            jsonb_build_object('user', o.user_id, 'role', o.role)
        FROM old_rows AS o
        JOIN authz.workspaces AS w ON w.id = o.workspace_id AND w.deleted_at IS NULL;
    ELSE
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id,
            who,
            authz.actor_kind(),
            'member.role_changed',
            jsonb_build_object('user', n.user_id, 'from', o.role, 'to', n.role)
        FROM new_rows AS n
        JOIN old_rows AS o ON o.workspace_id = n.workspace_id AND o.user_id = n.user_id
        WHERE n.role <> o.role;
    END IF;
    RETURN NULL;
END;
$$;
REVOKE ALL ON FUNCTION authz.record_members FROM PUBLIC;

CREATE TRIGGER record_members_inserted AFTER INSERT ON authz.workspace_memberships
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.record_members();
CREATE TRIGGER record_members_updated AFTER UPDATE ON authz.workspace_memberships
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.record_members();
CREATE TRIGGER record_members_deleted AFTER DELETE ON authz.workspace_memberships
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.record_members();

CREATE FUNCTION authz.record_override()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = OLD.workspace_id) THEN
            PERFORM authz.record(
                OLD.workspace_id, 'override.removed', jsonb_build_object('of', OLD.kind, 'name', OLD.name)
            );
        END IF;
    ELSE
        PERFORM authz.record(NEW.workspace_id, 'override.set', jsonb_build_object(
            'of', NEW.kind,
            'name', NEW.name,
            'value', CASE
                WHEN NEW.kind = 'feature' THEN to_jsonb(NEW.enabled)
                WHEN NEW.at_most IS NULL THEN '"unlimited"'
                ELSE to_jsonb(NEW.at_most)
            END,
            'expires_at', NEW.expires_at,
            'reason', NEW.reason
        ));
    END IF;
    RETURN NULL;
END;
$$;
REVOKE ALL ON FUNCTION authz.record_override FROM PUBLIC;

CREATE TRIGGER record_override AFTER INSERT OR UPDATE OR DELETE ON authz.workspace_features
    FOR EACH ROW EXECUTE FUNCTION authz.record_override();
