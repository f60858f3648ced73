-- Two people are two people, and a deleted one stays deleted: e-mails are compared without folding, a tombstone stands
-- where no auth.users says who exists, and a slug tells nothing of what there is.

CREATE FUNCTION authz.email_key(email text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN normalize(lower(email COLLATE "C"), NFC);
COMMENT ON FUNCTION authz.email_key IS
    'What two spellings of one e-mail address have in common: in lower case as far as ASCII goes, then in NFC. Not
case-folded, which would make one address of two: strasse and straße.
- email: the address, as typed.
Returns: the key; NULL for NULL.
Called by: the unique index of authz.workspace_invitations, and all functions that compare addresses.';
REVOKE ALL ON FUNCTION authz.email_key FROM PUBLIC;

ALTER TABLE authz.workspace_invitations DROP CONSTRAINT workspace_invitations_email_key;
CREATE UNIQUE INDEX workspace_invitations_email_key
    ON authz.workspace_invitations (workspace_id, authz.email_key(email));
COMMENT ON INDEX authz.workspace_invitations_email_key IS
    'One invitation for each address in a workspace, however it is spelt. It gives pages in the order of addresses.';
COMMENT ON COLUMN authz.workspace_invitations.email IS
    'The address that it is for, as typed: only who proves this address (authz.email_key) can accept.';

CREATE OR REPLACE FUNCTION authz.open_invitations(workspace_id uuid, moment timestamptz, but_of text DEFAULT NULL)
RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT count(*)
    FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = open_invitations.workspace_id
      AND i.expires_at > open_invitations.moment
      AND authz.email_key(i.email) IS DISTINCT FROM authz.email_key(open_invitations.but_of);
END;

CREATE OR REPLACE FUNCTION authz.is_invited(workspace_id uuid, email text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.workspace_invitations AS i
        WHERE i.workspace_id = is_invited.workspace_id
          AND authz.email_key(i.email) = authz.email_key(is_invited.email)
          AND i.expires_at > statement_timestamp()
    );
END;
$$;
COMMENT ON FUNCTION authz.is_invited IS
    'Whether an address has an open invitation, whose seat a new one would take over.
- workspace_id: the workspace.
- email: the address.
Returns: true or false.
Called by: authz_sidecar, when somebody is invited and there is no other seat.';

CREATE FUNCTION authz.has_member(workspace_id uuid, email text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = has_member.workspace_id
          AND authz.email_key(authz.email_of(m.user_id)) = authz.email_key(has_member.email)
    );
END;
$$;
COMMENT ON FUNCTION authz.has_member IS 'Whether somebody with an address is in a workspace, as the list of members shows it.
- workspace_id: the workspace.
- email: the address.
Returns: true or false.
Called by: authz_sidecar, when somebody is invited by who may list the members.';
REVOKE ALL ON FUNCTION authz.has_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.has_member TO authz_sidecar;

CREATE OR REPLACE FUNCTION authz.invite(
    workspace_id uuid,
    facts_version bigint,
    id uuid,
    invited_by text,
    email text,
    role text,
    token_hash text,
    meters text[],
    limits bigint[]
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    moment timestamptz;
    members bigint;
    made authz.workspace_invitations;
    replaced authz.workspace_invitations;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    moment := clock_timestamp(); -- after the lock
    SELECT w.member_count INTO members FROM authz.workspaces AS w WHERE w.id = invite.workspace_id;
    IF NOT authz.seats_for(
        workspace_id, members + authz.open_invitations(workspace_id, moment, email) + 1, meters, limits, moment
    ) THEN
        RETURN NULL;
    END IF;

    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = invite.workspace_id AND i.expires_at <= moment;
    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = invite.workspace_id AND authz.email_key(i.email) = authz.email_key(invite.email)
    RETURNING i.* INTO replaced;
    IF FOUND THEN
        PERFORM authz.record(workspace_id, 'invitation.replaced', authz.invitation_document(replaced));
    END IF;
    INSERT INTO authz.workspace_invitations AS i
        (workspace_id, id, email, role, invited_by, token_hash, created_at, expires_at)
    VALUES (
        invite.workspace_id,
        invite.id,
        invite.email,
        invite.role,
        invite.invited_by,
        decode(invite.token_hash, 'hex'),
        moment,
        moment + interval '7 days'
    )
    RETURNING i.* INTO made;
    PERFORM authz.record(workspace_id, 'invitation.created', authz.invitation_document(made));
    RETURN authz.invitation_document(made);
END;
$$;
COMMENT ON FUNCTION authz.invite IS
    'Makes an invitation for 7 days, if there is a seat. An open one for the same address is replaced; expired ones of the
workspace are deleted.
- workspace_id: the workspace.
- facts_version: its facts_version when the invitation was decided.
- id: the UUID of the new invitation.
- invited_by: the user who invites.
- email: the address, as typed.
- role: the role offered; never owner.
- token_hash: SHA-256 of the token, 64 hexadecimal digits.
- meters: the meters that count members.
- limits: the limit of each, in the order of meters; NULL is unlimited.
Returns: as authz.invitation_document, with times in UTC; NULL if there is no seat.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, to invite.';

CREATE OR REPLACE FUNCTION authz.invitations_of(workspace_id uuid, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(authz.invitation_document(page) ORDER BY authz.email_key(page.email)), '[]')
        FROM (
            SELECT i.*
            FROM authz.workspace_invitations AS i
            WHERE i.workspace_id = invitations_of.workspace_id
              AND i.expires_at > statement_timestamp()
              AND authz.email_key(i.email) > authz.email_key(COALESCE(invitations_of.after, ''))
            ORDER BY authz.email_key(i.email)
            LIMIT invitations_of.at_most
        ) AS page
    );
END;
$$;

CREATE OR REPLACE FUNCTION authz.invitation_by_token(token_hash text)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (
        SELECT authz.invitation_document(i)
            -- The key, which a sidecar of before this migration too finds equal to what was proved.
            || jsonb_build_object('email', authz.email_key(i.email), 'workspace_id', w.id, 'members', w.member_count)
        FROM authz.workspace_invitations AS i
        JOIN authz.workspaces AS w ON w.id = i.workspace_id
        WHERE i.token_hash = decode(invitation_by_token.token_hash, 'hex')
          AND i.expires_at > statement_timestamp()
    );
END;
$$;
COMMENT ON FUNCTION authz.invitation_by_token IS 'Finds the open invitation that a token is of.
- token_hash: SHA-256 of the token, 64 hexadecimal digits.
Returns: as authz.invitation_document, but with the key of the address (authz.email_key), and with workspace_id and
members (how many the workspace has), and times in UTC; NULL if there is no open one.
Called by: authz_sidecar, before an invitation is accepted.';

CREATE TABLE authz.deleted_users (
    id text COLLATE "C" NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT deleted_users_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE authz.deleted_users IS
    'Tombstones: users who were deleted in the last 30 days, whose tokens may still be good. With Supabase nobody reads
them: auth.users says who exists.';
COMMENT ON COLUMN authz.deleted_users.id IS 'The user.';
COMMENT ON COLUMN authz.deleted_users.deleted_at IS 'When they were deleted.';
COMMENT ON CONSTRAINT deleted_users_pkey ON authz.deleted_users IS 'One row for each user.';
CREATE INDEX deleted_users_deleted_at_idx ON authz.deleted_users (deleted_at);
COMMENT ON INDEX authz.deleted_users_deleted_at_idx IS 'Finds the tombstones that have stood long enough.';

-- In queries it stands in place of the call: SECURITY DEFINER or SET would prevent that.
DO $$
BEGIN
    IF to_regclass('auth.users') IS NULL THEN
        CREATE FUNCTION authz.is_somebody(user_id text)
        RETURNS boolean
        LANGUAGE sql STABLE
        RETURN NOT EXISTS (
            SELECT FROM authz.deleted_users AS d
            WHERE d.id = is_somebody.user_id AND d.deleted_at > statement_timestamp() - interval '30 days'
        );
    ELSE
        EXECUTE format(
            $sql$
            CREATE FUNCTION authz.is_somebody(user_id text)
            RETURNS boolean
            LANGUAGE sql STABLE
            RETURN EXISTS (
                SELECT FROM auth.users AS u
                WHERE u.id = CASE
                    WHEN is_somebody.user_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                        THEN is_somebody.user_id::uuid
                END %s
            )
            $sql$,
            CASE WHEN EXISTS (
                SELECT FROM pg_attribute AS a
                WHERE a.attrelid = 'auth.users'::regclass AND a.attname = 'deleted_at' AND NOT a.attisdropped
            ) THEN 'AND u.deleted_at IS NULL' END
        );
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.is_somebody IS
    'Whether a user exists. With Supabase (auth.users was there at migration): they are in auth.users, and not deleted
softly. Elsewhere: they were not deleted in the last 30 days, so that one whom nobody has seen exists.
- user_id: the user.
Returns: true or false.
Called by: authz.hold_user, authz.standing_of, authz.asked, and the views authz.members and authz.member_facts.';
REVOKE ALL ON FUNCTION authz.is_somebody FROM PUBLIC;

CREATE FUNCTION authz.hold_user(user_id text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A deletion waits for us, or we for it; then the next statement sees that they are gone.
    PERFORM FROM authz.users AS u WHERE u.id = hold_user.user_id FOR KEY SHARE;
    IF NOT authz.is_somebody(user_id) THEN
        RAISE EXCEPTION 'user % was deleted', user_id USING ERRCODE = 'AZ020';
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.hold_user IS
    'Keeps a user from being deleted until the transaction ends: whatever makes one a member begins with this, before any
other lock, since a deletion locks the user first too.
- user_id: the user.
Returns: nothing.
Raises: AZ020 if they do not exist (authz.is_somebody).
Called by: authz.see_user, authz.found_workspace, authz.create_workspace and authz.accept_invitation.';
REVOKE ALL ON FUNCTION authz.hold_user FROM PUBLIC;

CREATE FUNCTION authz.lift_tombstones()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM authz.deleted_users AS d USING new_rows AS n WHERE d.id = n.id;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.lift_tombstones IS
    'Trigger: a user who is inserted again exists again. The sidecar itself inserts nobody who has a tombstone.
Returns: NULL.
Called by: trigger lift_tombstones on authz.users.';
REVOKE ALL ON FUNCTION authz.lift_tombstones FROM PUBLIC;
CREATE TRIGGER lift_tombstones AFTER INSERT ON authz.users
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.lift_tombstones();
COMMENT ON TRIGGER lift_tombstones ON authz.users IS 'Lifts the tombstones of users who are inserted again.';

CREATE OR REPLACE FUNCTION authz.forget_users(users text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    left_ids uuid[];
    ownerless_ids uuid[];
BEGIN
    DELETE FROM authz.deleted_users AS d WHERE d.deleted_at <= clock_timestamp() - interval '30 days';
    INSERT INTO authz.deleted_users AS d (id)
    SELECT gone.id FROM unnest(users) AS gone (id)
    WHERE gone.id IS NOT NULL AND NOT EXISTS (SELECT FROM authz.users AS u WHERE u.id = gone.id)
    GROUP BY gone.id
    ORDER BY gone.id
    ON CONFLICT ON CONSTRAINT deleted_users_pkey DO UPDATE SET deleted_at = excluded.deleted_at;

    -- Of a workspace that will go its counters come first, since whoever takes quota holds them when locking the
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
    -- Whoever joins, leaves or moves ownership in one of them waits, or we wait for them; in the order of their ids, so
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
    -- The owner goes before the heir is made owner: at no time may there be two (workspace_memberships_owner_key).
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
COMMENT ON FUNCTION authz.forget_users IS
    'Removes users from every workspace, and from the members that deleted workspaces would be restored with. Where one
was the owner, ownership goes on as in authz.hand_over. A workspace that nobody is left in is deleted for good.
Whoever is not in authz.users gets a tombstone for 30 days; older ones are deleted. Locks usage first, then the
workspaces in the order of their ids, so that it cannot deadlock with others.
- users: their user ids.
Returns: nothing.
Called by: authz.forget_deleted_users; the owner, by hand, for users that neither authz.users nor auth.users knows.';

CREATE FUNCTION authz.owner_role()
RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT r.name FROM authz.roles AS r ORDER BY r.name = 'owner' DESC, r.rank DESC LIMIT 1);
COMMENT ON FUNCTION authz.owner_role IS 'The role of who creates a workspace.
Returns: owner, or the most senior role if the catalog has no owner.
Called by: authz.create_default_workspace, authz.create_workspace and authz.ownership_of.';
REVOKE ALL ON FUNCTION authz.owner_role FROM PUBLIC;

DROP FUNCTION authz.slug_after;
CREATE FUNCTION authz.slug_after(name text)
RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stem CONSTANT text := rtrim(left(
        btrim(regexp_replace(lower(name COLLATE "C"), '[^a-z0-9]+', '-', 'g'), '-'), 40
    ), '-');
BEGIN
    RETURN CASE WHEN authz.is_slug(stem) THEN stem ELSE 'workspace' END
        || '-' || left(replace(gen_random_uuid()::text, '-', ''), 8);
END;
$$;
COMMENT ON FUNCTION authz.slug_after IS
    'Makes a slug out of a name: lower case, runs of other characters as one -, at most 40 characters, and always a random
suffix, so that it does not tell whether the name is taken.
- name: the name.
Returns: the slug, another one at each call; workspace and the suffix if nothing usable is left of the name.
Called by: authz.create_workspace and authz.create_default_workspace.';
REVOKE ALL ON FUNCTION authz.slug_after FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.create_default_workspace(user_id text, email text)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- A signup waits for nobody, long before two such transactions could be found to be deadlocked.
SET lock_timeout = '100ms'
AS $$
DECLARE
    own_id uuid;
    workspace_name text;
    plan text;
BEGIN
    FOR attempt IN 1..10 LOOP
        SELECT m.workspace_id INTO own_id
        FROM authz.workspace_memberships AS m
        JOIN authz.roles AS r ON r.name = m.role
        WHERE m.user_id = create_default_workspace.user_id
        ORDER BY m.joined_at, m.workspace_id
        LIMIT 1;
        IF FOUND THEN
            RETURN own_id; -- theirs already, or made by another session a moment ago
        END IF;

        IF attempt = 1 THEN
            SELECT c.default_plan INTO plan FROM authz.catalog AS c;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate'
                    USING ERRCODE = '55000';
            END IF;
            workspace_name := btrim(regexp_replace(
                left(split_part(email, '@', 1), 256), '[[:space:][:cntrl:]]+', ' ', 'g'
            ));
        END IF;

        BEGIN
            -- One that they have left; not one that another session has made since we looked.
            UPDATE authz.workspaces AS w SET default_of = NULL
            WHERE w.default_of = create_default_workspace.user_id
              AND NOT EXISTS (
                  SELECT FROM authz.workspace_memberships AS m
                  JOIN authz.roles AS r ON r.name = m.role
                  WHERE m.workspace_id = w.id AND m.user_id = create_default_workspace.user_id
              );
            INSERT INTO authz.workspaces AS w (slug, name, plan_tier, default_of)
            VALUES (
                authz.slug_after(COALESCE(workspace_name, '')),
                COALESCE(NULLIF(workspace_name, ''), 'workspace'),
                plan,
                user_id
            )
            ON CONFLICT DO NOTHING
            RETURNING w.id INTO own_id;
            IF FOUND THEN
                INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
                VALUES (own_id, create_default_workspace.user_id, authz.owner_role());
                RETURN own_id;
            END IF;
        EXCEPTION
            WHEN lock_not_available THEN
                NULL; -- their workspace is being made: look again
        END;
    END LOOP;
    RAISE EXCEPTION 'another session is at the workspace of this user' USING ERRCODE = '55P03';
END;
$$;
COMMENT ON FUNCTION authz.create_default_workspace IS
    'Gives a user who is in no workspace one of their own: on the default plan, with them as owner (or in the most
senior role, if the catalog has no owner), with a slug after the e-mail address''s local part (authz.slug_after). It
may be called again at any time, and by many sessions at once. It waits for a lock for at most 100 ms at a time.
- user_id: the user.
- email: their e-mail address, which only names the workspace; NULL: it is named workspace.
Returns: the id of the workspace that they joined first, or of the new one.
Raises: 55000 if no catalog is published; 55P03 if other sessions kept it from ending in 10 attempts.
Called by: authz.create_default_workspace_for_user and authz.see_user; the owner, by hand and in sidecar load.';

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
    RETURN 'seen';
END;
$$;
COMMENT ON FUNCTION authz.see_user IS
    'Notes a user who came with a token: creates their first workspace if they are in none, and keeps a proved e-mail
address.
- user_id: the user, by the token''s claim sub.
- email: the token''s e-mail address; NULL if it has none.
- verified: whether the token says that the address is verified; an address that is not is not kept.
Returns: the text seen.
Raises: AZ020 if they were deleted; else as authz.create_default_workspace.
Called by: authz_sidecar, when a user comes who was not seen for a while.';

CREATE FUNCTION authz.standing_of(user_id text)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN NOT authz.is_somebody(standing_of.user_id) THEN 'nobody'
        WHEN EXISTS (
            SELECT FROM authz.workspace_memberships AS m
            JOIN authz.roles AS r ON r.name = m.role
            WHERE m.user_id = standing_of.user_id
        ) THEN 'member'
        ELSE 'homeless'
    END;
END;
$$;
COMMENT ON FUNCTION authz.standing_of IS 'What there is of a user.
- user_id: the user.
Returns: nobody if they were deleted (authz.is_somebody); homeless if they are in no workspace, as
authz.create_default_workspace sees it; else member.
Called by: authz_sidecar, before a workspace is made for a user, and where a token''s user is no member.';
REVOKE ALL ON FUNCTION authz.standing_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.standing_of TO authz_sidecar;

CREATE FUNCTION authz.ownership_of(user_id text, OUT oldest uuid, OUT owned bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT (array_agg(w.id ORDER BY w.created_at, w.id))[1], count(*) INTO oldest, owned
    FROM authz.workspace_memberships AS m
    JOIN authz.workspaces AS w ON w.id = m.workspace_id AND w.deleted_at IS NULL
    WHERE m.user_id = ownership_of.user_id AND m.role = authz.owner_role();
END;
$$;
COMMENT ON FUNCTION authz.ownership_of IS 'The workspaces that a user owns, suspended ones too.
- user_id: the user.
- oldest: (result) the one that was created first. NULL: there is none.
- owned: (result) how many there are.
Returns: one row.
Called by: authz.oldest_owned and authz.found_workspace.';
REVOKE ALL ON FUNCTION authz.ownership_of FROM PUBLIC;

CREATE FUNCTION authz.oldest_owned(user_id text)
RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT o.oldest FROM authz.ownership_of(user_id) AS o);
END;
$$;
COMMENT ON FUNCTION authz.oldest_owned IS
    'The workspace in which it is asked whether a user may create another one: the oldest that they own.
- user_id: the user.
Returns: its id; NULL if they own none.
Called by: authz_sidecar, before a user creates a workspace.';
REVOKE ALL ON FUNCTION authz.oldest_owned FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.oldest_owned TO authz_sidecar;

CREATE OR REPLACE FUNCTION authz.create_workspace(workspace_id uuid, user_id text, name text)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    founder_role CONSTANT text := authz.owner_role();
BEGIN
    PERFORM authz.hold_user(user_id);
    LOOP
        INSERT INTO authz.workspaces (id, slug, name, plan_tier)
        SELECT
            create_workspace.workspace_id,
            authz.slug_after(create_workspace.name),
            create_workspace.name,
            c.default_plan
        FROM authz.catalog AS c
        ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        -- The id is the sidecar's, and new for each question: if it is there, this is the second time.
        EXIT WHEN EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = create_workspace.workspace_id);
        IF NOT EXISTS (SELECT FROM authz.catalog) THEN
            RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate';
        END IF;
    END LOOP;
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
    'Creates a workspace on the default plan, with a slug after its name (authz.slug_after) and the user as owner, or in
the most senior role if the catalog has no owner. A second call with the same id creates nothing more.
- workspace_id: the UUID of the new workspace, chosen by the sidecar, so that a retry creates it once.
- user_id: the user who creates it.
- name: its name, 1 to 256 characters.
Returns: {id, name, slug, plan_tier, role}.
Raises: AZ020 if the user was deleted; P0001 if no catalog is published.
Called by: authz_sidecar, where no action workspaces.create is declared, and authz.found_workspace.';

CREATE FUNCTION authz.found_workspace(
    workspace_id uuid, user_id text, name text, decided_in uuid, facts_version bigint, owned_at_most bigint
)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before record;
BEGIN
    PERFORM authz.hold_user(user_id);
    PERFORM pg_advisory_xact_lock(7025, hashtext(user_id)); -- one at a time for each user
    IF NOT EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = found_workspace.workspace_id) THEN
        SELECT o.oldest, o.owned INTO before FROM authz.ownership_of(user_id) AS o;
        IF before.oldest IS DISTINCT FROM decided_in THEN
            RAISE EXCEPTION 'the workspaces of user % have changed since', user_id USING ERRCODE = 'AZ010';
        END IF;
        IF decided_in IS NOT NULL THEN
            PERFORM authz.decided_by(decided_in, facts_version);
        END IF;
        IF before.owned > owned_at_most THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN authz.create_workspace(workspace_id, user_id, name);
