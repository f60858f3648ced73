-- A change that somebody makes by hand is recorded as one that the sidecar makes, or it is refused (AZ003); and a row
-- of the history stays as it was written. Each row may name the decision that allowed the change.

ALTER TABLE authz.outbox ADD COLUMN decision_id text DEFAULT NULLIF(current_setting('authz.decision', true), '');
CREATE UNIQUE INDEX outbox_id_key ON authz.outbox (id);
COMMENT ON INDEX authz.outbox_id_key IS 'Gives pages of the history of all workspaces, for auditors.';
COMMENT ON COLUMN authz.outbox.decision_id IS
'The decision that allowed it, as authz.acting_as was told. NULL: nobody said one, as for changes by hand.';
COMMENT ON COLUMN authz.outbox.workspace_id IS
'The workspace. Not a foreign key: the history outlives it. The nil UUID: it is of no workspace.';
COMMENT ON COLUMN authz.outbox.kind IS
'What happened: workspace.created, .renamed, .slug_changed, .plan_changed, .status_changed, .anchor_changed, .changed,
.deleted, .restored, .purged; member.joined, .left, .removed, .role_changed, .changed; invitation.created, .accepted,
.revoked, .replaced, .voided; override.set, .removed. What authz.find_unrecorded found: workspace.found, .lost,
member.found, .lost. Of no workspace: names.changed, catalog.changed, history.began, .pruned.';
COMMENT ON TABLE authz.outbox IS
'Who changed what, and when: one row for each change of a workspace, its members, invitations and overrides, written
in the transaction that changes it. Its rows outlive the workspace. They are never updated, and deleted by
authz.prune_history alone. Within a workspace they happened in the order of id; among workspaces they may be
committed in another order. To read on after the last row that was read, and miss none that is committed later:
WHERE (transaction, id) > (last transaction, last id) AND transaction < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY transaction, id';

DROP FUNCTION authz.acting_as(text, text);
CREATE FUNCTION authz.acting_as(actor text, kind text, decision text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM
        set_config('authz.actor', acting_as.actor, true),
        set_config('authz.actor_kind', acting_as.kind, true),
        set_config('authz.decision', COALESCE(acting_as.decision, ''), true);
END;
$$;
COMMENT ON FUNCTION authz.acting_as IS
'Says who makes the changes of this transaction, for the outbox. Written in FROM, it runs before what is selected.
- actor: a user id, the name of a caller''s token, or what stands for a database login.
- kind: user, caller or sql.
- decision: the id of the decision that allowed the changes, or of the line of the decision log that tells of them;
NULL: there is none.
Returns: nothing.
Called by: authz_sidecar, in each statement that changes something; the owner, in sidecar load.';
REVOKE ALL ON FUNCTION authz.acting_as FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.acting_as TO authz_sidecar;

CREATE FUNCTION authz.refuse_unrecorded()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'TRUNCATE of authz.% would leave no trace: use DELETE', TG_TABLE_NAME USING ERRCODE = 'AZ003';
    END IF;
    RAISE EXCEPTION '% of authz.%: what was recorded stays as it is', TG_OP, TG_TABLE_NAME USING ERRCODE = 'AZ003';
END;
$$;
COMMENT ON FUNCTION authz.refuse_unrecorded IS
'Trigger: refuses a statement that nothing could record, or that would change what is recorded.
Returns: never.
Raises: AZ003, always.
Called by: the triggers refuse_truncate, refuse_update and refuse_delete.';
REVOKE ALL ON FUNCTION authz.refuse_unrecorded FROM PUBLIC;

DO $$
DECLARE
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'workspaces', 'workspace_memberships', 'workspace_features', 'workspace_invitations', 'outbox', 'catalog',
        'roles', 'action_roles', 'features', 'meters', 'plans', 'plan_features', 'plan_limits'
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON authz.%I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION authz.refuse_unrecorded()',
            each
        );
        EXECUTE format(
            'COMMENT ON TRIGGER refuse_truncate ON authz.%I IS %L',
            each, 'Refuses TRUNCATE, which fires no other trigger.'
        );
    END LOOP;
