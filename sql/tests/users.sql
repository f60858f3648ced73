-- A deleted user leaves no membership behind, and each workspace has one owner or is deleted.
BEGIN;

CREATE FUNCTION pg_temp.people(slug text) RETURNS text LANGUAGE sql
RETURN (
    SELECT string_agg(m.user_id || ' ' || m.role, ', ' ORDER BY m.user_id)
    FROM authz.workspace_memberships AS m JOIN authz.workspaces AS w ON w.id = m.workspace_id
    WHERE w.slug = people.slug
);

DO $$
DECLARE
    acme CONSTANT uuid := (SELECT id FROM authz.workspaces WHERE slug = 'acme');
    version bigint;
BEGIN
    -- The most senior first, then the earliest, and only then by name.
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role, joined_at) VALUES
        (acme, 'ada', 'admin', now() + interval '1 day'),
        (acme, 'abe', 'member', now() - interval '9 days'),
        (acme, 'aba', 'janitor', now() - interval '10 days');
    SELECT facts_version INTO version FROM authz.workspaces WHERE id = acme;
    DELETE FROM authz.users WHERE id = 'olivia';
    ASSERT pg_temp.people('acme') = 'aba janitor, abe member, ada admin, adam owner, mia member', pg_temp.people('acme');
    ASSERT (SELECT member_count FROM authz.workspaces WHERE id = acme) = 5;
    ASSERT (SELECT facts_version FROM authz.workspaces WHERE id = acme) > version;

    ASSERT (
        SELECT array_agg(o.kind || ' ' || (o.data ->> 'user') ORDER BY o.id) FROM authz.outbox AS o
        WHERE o.workspace_id = acme AND o.transaction = pg_current_xact_id()
          AND o.kind IN ('member.removed', 'member.role_changed')
    ) = '{member.removed olivia,member.role_changed adam}';

    -- Several at once: none of them inherits from another. Users unknown to this database are forgotten by hand.
    PERFORM authz.forget_users('{adam,ada}');
    ASSERT pg_temp.people('acme') = 'aba janitor, abe owner, mia member', pg_temp.people('acme');

    -- A member who is deleted changes no owner.
    DELETE FROM authz.users WHERE id = 'mia';
    ASSERT pg_temp.people('acme') = 'aba janitor, abe owner', pg_temp.people('acme');

    -- A member with a role that is no longer declared still keeps the workspace.
    PERFORM authz.forget_users('{abe}');
    ASSERT pg_temp.people('acme') = 'aba owner', pg_temp.people('acme');

    -- A workspace without other members is deleted with everything in it.
    INSERT INTO authz.workspace_usage VALUES (acme, 'minutes', '-infinity', 3);
    PERFORM authz.forget_users('{aba}');
    ASSERT NOT EXISTS (SELECT FROM authz.workspaces WHERE id = acme);
    ASSERT NOT EXISTS (SELECT FROM authz.workspace_usage WHERE workspace_id = acme);

    -- No trace of the user's id stays, and the user may sign up again.
    UPDATE authz.workspaces SET default_of = 'zoe' WHERE slug = 'zoe';
    INSERT INTO authz.workspace_memberships SELECT id, 'sam', 'member' FROM authz.workspaces WHERE slug = 'zoe';
    DELETE FROM authz.users WHERE id = 'zoe';
    ASSERT pg_temp.people('zoe') = 'sam owner', pg_temp.people('zoe');
    ASSERT NOT EXISTS (SELECT FROM authz.workspaces WHERE default_of = 'zoe');
    INSERT INTO authz.users (id, email) VALUES ('zoe', 'zoe@example.com');
    ASSERT (SELECT count(*) FROM authz.get_user_workspaces('zoe')) = 1;

    -- A restored workspace does not bring the user back and has an owner again; one with no other member is deleted.
    PERFORM authz.delete_workspace(w.id, w.facts_version) FROM authz.workspaces AS w WHERE w.slug IN ('zoe', 'piano');
    PERFORM authz.forget_users('{pia}');
    ASSERT NOT EXISTS (SELECT FROM authz.workspaces WHERE slug = 'piano');
    UPDATE authz.workspaces
    SET members_before = members_before || '[
        {"user_id": "bea", "role": "member", "joined_at": "2026-01-01T00:00:00Z"},
        {"user_id": "ben", "role": "admin", "joined_at": "2026-01-02T00:00:00Z"}
    ]'
    WHERE slug = 'zoe';
    PERFORM authz.forget_users('{sam,nobody}');
    PERFORM authz.restore_workspace(w.id) FROM authz.workspaces AS w WHERE w.slug = 'zoe';
    ASSERT pg_temp.people('zoe') = 'bea member, ben owner', pg_temp.people('zoe');
    PERFORM authz.forget_users('{bea,ben}');

    -- All of them, as a test does that starts over.
    DELETE FROM authz.users;
    ASSERT NOT EXISTS (SELECT FROM authz.workspaces), (SELECT string_agg(slug, ' ') FROM authz.workspaces);
    DELETE FROM authz.users;
    PERFORM authz.forget_users(NULL), authz.forget_users('{}'), authz.forget_users('{nobody,NULL}');
END;
$$;

ROLLBACK;