END;
$$;
COMMENT ON FUNCTION authz.found_workspace IS
    'As authz.create_workspace, by a decision about the action workspaces.create, if there is still room.
- workspace_id: the UUID of the new workspace.
- user_id: the user who creates it.
- name: its name, 1 to 256 characters.
- decided_in: the workspace that it was decided in, authz.oldest_owned; NULL: the user owned none.
- facts_version: its facts_version when it was decided; NULL where there was none.
- owned_at_most: how many workspaces the user may own before it; NULL is unlimited.
Returns: as authz.create_workspace; NULL if they own more.
Raises: AZ010 if decided_in has changed since or is not the oldest any more; else as authz.create_workspace.
Called by: authz_sidecar, to create a workspace.';
REVOKE ALL ON FUNCTION authz.found_workspace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.found_workspace TO authz_sidecar;

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
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (claimed.workspace_id, accept_invitation.user_id, claimed.role);
    PERFORM authz.record(workspace_id, 'invitation.accepted', authz.invitation_document(claimed));
    RETURN 'joined';
END;
$$;
COMMENT ON FUNCTION authz.accept_invitation IS
    'Makes a user a member by an invitation, if there is a seat, and deletes the invitation. Of who is a member already it
is deleted too, and nothing else changes.
- workspace_id: the workspace.
- facts_version: its facts_version when the inviter''s right was decided; of a member, when they were seen to be one.
- token_hash: SHA-256 of the token, 64 hexadecimal digits.
- user_id: the user who accepts.
- email: the address that they proved; it must be the invitation''s (authz.email_key).
- meters: the meters that count members.
- limits: the limit of each, in the order of meters; NULL is unlimited.
Returns: joined; member if they were one; full if there is no seat; invalid if the invitation is not open or not for
this address.
Raises: AZ010 if the workspace has changed since; AZ020 if the user was deleted.
Called by: authz_sidecar, when an invitation is accepted.';

CREATE OR REPLACE VIEW authz.members AS
SELECT m.workspace_id, m.user_id, m.role, r.rank, m.joined_at
FROM authz.workspace_memberships AS m
JOIN authz.roles AS r ON r.name = m.role
WHERE authz.is_somebody(m.user_id);
COMMENT ON VIEW authz.members IS
    'The memberships that make a member: those in a role that the catalog declares, as the policies see it, of users who
exist (authz.is_somebody).';
