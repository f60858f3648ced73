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
        repeat('a', 39) || '-' || repeat('b', 30) || '@x', 'no at sign', E'quote\'"\\@x', repeat('ä', 300)
    ] LOOP
        number := number + 1;
        INSERT INTO authz.users (id, email) VALUES ('new-' || number, email);
        SELECT w.slug, w.plan_tier, m.role INTO own
        FROM authz.workspace_memberships AS m JOIN authz.workspaces AS w ON w.id = m.workspace_id
        WHERE m.user_id = 'new-' || number;
        ASSERT FOUND, format('%s has no workspace', email);
        ASSERT own.plan_tier = 'starter' AND own.role = 'owner', own::text;
        ASSERT authz.is_slug(own.slug), own::text;
    END LOOP;

    -- Who is somewhere already gets none; neither does who has got one.
    ASSERT (SELECT count(*) FROM authz.workspace_memberships WHERE user_id = 'adam') = 1;
    PERFORM authz.create_default_workspace('new-1', 'zoe@example.com');
    ASSERT (SELECT count(*) FROM authz.workspace_memberships WHERE user_id = 'new-1') = 1;

    -- A signup outlives a catalog that was never published.
    DELETE FROM authz.catalog;
    INSERT INTO authz.users (id, email) VALUES ('early', 'early@example.com');
    ASSERT EXISTS (SELECT FROM authz.users WHERE id = 'early');
    ASSERT NOT EXISTS (SELECT FROM authz.workspace_memberships WHERE user_id = 'early');
END;
$$;

ROLLBACK;
