-- A user who signs up gets a workspace of their own, and a signup never fails because that did.
BEGIN;

DO $$
DECLARE
    email text;
    own record;
    number integer := 0;
BEGIN
    FOREACH email IN ARRAY ARRAY[
        'zoe@example.com', 'ZOE@example.com', '@example.com', '', '...@x', 'ä@x', 'a--b..c@x', NULL, '-@-',
        '0123456789abcdef0123456789abcdef@x', '3f2b8a52-1111-4222-8333-444455556666@x', repeat('x', 500) || '@x',
        repeat('a', 39) || '-' || repeat('b', 30) || '@x', 'no at sign', E'quote\'"\\@x', repeat('ä', 300),
        '   @x', E'two\r\nlines\t@x', E'\u0001\u001b[31m@x', E'\u202egnp@x', repeat('x@', 100000), 'İSTANBUL@x'
    ] LOOP
        number := number + 1;
        INSERT INTO authz.users (id, email) VALUES ('new-' || number, email);
        SELECT w.slug, w.name, w.plan_tier, m.role INTO own
        FROM authz.workspace_memberships AS m JOIN authz.workspaces AS w ON w.id = m.workspace_id
        WHERE m.user_id = 'new-' || number;
        ASSERT FOUND, format('%s has no workspace', email);
        ASSERT own.plan_tier = 'starter' AND own.role = 'owner', own::text;
        ASSERT authz.is_slug(own.slug), own::text;
        ASSERT own.name !~ '[[:cntrl:]]' AND own.name = btrim(own.name), own::text;
    END LOOP;

    -- A user who is in a workspace already gets none.
    ASSERT (SELECT count(*) FROM authz.workspace_memberships WHERE user_id = 'adam') = 1;
    PERFORM authz.create_default_workspace('new-1', 'zoe@example.com');
    ASSERT (SELECT count(*) FROM authz.workspace_memberships WHERE user_id = 'new-1') = 1;

    -- Hundreds of users have the same e-mail and different slugs.
    INSERT INTO authz.users (id, email) SELECT 'info-' || n, 'info@example.com' FROM generate_series(1, 300) AS n;
    ASSERT (SELECT count(DISTINCT w.slug) FROM authz.users AS u CROSS JOIN authz.get_user_workspaces(u.id) AS w
        WHERE u.email = 'info@example.com' AND w.slug ~ '^info-[0-9a-f]{8}$' AND w.role = 'owner') = 300;
    -- As many in one transaction, and none holds an entry of the lock table that all sessions share.
    ASSERT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid());
END;
$$;

-- A user without a workspace gets one when provisioned, once.
DO $$
DECLARE
    made CONSTANT uuid := authz.create_default_workspace(user_id => 'late', email => 'late@example.com');
    refused text;
BEGIN
    ASSERT (SELECT w.workspace_id FROM authz.get_user_workspaces('late') AS w) = made;
    ASSERT authz.create_default_workspace('late', 'other@example.com') = made;
    FOREACH refused IN ARRAY ARRAY[repeat('x', 300), '', NULL] LOOP
        BEGIN
            PERFORM authz.create_default_workspace(refused, 'x@example.com');
        EXCEPTION
            WHEN integrity_constraint_violation THEN
                CONTINUE;
        END;
        RAISE EXCEPTION 'a workspace for the user "%"', refused;
    END LOOP;
END;
$$;

DO $$
DECLARE
    first_id uuid := authz.create_default_workspace('late', NULL);
    second_id uuid;
BEGIN
    -- A user removed from every workspace gets a new one; the former workspace stays with its members.
    INSERT INTO authz.workspace_memberships VALUES (first_id, 'heir', 'admin');
    DELETE FROM authz.workspace_memberships WHERE user_id = 'late';
    UPDATE authz.workspace_memberships SET role = 'owner' WHERE user_id = 'heir';
    second_id := authz.create_default_workspace('late', NULL);
    ASSERT second_id <> first_id AND authz.get_workspace_role('late', second_id) = 'owner';
    ASSERT authz.get_workspace_role('heir', first_id) = 'owner';

    -- So does a user whose only role is no longer declared, who keeps that role.
    UPDATE authz.workspace_memberships SET role = 'janitor' WHERE user_id = 'heir';
    ASSERT authz.create_default_workspace('heir', NULL) <> first_id;
    ASSERT EXISTS (SELECT FROM authz.workspace_memberships WHERE workspace_id = first_id AND user_id = 'heir');

    -- If the catalog has no role owner, the founder gets the most senior role.
    DELETE FROM authz.roles WHERE name = 'owner';
    first_id := authz.create_default_workspace('flat', NULL);
    ASSERT authz.get_workspace_role('flat', first_id) = 'admin';

    -- A signup succeeds before a catalog is published; the workspace is made up for afterwards.
    DELETE FROM authz.catalog;
    INSERT INTO authz.users (id, email) VALUES ('early', 'early@example.com');
    ASSERT EXISTS (SELECT FROM authz.users WHERE id = 'early');
    ASSERT NOT EXISTS (SELECT FROM authz.workspace_memberships WHERE user_id = 'early');
    INSERT INTO authz.catalog (revision, default_plan) VALUES ('dev', 'starter');
    PERFORM authz.create_default_workspace(u.id, u.email) FROM authz.users AS u;
    ASSERT (SELECT w.name FROM authz.get_user_workspaces('early') AS w) = 'early';
END;
$$;

ROLLBACK;