END;
$$;
CREATE TRIGGER refuse_update BEFORE UPDATE ON authz.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION authz.refuse_unrecorded();
COMMENT ON TRIGGER refuse_update ON authz.outbox IS 'A row stays as it was written.';

CREATE FUNCTION authz.outbox_hash(entry authz.outbox)
RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN sha256(convert_to(json_build_array(
    (entry).id,
    to_char((entry).at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    (entry).workspace_id,
    (entry).actor,
    (entry).actor_kind,
    (entry).kind,
    (entry).data,
    (entry).decision_id
)::text, 'UTF8'));
COMMENT ON FUNCTION authz.outbox_hash IS
'A row of the outbox as one hash, the same in each session, after dump and restore, and in each major version.
- entry: the row.
Returns: SHA-256 of the UTF-8 JSON [id, at in UTC, workspace_id, actor, actor_kind, kind, data, decision_id].
Called by: authz.prune_history, authz.only_pruned and authz.digest_of.';
REVOKE ALL ON FUNCTION authz.outbox_hash FROM PUBLIC;

CREATE FUNCTION authz.only_pruned()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM old_rows) AND NOT EXISTS (
        SELECT FROM authz.outbox AS p
        WHERE p.transaction = pg_current_xact_id()
          AND p.kind = 'history.pruned'
          AND p.data ->> 'sha256' = (
              SELECT encode(sha256(string_agg(authz.outbox_hash(o), '' ORDER BY o.transaction, o.id)), 'hex')
              FROM old_rows AS o
          )
    ) THEN
        RAISE EXCEPTION 'rows of authz.outbox are deleted by authz.prune_history alone' USING ERRCODE = 'AZ003';
    END IF;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.only_pruned IS
'Trigger: refuses to delete rows of the outbox, unless a row history.pruned of this transaction has their hash.
Returns: NULL.
Raises: AZ003 if there is none.
Called by: trigger only_pruned on authz.outbox.';
REVOKE ALL ON FUNCTION authz.only_pruned FROM PUBLIC;
CREATE TRIGGER only_pruned AFTER DELETE ON authz.outbox
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.only_pruned();
COMMENT ON TRIGGER only_pruned ON authz.outbox IS 'Nothing goes without a row that tells of it.';

CREATE FUNCTION authz.workspace_document(workspace authz.workspaces)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object(
    'slug', (workspace).slug,
    'name', (workspace).name,
    'plan', (workspace).plan_tier,
    'status', (workspace).status,
    'reason', (workspace).status_reason,
    'subscribed_at', (workspace).subscribed_at
);
COMMENT ON FUNCTION authz.workspace_document IS 'A workspace as the outbox tells of it.
- workspace: the row of authz.workspaces.
Returns: {slug, name, plan, status, reason, subscribed_at}.
Called by: authz.record_workspace and authz.find_unrecorded.';
REVOKE ALL ON FUNCTION authz.workspace_document FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.record_workspace()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    others jsonb;
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM authz.record(OLD.id, 'workspace.purged', jsonb_build_object('slug', OLD.slug));
    END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM authz.record(NEW.id, 'workspace.created', authz.workspace_document(NEW));
        IF NEW.deleted_at IS NOT NULL THEN
            PERFORM authz.record(
                NEW.id,
                'workspace.deleted',
                jsonb_build_object('slug', NEW.slug, 'name', NEW.name, 'members', '[]'::jsonb)
            );
        END IF;
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN NULL;
    END IF;

    IF NEW.slug <> OLD.slug THEN
        PERFORM authz.record(NEW.id, 'workspace.slug_changed', jsonb_build_object('from', OLD.slug, 'to', NEW.slug));
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
    IF NEW.subscribed_at <> OLD.subscribed_at THEN
        PERFORM authz.record(NEW.id, 'workspace.anchor_changed', jsonb_build_object(
            'from', OLD.subscribed_at, 'to', NEW.subscribed_at
        ));
    END IF;
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.deleted', jsonb_build_object(
            'slug', NEW.slug,
            'name', NEW.name,
            -- They go with it, and are not recorded one by one; after a deletion by hand they are.
            'members', CASE current_setting('authz.deleting', true)
                WHEN 'on' THEN NEW.members_before
                ELSE '[]'::jsonb
            END
        ));
    ELSIF NEW.deleted_at IS NULL AND OLD.deleted_at IS NOT NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.restored', jsonb_build_object('slug', NEW.slug));
    END IF;
    IF NEW.status <> OLD.status THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.status_changed',
            jsonb_build_object('from', OLD.status, 'to', NEW.status, 'reason', NEW.status_reason)
        );
    END IF;
    others := '{}';
    IF NEW.status = OLD.status AND NEW.status_reason IS DISTINCT FROM OLD.status_reason THEN
        others := others || jsonb_build_object('reason', jsonb_build_object(
            'from', OLD.status_reason, 'to', NEW.status_reason
        ));
    END IF;
    IF NEW.created_at <> OLD.created_at THEN
        others := others || jsonb_build_object('created_at', jsonb_build_object(
            'from', OLD.created_at, 'to', NEW.created_at
        ));
    END IF;
    IF others <> '{}' THEN
        PERFORM authz.record(NEW.id, 'workspace.changed', others);
    END IF;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.record_workspace IS
