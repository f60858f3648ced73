-- Whoever signs up gets a workspace of his own, and a signup never fails for want of one.
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

    -- Who is somewhere already gets none; neither does who has got one.
    ASSERT (SELECT count(*) FROM authz.workspace_memberships WHERE user_id = 'adam') = 1;
    PERFORM authz.create_default_workspace('new-1', 'zoe@example.com');
    ASSERT (SELECT count(*) FROM authz.workspace_memberships WHERE user_id = 'new-1') = 1;

    -- The e-mail of hundreds is the same, their slugs are not.
    INSERT INTO authz.users (id, email) SELECT 'info-' || n, 'info@example.com' FROM generate_series(1, 300) AS n;
    ASSERT (SELECT count(DISTINCT w.slug) FROM authz.users AS u CROSS JOIN authz.get_user_workspaces(u.id) AS w
        WHERE u.email = 'info@example.com' AND w.slug ~ '^info(-[0-9a-f]{8})?$' AND w.role = 'owner') = 300;
    -- So many in one transaction, and none of them holds a lock of the table that all sessions share.
    ASSERT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid());
END;
$$;

-- Whoever is seen without a workspace gets one, once.
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
    -- Who has lost his place everywhere gets another, and the workspace that he had stays with those in it.
    INSERT INTO authz.workspace_memberships VALUES (first_id, 'heir', 'admin');
    DELETE FROM authz.workspace_memberships WHERE user_id = 'late';
    UPDATE authz.workspace_memberships SET role = 'owner' WHERE user_id = 'heir';
    second_id := authz.create_default_workspace('late', NULL);
    ASSERT second_id <> first_id AND authz.get_workspace_role('late', second_id) = 'owner';
    ASSERT authz.get_workspace_role('heir', first_id) = 'owner';

    -- So does who holds but a role that is declared no more, and keeps it.
    UPDATE authz.workspace_memberships SET role = 'janitor' WHERE user_id = 'heir';
    ASSERT authz.create_default_workspace('heir', NULL) <> first_id;
    ASSERT EXISTS (SELECT FROM authz.workspace_memberships WHERE workspace_id = first_id AND user_id = 'heir');

    -- Where the catalog has no owner, the most senior role is that of the founder.
    DELETE FROM authz.roles WHERE name = 'owner';
    first_id := authz.create_default_workspace('flat', NULL);
    ASSERT authz.get_workspace_role('flat', first_id) = 'admin';

    -- A signup outlives a catalog that was never published, and is made up for when it is.
    DELETE FROM authz.catalog;
    INSERT INTO authz.users (id, email) VALUES ('early', 'early@example.com');
    ASSERT EXISTS (SELECT FROM authz.users WHERE id = 'early');
    ASSERT NOT EXISTS (SELECT FROM authz.workspace_memberships WHERE user_id = 'early');
    INSERT INTO authz.catalog (revision, default_plan) VALUES ('dev', 'starter');
    PERFORM authz.create_default_workspace(u.id, u.email) FROM authz.users AS u;
    ASSERT (SELECT w.slug FROM authz.get_user_workspaces('early') AS w) = 'early';
END;
$$;

ROLLBACK;
