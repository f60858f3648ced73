-- What the functions about people refuse by themselves, whatever the arguments.
BEGIN;

CREATE FUNCTION pg_temp.code_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE;
END;
$$;

DO $$
DECLARE
    acme CONSTANT uuid := (SELECT id FROM authz.workspaces WHERE slug = 'acme');
    seen CONSTANT bigint := (SELECT facts_version FROM authz.workspaces WHERE slug = 'acme');
    attempt text;
BEGIN
    -- Nothing is done if the facts have changed or the workspace does not exist.
    FOREACH attempt IN ARRAY ARRAY[
        'authz.rename_workspace(%L, %s, ''x'')',
        'authz.delete_workspace(%L, %s)',
        'authz.change_role(%L, %s, ''mia'', ''admin'')',
        'authz.remove_member(%L, %s, ''mia'')',
        'authz.transfer_ownership(%L, %s, ''mia'', ''admin'')',
        'authz.invite(%L, %s, gen_random_uuid(), ''olivia'', ''e@x'', ''member'', repeat(''00'', 32), ''{}'', ''{}'')',
        'authz.revoke_invitation(%L, %s, gen_random_uuid())',
        'authz.accept_invitation(%L, %s, repeat(''00'', 32), ''eve'', ''e@x'', ''{}'', ''{}'')'
    ] LOOP
        ASSERT pg_temp.code_of(format('SELECT ' || attempt, acme, seen - 1)) = 'AZ010', attempt;
        ASSERT pg_temp.code_of(format('SELECT ' || attempt, acme, seen + 1)) = 'AZ010', attempt;
        ASSERT pg_temp.code_of(format('SELECT ' || attempt, gen_random_uuid(), seen)) = 'AZ010', attempt;
    END LOOP;

    -- There is one owner: a change of role makes none, and the owner is not removed or lost in a failed transfer.
    PERFORM authz.change_role(acme, seen, 'olivia', 'member'), authz.change_role(acme, seen, 'mia', 'owner');
    PERFORM authz.remove_member(acme, seen, 'olivia');
    ASSERT pg_temp.code_of(format('SELECT authz.transfer_ownership(%L, %s, ''zoe'', ''admin'')', acme, seen)) = 'AZ010';
    ASSERT (SELECT array_agg(user_id || ' ' || role ORDER BY user_id) FROM authz.workspace_memberships
        WHERE workspace_id = acme) = '{adam admin,mia member,olivia owner}';
    ASSERT (SELECT facts_version FROM authz.workspaces WHERE slug = 'acme') = seen;
    ASSERT authz.member_of(acme, 'zoe') IS NULL;
    ASSERT authz.people_of(gen_random_uuid(), NULL, 10)::text = '[]';
END;
$$;

-- An invitation has expired at the very instant of its expiry: a statement has one instant.
DO $$
DECLARE
    acme CONSTANT uuid := (SELECT id FROM authz.workspaces WHERE slug = 'acme');
BEGIN
    INSERT INTO authz.workspace_invitations
        (workspace_id, id, email, role, invited_by, token_hash, created_at, expires_at)
    SELECT
        acme, gen_random_uuid(), email, 'member', 'olivia', sha256(email::bytea), statement_timestamp(),
        statement_timestamp() + more
    FROM (VALUES
        ('before@x', interval '-1 microsecond'), ('at@x', interval '0'), ('after@x', interval '1 microsecond')
    ) AS invited (email, more);

    ASSERT authz.facts('{olivia}', '{acme}') #>> '{0,usage,members,0}' = '4', 'three members and one invitation';
    ASSERT authz.open_invitations(acme, statement_timestamp()) = 1;
    ASSERT authz.open_invitations(acme, statement_timestamp(), 'after@x') = 0;
    ASSERT authz.open_invitations(acme, statement_timestamp() - interval '1 microsecond') = 2;
    ASSERT jsonb_path_query_array(authz.invitations_of(acme, NULL, 10)::jsonb, '$[*].email') = '["after@x"]';
    ASSERT (SELECT array_agg(email) FROM unnest('{before@x,at@x,after@x}'::text[]) AS email
        WHERE authz.is_invited(acme, email)) = '{after@x}';
    ASSERT (SELECT array_agg(email) FROM unnest('{before@x,at@x,after@x}'::text[]) AS email
        WHERE authz.invitation_by_token(encode(sha256(email::bytea), 'hex')) IS NOT NULL) = '{after@x}';
END;
$$;

DO $$
DECLARE
    acme CONSTANT uuid := (SELECT id FROM authz.workspaces WHERE slug = 'acme');
    attempt text;