'Trigger: records that a workspace was created, deleted, restored or purged, and what of it was changed. One whose id
changes is purged and created.
Returns: NULL.
Called by: triggers record_workspace_inserted and _updated on authz.workspaces.';
DROP TRIGGER record_workspace_updated ON authz.workspaces;
CREATE TRIGGER record_workspace_updated
    AFTER UPDATE OF id, slug, name, plan_tier, status, status_reason, subscribed_at, created_at, deleted_at
    ON authz.workspaces
    FOR EACH ROW EXECUTE FUNCTION authz.record_workspace();
COMMENT ON TRIGGER record_workspace_updated ON authz.workspaces IS
'Records what changes of a workspace, but for what is counted and when the plan was set.';

CREATE OR REPLACE FUNCTION authz.delete_workspace(workspace_id uuid, facts_version bigint)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version), set_config('authz.deleting', 'on', true);
    UPDATE authz.workspaces AS w
    SET deleted_at = clock_timestamp(),
        deleted_by = authz.actor(),
        members_before = (
            SELECT COALESCE(jsonb_agg(jsonb_build_object(
                'user_id', m.user_id, 'role', m.role, 'joined_at', m.joined_at
            ) ORDER BY m.user_id), '[]')
            FROM authz.workspace_memberships AS m
            WHERE m.workspace_id = delete_workspace.workspace_id
        )
    WHERE w.id = delete_workspace.workspace_id;
    PERFORM set_config('authz.deleting', '', true);
    DELETE FROM authz.workspace_invitations AS i WHERE i.workspace_id = delete_workspace.workspace_id;
    DELETE FROM authz.workspace_memberships AS m WHERE m.workspace_id = delete_workspace.workspace_id;
    RETURN 'deleted';
END;
$$;

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
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            o.workspace_id, who, who_kind,
            CASE WHEN o.user_id = who AND who_kind = 'user' THEN 'member.left' ELSE 'member.removed' END,
            jsonb_build_object('user', o.user_id, 'role', o.role)
        FROM old_rows AS o
        JOIN authz.workspaces AS w ON w.id = o.workspace_id
        WHERE w.deleted_at IS NULL
           -- Of a deleted one: who has been put into it since. The others went with it.
           OR NOT COALESCE((
               SELECT EXISTS (
                   SELECT FROM jsonb_to_recordset(d.data -> 'members') AS m (user_id text) WHERE m.user_id = o.user_id
               ) AND NOT EXISTS (
                   SELECT FROM authz.outbox AS j
                   WHERE j.workspace_id = o.workspace_id
                     AND j.id > d.id
                     AND j.kind IN ('member.joined', 'member.found')
                     AND j.data ->> 'user' = o.user_id
               )
               FROM authz.outbox AS d
               WHERE d.workspace_id = o.workspace_id AND d.kind = 'workspace.deleted'
               ORDER BY d.id DESC
               LIMIT 1
           ), false);
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
COMMENT ON FUNCTION authz.record_members IS
'Trigger: records members who joined (with the invitation that they came by), left by themselves or were removed, and
what of a membership was changed; one that is moved to another user or workspace is removed and joined.
Those who lose their membership because the workspace is deleted or purged are not recorded one by one.
Returns: NULL.
Called by: triggers record_members_inserted, _moved, _updated and _deleted on authz.workspace_memberships.';
CREATE TRIGGER record_members_moved AFTER UPDATE ON authz.workspace_memberships
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION authz.record_members();
COMMENT ON TRIGGER record_members_moved ON authz.workspace_memberships IS
'Records memberships that are of another user or workspace now.';
COMMENT ON TRIGGER record_members_updated ON authz.workspace_memberships IS
'Records member.role_changed and member.changed.';

