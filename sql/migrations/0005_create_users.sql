-- Whoever signs up gets a workspace of his own. With Supabase the users are its auth.users; elsewhere authz.users.

CREATE TABLE authz.users (
    id text COLLATE "C" NOT NULL,
    email text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_id_check CHECK (length(id) BETWEEN 1 AND 256)
);

CREATE FUNCTION authz.create_default_workspace(user_id text, email text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    local_part CONSTANT text := COALESCE(NULLIF(split_part(email, '@', 1), ''), 'workspace');
    stem text := left(btrim(regexp_replace(lower(local_part), '[^a-z0-9]+', '-', 'g'), '-'), 40);
    candidate text;
    new_id uuid;
BEGIN
    -- Two sign-ups of one user at once: the second waits, and finds the workspace of the first.
    PERFORM pg_advisory_xact_lock(hashtextextended(user_id, 7023));
    IF EXISTS (SELECT FROM authz.workspace_memberships AS m WHERE m.user_id = create_default_workspace.user_id) THEN
        RETURN;
    END IF;

    stem := rtrim(stem, '-');
    IF NOT authz.is_slug(stem) THEN
        stem := 'workspace';
    END IF;
    candidate := stem;
    LOOP
        INSERT INTO authz.workspaces AS w (slug, name, plan_tier)
        SELECT candidate, left(local_part, 256), c.default_plan FROM authz.catalog AS c
        ON CONFLICT ON CONSTRAINT workspaces_slug_key DO NOTHING
        RETURNING w.id INTO new_id;
        EXIT WHEN new_id IS NOT NULL;
        IF NOT EXISTS (SELECT FROM authz.catalog) THEN
            RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate';
        END IF;
        candidate := stem || '-' || left(replace(gen_random_uuid()::text, '-', ''), 8);
    END LOOP;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (new_id, create_default_workspace.user_id, 'owner');
END;
$$;
COMMENT ON FUNCTION authz.create_default_workspace IS
    'A workspace with a slug of its own, after the e-mail''s local part; nothing for who has any workspace.';
REVOKE ALL ON FUNCTION authz.create_default_workspace FROM PUBLIC;

CREATE FUNCTION authz.create_default_workspace_for_user()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM authz.create_default_workspace(NEW.id::text, NEW.email::text);
    RETURN NULL;
EXCEPTION
    WHEN OTHERS THEN
        -- A signup must not fail for want of a workspace: it can be made up for, the user may not come back.
        RAISE WARNING 'user % has no workspace of his own: % (%)', NEW.id, SQLERRM, SQLSTATE;
        RETURN NULL;
END;
$$;
REVOKE ALL ON FUNCTION authz.create_default_workspace_for_user FROM PUBLIC;

DO $$
BEGIN
    IF to_regclass('auth.users') IS NULL THEN
        CREATE TRIGGER on_auth_user_created AFTER INSERT ON authz.users
            FOR EACH ROW EXECUTE FUNCTION authz.create_default_workspace_for_user();
    ELSE
        CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users
            FOR EACH ROW EXECUTE FUNCTION authz.create_default_workspace_for_user();
    END IF;
END;
$$;