BEGIN
    FOREACH attempt IN ARRAY ARRAY[
        '''new@x'', ''owner'', ''olivia'', sha256(''1''), now(), now()',
        '''new@x'', ''member'', ''olivia'', ''\x00'', now(), now()',
        '''new@x'', ''member'', ''olivia'', sha256(''2''), now(), now() + interval ''7 days 1 microsecond''',
        '''x'', ''member'', ''olivia'', sha256(''3''), now(), now()',
        '''AT@x'', ''member'', ''olivia'', sha256(''4''), now(), now()',
        '''new@x'', ''member'', ''olivia'', sha256(''at@x''), now(), now()'
    ] LOOP
        ASSERT pg_temp.code_of(format(
            'INSERT INTO authz.workspace_invitations SELECT %L, gen_random_uuid(), %s', acme, attempt
        )) ~ '^23', attempt;
    END LOOP;
END;
$$;

-- A deleted workspace is restored as it was, or purged after its grace period.
DO $$
DECLARE
    acme CONSTANT uuid := (SELECT id FROM authz.workspaces WHERE slug = 'acme');
    before CONSTANT text := (SELECT array_agg(m ORDER BY m.user_id)::text FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = acme);
    told bigint;
BEGIN
    PERFORM authz.delete_workspace(acme, facts_version) FROM authz.workspaces WHERE id = acme;
    ASSERT authz.facts('{olivia,adam,mia}', '{acme,acme,acme}')::text = '[null, null, null]';
    ASSERT pg_temp.code_of('SELECT authz.set_plan(''acme'', ''pro'')') = 'AZ001';
    ASSERT pg_temp.code_of(format('SELECT authz.set_status(%L, ''active'')', acme)) = 'AZ001';
    ASSERT authz.purge_workspaces('1 hour') = 0, 'it has an hour still';
    ASSERT pg_temp.code_of(format('SELECT authz.delete_workspace(%L, facts_version) FROM authz.workspaces
        WHERE id = %L', acme, acme)) = 'AZ010';

    PERFORM authz.restore_workspace(acme);
    ASSERT before = (SELECT array_agg(m ORDER BY m.user_id)::text FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = acme);
    ASSERT NOT EXISTS (SELECT FROM authz.workspace_invitations WHERE workspace_id = acme);
    ASSERT pg_temp.code_of(format('SELECT authz.restore_workspace(%L)', acme)) = 'AZ001';

    PERFORM authz.delete_workspace(acme, facts_version) FROM authz.workspaces WHERE id = acme;
    SELECT max(id) INTO told FROM authz.outbox;
    ASSERT authz.purge_workspaces('0', at_most => 0) = 0;
    ASSERT authz.purge_workspaces('0') = 1;
    ASSERT authz.purge_workspaces('0') = 0;
    ASSERT NOT EXISTS (SELECT FROM authz.workspaces WHERE id = acme);
    ASSERT (SELECT array_agg(kind) FROM authz.outbox WHERE id > told) = '{workspace.purged}';
    ASSERT EXISTS (SELECT FROM authz.outbox WHERE workspace_id = acme AND kind = 'workspace.deleted');
END;
$$;

-- A name becomes a slug, and the same id twice is one workspace.
DO $$
DECLARE
    id CONSTANT uuid := gen_random_uuid();
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['Acme & Sons', '--', '日本', 'A' || repeat('-', 50) || 'B', repeat('x', 256), '', 'ß'] LOOP
        ASSERT authz.is_slug(authz.slug_after(name)), name;
    END LOOP;
    ASSERT authz.slug_after('Acme & Sons') ~ '^acme-sons-[0-9a-f]{8}$';
    ASSERT authz.slug_after('Acme') <> authz.slug_after('Acme');
    ASSERT authz.create_workspace(id, 'una', 'Una')::jsonb = authz.create_workspace(id, 'una', 'Una')::jsonb;
    ASSERT (SELECT count(*) FROM authz.workspaces AS w WHERE w.name = 'Una') = 1;
    ASSERT authz.create_workspace(gen_random_uuid(), 'una', 'Una') ->> 'slug' ~ '^una-[0-9a-f]{8}$';
END;
$$;

-- Provisioning a user is idempotent; others see the last verified e-mail.
DO $$
BEGIN
    PERFORM authz.see_user('una-2', 'una2@x', false);
    ASSERT (SELECT email FROM authz.users WHERE id = 'una-2') IS NULL;
    PERFORM authz.see_user('una-2', 'una2@y', true), authz.see_user('una-2', 'una2@z', false);
    PERFORM authz.see_user('una-2', NULL, false);
    ASSERT (SELECT email FROM authz.users WHERE id = 'una-2') = 'una2@y';
    ASSERT (SELECT array_agg(w.name) FROM authz.workspaces AS w JOIN authz.workspace_memberships AS m
        ON m.workspace_id = w.id AND m.user_id = 'una-2') = '{una2}';
END;
$$;

-- The actor is known until the end of the transaction.
DO $$
BEGIN
    ASSERT (authz.actor(), authz.actor_kind()) = (session_user::text, 'sql');
    PERFORM authz.acting_as('olivia', 'user');
    ASSERT (authz.actor(), authz.actor_kind()) = ('olivia', 'user');
END;
$$;

ROLLBACK;