CREATE OR REPLACE FUNCTION authz.record_override()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE'
        AND (NEW.workspace_id, NEW.kind, NEW.name) IS DISTINCT FROM (OLD.workspace_id, OLD.kind, OLD.name)
    THEN
        IF EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = OLD.workspace_id) THEN
            PERFORM authz.record(
                OLD.workspace_id, 'override.removed', jsonb_build_object('of', OLD.kind, 'name', OLD.name)
            );
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM authz.record(NEW.workspace_id, 'override.set', authz.override_document(NEW));
    END IF;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.record_override IS
'Trigger: records an override that was set or removed; one that is renamed or moved is removed and set.
Returns: NULL.
Called by: trigger record_override on authz.workspace_features.';

CREATE FUNCTION authz.override_document(override authz.workspace_features)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object(
    'of', (override).kind,
    'name', (override).name,
    'value', CASE
        WHEN (override).kind = 'feature' THEN to_jsonb((override).enabled)
        WHEN (override).at_most IS NULL THEN '"unlimited"'
        ELSE to_jsonb((override).at_most)
    END,
    'expires_at', (override).expires_at,
    'reason', (override).reason
);
COMMENT ON FUNCTION authz.override_document IS 'An override as the outbox tells of it.
- override: the row of authz.workspace_features.
Returns: {of, name, value, expires_at, reason}.
Called by: authz.record_override and authz.find_unrecorded.';
REVOKE ALL ON FUNCTION authz.override_document FROM PUBLIC;

-- The functions that change invitations record it themselves. What they did not do is recorded when the transaction
-- commits.
CREATE FUNCTION authz.record_invitation()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    told text[];
BEGIN
    SELECT array_agg(concat_ws(' ', o.kind, o.data ->> 'id')) INTO told
    FROM authz.outbox AS o
    WHERE o.transaction = pg_current_xact_id() AND o.kind LIKE 'invitation.%';
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.workspace_id, NEW.id, NEW.email, NEW.invited_by, NEW.token_hash, NEW.created_at, NEW.expires_at)
            = (OLD.workspace_id, OLD.id, OLD.email, OLD.invited_by, OLD.token_hash, OLD.created_at, OLD.expires_at)
            AND (NEW.role = OLD.role OR EXISTS (
                SELECT FROM authz.outbox AS o
                WHERE o.transaction = pg_current_xact_id()
                  AND o.kind = 'names.changed'
                  AND o.data -> 'names' ->> OLD.role = NEW.role
            ))
        THEN
            RETURN NULL;
        END IF;
        PERFORM authz.record(OLD.workspace_id, 'invitation.replaced', authz.invitation_document(OLD));
        PERFORM authz.record(NEW.workspace_id, 'invitation.created', authz.invitation_document(NEW));
    ELSIF TG_OP = 'INSERT' THEN
        IF concat_ws(' ', 'invitation.created', NEW.id) <> ALL (COALESCE(told, '{}')) THEN
            PERFORM authz.record(NEW.workspace_id, 'invitation.created', authz.invitation_document(NEW));
        END IF;
    -- It goes with its workspace, and an expired one was nothing any more.
    ELSIF OLD.expires_at > clock_timestamp()
        AND EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = OLD.workspace_id AND w.deleted_at IS NULL)
        AND NOT COALESCE(told, '{}') && ARRAY[
            concat_ws(' ', 'invitation.accepted', OLD.id),
            concat_ws(' ', 'invitation.replaced', OLD.id),
            concat_ws(' ', 'invitation.revoked', OLD.id),
            concat_ws(' ', 'invitation.voided', OLD.id)
        ]
    THEN
        PERFORM authz.record(OLD.workspace_id, 'invitation.revoked', authz.invitation_document(OLD));
    END IF;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.record_invitation IS
