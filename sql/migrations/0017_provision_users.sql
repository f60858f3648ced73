-- A user never stays without a workspace. The signup makes one; where that failed, or he has lost the last one since,
-- whoever sees him next calls create_default_workspace, as often as he likes.

ALTER TABLE authz.workspaces
    ADD COLUMN default_of text COLLATE "C",
    ADD CONSTRAINT workspaces_default_of_key UNIQUE (default_of); -- where two sign-ups of one user meet
COMMENT ON COLUMN authz.workspaces.default_of IS
    'The user for whom it was made. It gives him no right: only a membership does.';

DROP FUNCTION authz.create_default_workspace;
CREATE FUNCTION authz.create_default_workspace(user_id text, email text)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- A signup waits for nobody: a slug that somebody else has in a transaction of his own is given up for another one
-- long before two such transactions could be found to be deadlocked.
SET lock_timeout = '100ms'
AS $$
DECLARE
    own_id uuid;
    workspace_name text;
    stem text;
    candidate text;
    plan text;
    founder_role text;
BEGIN
    FOR attempt IN 1..10 LOOP
        SELECT m.workspace_id INTO own_id
        FROM authz.members AS m
        WHERE m.user_id = create_default_workspace.user_id
        ORDER BY m.joined_at, m.workspace_id
        LIMIT 1;
        IF FOUND THEN
            RETURN own_id; -- his already, or made by another session a moment ago
        END IF;

        IF attempt = 1 THEN
            SELECT c.default_plan INTO plan FROM authz.catalog AS c;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate'
                    USING ERRCODE = '55000';
            END IF;
            SELECT r.name INTO founder_role FROM authz.roles AS r ORDER BY r.name = 'owner' DESC, r.rank DESC LIMIT 1;
            workspace_name := btrim(regexp_replace(
                left(split_part(email, '@', 1), 256), '[[:space:][:cntrl:]]+', ' ', 'g'
            ));
            stem := btrim(regexp_replace(lower(workspace_name COLLATE "C"), '[^a-z0-9]+', '-', 'g'), '-');
            stem := rtrim(left(stem, 40), '-');
            IF authz.is_slug(stem) THEN
                candidate := stem;
            ELSE
                candidate := 'workspace';
            END IF;
            stem := candidate;
        ELSE
            candidate := stem || '-' || left(replace(gen_random_uuid()::text, '-', ''), 8);
        END IF;

        BEGIN
            UPDATE authz.workspaces AS w SET default_of = NULL -- one that he has left
            WHERE w.default_of = create_default_workspace.user_id;
            INSERT INTO authz.workspaces AS w (slug, name, plan_tier, default_of)
            VALUES (candidate, COALESCE(NULLIF(workspace_name, ''), candidate), plan, user_id)
            ON CONFLICT DO NOTHING
            RETURNING w.id INTO own_id;
            IF FOUND THEN
                INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
                VALUES (own_id, create_default_workspace.user_id, founder_role);
                RETURN own_id;
            END IF;
        EXCEPTION
            WHEN lock_not_available THEN
                NULL; -- the slug is being taken, or his workspace being made: look again
        END;
    END LOOP;
    RAISE EXCEPTION 'another session is at the workspace of this user' USING ERRCODE = '55P03';
END;
$$;
COMMENT ON FUNCTION authz.create_default_workspace IS
    'The id of a workspace of the user: the first that he joined, else one made now after the e-mail''s local part.';
REVOKE ALL ON FUNCTION authz.create_default_workspace FROM PUBLIC;
