-- What members do with a workspace, once the policies have granted it. Each function is told the facts_version that
-- was decided by, and does nothing if it has changed since: AZ010, and the sidecar decides again.

CREATE FUNCTION authz.decided_by(workspace_id uuid, facts_version bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM FROM authz.workspaces AS w
    WHERE w.id = decided_by.workspace_id AND w.facts_version = decided_by.facts_version AND w.deleted_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'workspace % has changed since', workspace_id USING ERRCODE = 'AZ010';
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.decided_by IS
    'Locks the workspace as whoever changes it does, first of all: from here on its facts are those that were seen.';
REVOKE ALL ON FUNCTION authz.decided_by FROM PUBLIC;

DO $$
BEGIN
    IF to_regclass('auth.users') IS NULL THEN
        CREATE FUNCTION authz.email_of(user_id text)
        RETURNS text
        LANGUAGE sql STABLE
        RETURN (SELECT u.email FROM authz.users AS u WHERE u.id = email_of.user_id);
    ELSE
        CREATE FUNCTION authz.email_of(user_id text)
        RETURNS text
        LANGUAGE sql STABLE
        RETURN COALESCE(
            (SELECT u.email FROM authz.users AS u WHERE u.id = email_of.user_id),
            (
                SELECT u.email::text FROM auth.users AS u
                WHERE u.id = CASE
                    WHEN user_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                        THEN user_id::uuid
                END
            )
        );
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.email_of IS 'As the token said that he came with last, else as he signed up.';
REVOKE ALL ON FUNCTION authz.email_of FROM PUBLIC;

CREATE FUNCTION authz.see_user(user_id text, email text, verified boolean)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    -- First, and so with any e-mail: it names his own workspace. Others are shown a verified one alone.
    PERFORM authz.create_default_workspace(see_user.user_id, see_user.email);
    INSERT INTO authz.users AS u (id, email) VALUES (see_user.user_id, CASE WHEN verified THEN see_user.email END)
    ON CONFLICT ON CONSTRAINT users_pkey DO UPDATE SET email = excluded.email
    WHERE excluded.email IS NOT NULL AND u.email IS DISTINCT FROM excluded.email;
    RETURN 'seen';
END;
$$;
COMMENT ON FUNCTION authz.see_user IS
    'A user with a token: he is known from now on, and has a workspace as after a signup. As often as one likes.';
REVOKE ALL ON FUNCTION authz.see_user FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.see_user TO authz_sidecar;

CREATE FUNCTION authz.slug_after(name text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = ''
AS $$
DECLARE
    stem CONSTANT text := rtrim(left(btrim(regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g'), '-'), 40), '-');
BEGIN
    RETURN CASE WHEN authz.is_slug(stem) THEN stem ELSE 'workspace' END;
END;
$$;
REVOKE ALL ON FUNCTION authz.slug_after FROM PUBLIC;

CREATE FUNCTION authz.create_workspace(workspace_id uuid, user_id text, name text)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    stem CONSTANT text := authz.slug_after(create_workspace.name);
    candidate text := stem;
    founder_role text;
BEGIN
    LOOP
        INSERT INTO authz.workspaces (id, slug, name, plan_tier)
        SELECT create_workspace.workspace_id, candidate, create_workspace.name, c.default_plan FROM authz.catalog AS c
        ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        -- The id is the sidecar's, and new for each question: if it is there, this is the second time.
        EXIT WHEN EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = create_workspace.workspace_id);
        IF NOT EXISTS (SELECT FROM authz.catalog) THEN
            RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate';
        END IF;
        candidate := stem || '-' || left(replace(gen_random_uuid()::text, '-', ''), 8);
    END LOOP;
    SELECT r.name INTO founder_role FROM authz.roles AS r ORDER BY r.name = 'owner' DESC, r.rank DESC LIMIT 1;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (create_workspace.workspace_id, create_workspace.user_id, founder_role)
    ON CONFLICT ON CONSTRAINT workspace_memberships_pkey DO NOTHING;
    RETURN (
        SELECT json_build_object(
            'id', w.id, 'name', w.name, 'slug', w.slug, 'plan_tier', w.plan_tier, 'role', founder_role
        )
        FROM authz.workspaces AS w
        WHERE w.id = create_workspace.workspace_id
    );
END;
$$;
COMMENT ON FUNCTION authz.create_workspace IS
    'On the default plan, under a slug made of its name; its founder is the owner. The same id twice is one workspace.';
REVOKE ALL ON FUNCTION authz.create_workspace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.create_workspace TO authz_sidecar;

CREATE FUNCTION authz.rename_workspace(workspace_id uuid, facts_version bigint, name text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    UPDATE authz.workspaces AS w SET name = rename_workspace.name WHERE w.id = rename_workspace.workspace_id;
    RETURN 'renamed';
END;
$$;
COMMENT ON FUNCTION authz.rename_workspace IS 'The slug stays: links lead by it.';
REVOKE ALL ON FUNCTION authz.rename_workspace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.rename_workspace TO authz_sidecar;

CREATE FUNCTION authz.delete_workspace(workspace_id uuid, facts_version bigint)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
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
    DELETE FROM authz.workspace_invitations AS i WHERE i.workspace_id = delete_workspace.workspace_id;
    DELETE FROM authz.workspace_memberships AS m WHERE m.workspace_id = delete_workspace.workspace_id;
    RETURN 'deleted';
END;
$$;
COMMENT ON FUNCTION authz.delete_workspace IS 'Until purge_workspaces, restore_workspace brings it back.';
REVOKE ALL ON FUNCTION authz.delete_workspace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.delete_workspace TO authz_sidecar;