'Trigger, when a transaction commits: records invitations that were made, changed or deleted by hand. One that is
changed is replaced by another.
Returns: NULL.
Called by: trigger record_invitation on authz.workspace_invitations.';
REVOKE ALL ON FUNCTION authz.record_invitation FROM PUBLIC;
CREATE CONSTRAINT TRIGGER record_invitation AFTER INSERT OR UPDATE OR DELETE ON authz.workspace_invitations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION authz.record_invitation();
COMMENT ON TRIGGER record_invitation ON authz.workspace_invitations IS
'Records what was done by hand, when the transaction commits.';

CREATE OR REPLACE FUNCTION authz.see_user(user_id text, email text, verified boolean)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM authz.hold_user(user_id);
    -- First, and so with any e-mail: it names their own workspace. Others are shown a verified one alone.
    PERFORM authz.create_default_workspace(see_user.user_id, see_user.email);
    INSERT INTO authz.users AS u (id, email) VALUES (see_user.user_id, CASE WHEN verified THEN see_user.email END)
    ON CONFLICT ON CONSTRAINT users_pkey DO UPDATE SET email = excluded.email
    WHERE excluded.email IS NOT NULL AND u.email IS DISTINCT FROM excluded.email;
    RETURN CASE
        WHEN EXISTS (
            SELECT FROM authz.outbox AS o
            WHERE o.transaction = pg_current_xact_id_if_assigned() AND o.kind = 'workspace.created'
        ) THEN 'created'
        ELSE 'seen'
    END;
END;
$$;
COMMENT ON FUNCTION authz.see_user IS
'Notes a user who came with a token: creates their first workspace if they are in none, and keeps a proved e-mail
address.
- user_id: the user, by the token''s claim sub.
- email: the token''s e-mail address; NULL if it has none.
- verified: whether the token says that the address is verified; an address that is not is not kept.
Returns: the text created if they got a workspace, else seen.
Raises: AZ020 if they were deleted; else as authz.create_default_workspace.
Called by: authz_sidecar, when a user comes who was not seen for a while.';

CREATE OR REPLACE FUNCTION authz.accept_invitation(
    workspace_id uuid,
    facts_version bigint,
    token_hash text,
    user_id text,
    email text,
    meters text[],
    limits bigint[]
)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz;
    members bigint;
    is_member boolean;
    claimed authz.workspace_invitations;
BEGIN
    PERFORM authz.hold_user(user_id);
    PERFORM authz.decided_by(workspace_id, facts_version);
    moment := clock_timestamp(); -- after the lock
    SELECT w.member_count INTO members FROM authz.workspaces AS w WHERE w.id = accept_invitation.workspace_id;
    is_member := EXISTS (
        SELECT FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = accept_invitation.workspace_id AND m.user_id = accept_invitation.user_id
    );
    IF NOT is_member AND NOT authz.seats_for(workspace_id, members + 1, meters, limits, moment) THEN
        RETURN 'full';
    END IF;

    DELETE FROM authz.workspace_invitations AS i
    WHERE i.token_hash = decode(accept_invitation.token_hash, 'hex')
      AND i.workspace_id = accept_invitation.workspace_id
      AND authz.email_key(i.email) = authz.email_key(accept_invitation.email)
      AND i.expires_at > moment
    RETURNING i.* INTO claimed;
    IF NOT FOUND THEN
        RETURN 'invalid';
    ELSIF is_member THEN
        PERFORM authz.record(workspace_id, 'invitation.voided', authz.invitation_document(claimed));
        RETURN 'member';
    END IF;
    -- Who accepts is the actor, and who invited them has granted it.
    PERFORM
        set_config('authz.invitation', claimed.id::text, true),
        set_config('authz.granted_by', claimed.invited_by, true);
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (claimed.workspace_id, accept_invitation.user_id, claimed.role);
    PERFORM set_config('authz.invitation', '', true), set_config('authz.granted_by', '', true);
    PERFORM authz.record(workspace_id, 'invitation.accepted', authz.invitation_document(claimed));
    RETURN 'joined';
