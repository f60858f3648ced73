-- As the sidecar: exactly these functions, and nothing else of the database.
BEGIN;

DO $$
DECLARE
    found text[];
BEGIN
    SELECT array_agg(p.oid::regprocedure::text ORDER BY p.oid::regprocedure::text COLLATE "C") INTO found
    FROM pg_proc AS p
    WHERE p.pronamespace = 'authz'::regnamespace AND has_function_privilege('authz_sidecar', p.oid, 'EXECUTE');
    ASSERT found = ARRAY[
        'authz.catalog_revision()',
        'authz.commit_reservation(text,jsonb)',
        'authz.facts(text[],text[])',
        'authz.refund(text,text,jsonb)',
        'authz.release_reservation(text)',
        'authz.release_resource(text,text,text)',
        'authz.repeated(uuid,text[],text,text,text)',
        'authz.set_overrides(text,jsonb,jsonb,timestamp with time zone,text)',
        'authz.set_plan(text,text,timestamp with time zone)',
        'authz.set_status(text,text,text)',
        'authz.take(uuid,bigint,text,text,text[],bigint[],bigint[],text,text,text,integer,text,text,text,jsonb)',
        'authz.workspaces_of(text,text,integer)'
    ], format('authz_sidecar may execute %s', found);

    SELECT array_agg(c.relname::text) INTO found
    FROM pg_class AS c
    WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'm', 'p')
      AND has_table_privilege('authz_sidecar', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
    ASSERT found IS NULL, format('authz_sidecar may touch %s', found);

    ASSERT NOT has_schema_privilege('authz_sidecar', 'authz', 'CREATE'), 'authz_sidecar may create';
    ASSERT NOT (SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolcanlogin OR rolbypassrls
        FROM pg_roles WHERE rolname = 'authz_sidecar'), 'authz_sidecar is more than a group';

    SELECT array_agg(p.oid::regprocedure::text) INTO found
    FROM pg_proc AS p
    LEFT JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) AS granted ON true
    WHERE p.pronamespace = 'authz'::regnamespace AND granted.grantee = 0;
    ASSERT found IS NULL, format('everybody may execute %s', found);

    SELECT array_agg(p.oid::regprocedure::text) INTO found
    FROM pg_proc AS p
    WHERE p.pronamespace = 'authz'::regnamespace AND p.prosecdef
      AND NOT 'search_path=""' = ANY (COALESCE(p.proconfig, '{}'));
    ASSERT found IS NULL, format('search_path is not set by %s', found);
END;
$$;

SET LOCAL ROLE authz_sidecar;

DO $$
DECLARE
    attempt text;
BEGIN
    ASSERT authz.catalog_revision() = 'dev';
    ASSERT authz.facts('{adam}', '{acme}') -> 0 ->> 'role' = 'admin';
    ASSERT authz.workspaces_of('adam', NULL, 9) -> 0 ->> 'slug' = 'acme';
    ASSERT authz.set_plan('solo', 'pro') ->> 'plan' = 'pro';

    FOREACH attempt IN ARRAY ARRAY[
        'SELECT FROM authz.workspaces',
        'SELECT FROM authz.workspace_memberships',
        'SELECT FROM authz.member_facts',
        'SELECT FROM authz.users',
        'SELECT FROM authz.catalog',
        'SELECT FROM authz.migrations',
        'INSERT INTO authz.workspace_memberships SELECT gen_random_uuid(), ''eve'', ''owner''',
        'UPDATE authz.workspaces SET plan_tier = ''team''',
        'DELETE FROM authz.workspace_usage',
        'SELECT FROM authz.usage_ledger',
        'SELECT FROM authz.usage_reservations',
        'SELECT authz.set_usage(gen_random_uuid(), ''{}'', ''{}'')',
        'SELECT authz.recount(gen_random_uuid())',
        'SELECT authz.miscounts(gen_random_uuid())',
        'SELECT authz.tidy(0, 1)',
        'TRUNCATE authz.workspace_features',
        'SELECT authz.create_default_workspace(''eve'', NULL)',
        'SELECT authz.workspace_locked(''acme'')',
        'SELECT authz.workspace_state(gen_random_uuid(), true)',
        'SELECT authz.period_of(''day'', now(), now())',
        'CREATE TABLE authz.mine ()',
        'CREATE FUNCTION authz.facts(text) RETURNS json LANGUAGE sql RETURN NULL',
        'DROP FUNCTION authz.facts',
        'ALTER TABLE authz.workspaces DISABLE TRIGGER ALL'
    ] LOOP
        BEGIN
            EXECUTE attempt;
        EXCEPTION
            WHEN insufficient_privilege THEN
                CONTINUE;
        END;
        RAISE EXCEPTION 'authz_sidecar may %', attempt;
    END LOOP;
END;
$$;

ROLLBACK;