END;
$$;

ALTER FUNCTION authz.store_names(text, jsonb) RENAME TO rename_rows;
COMMENT ON FUNCTION authz.rename_rows IS
'Stores names of one kind otherwise, in all rows that refer to them. Idempotency keys keep answering what they
answered, by the new names. The outbox tells what happened in the names of then, and is left as it is.
- kind: role, feature, meter, plan or action.
- names: {name: new name}; no new name is one of those that are changed.
Returns: nothing.
Raises: 23503 if workspaces have a plan whose new name is not in authz.plans; 20000 for another kind.
Called by: authz.store_names.';
CREATE FUNCTION authz.store_names(kind text, names jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM authz.rename_rows(kind, names);
    -- After the locks: whoever wrote by the former name before has an id below this one.
    PERFORM authz.record(
        '00000000-0000-0000-0000-000000000000', 'names.changed', jsonb_build_object('of', kind, 'names', names)
    );
END;
$$;
COMMENT ON FUNCTION authz.store_names IS
'As authz.rename_rows, and records it once, of no workspace: who reads the history up to now applies it to what was
recorded before.
- kind: role, feature, meter, plan or action.
- names: {name: new name}; no new name is one of those that are changed.
Returns: nothing.
Raises: as authz.rename_rows.
Called by: the owner, in sidecar migrate.';
REVOKE ALL ON FUNCTION authz.store_names FROM PUBLIC;

CREATE FUNCTION authz.record_catalog()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    added jsonb := '[]';
    removed jsonb := '[]';
BEGIN
    IF TG_OP <> 'DELETE' THEN
        SELECT COALESCE(jsonb_agg(to_jsonb(n)), '[]') INTO added FROM new_rows AS n;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        SELECT COALESCE(jsonb_agg(to_jsonb(o)), '[]') INTO removed FROM old_rows AS o;
    END IF;
    IF added <> removed THEN
        PERFORM authz.record('00000000-0000-0000-0000-000000000000', 'catalog.changed', jsonb_build_object(
            'table', TG_TABLE_NAME, 'removed', removed, 'added', added
        ));
    END IF;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.record_catalog IS
'Trigger: records changes of the catalog''s tables that sidecar migrate does not make, of no workspace.
Returns: NULL.
Called by: triggers record_catalog_inserted, _updated and _deleted on the tables of the catalog.';
REVOKE ALL ON FUNCTION authz.record_catalog FROM PUBLIC;

DO $$
DECLARE
    each text;
    event record;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'catalog', 'roles', 'action_roles', 'features', 'meters', 'plans', 'plan_features', 'plan_limits'
    ] LOOP
        FOR event IN
            SELECT * FROM (VALUES
                ('inserted', 'INSERT', 'NEW TABLE AS new_rows'),
                ('updated', 'UPDATE', 'OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                ('deleted', 'DELETE', 'OLD TABLE AS old_rows')
            ) AS v (name, verb, tables)
        LOOP
            EXECUTE format(
                'CREATE TRIGGER record_catalog_%s AFTER %s ON authz.%I REFERENCING %s FOR EACH STATEMENT'
                ' WHEN (current_setting(''authz.publishing'', true) IS DISTINCT FROM ''on'')'
                ' EXECUTE FUNCTION authz.record_catalog()',
                event.name, event.verb, each, event.tables
            );
            EXECUTE format(
                'COMMENT ON TRIGGER record_catalog_%s ON authz.%I IS %L',
                event.name, each, 'Records what is changed by hand.'
            );
        END LOOP;
    END LOOP;
END;
$$;
