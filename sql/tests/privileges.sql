-- As the sidecar and as the application: exactly these functions, and nothing else of the database.
BEGIN;

CREATE FUNCTION pg_temp.executable(role_name text) RETURNS text[] LANGUAGE sql
RETURN (
    SELECT array_agg(p.oid::regprocedure::text ORDER BY p.oid::regprocedure::text COLLATE "C")
    FROM pg_proc AS p
    WHERE p.pronamespace = 'authz'::regnamespace AND has_function_privilege(role_name, p.oid, 'EXECUTE')
);

DO $$
DECLARE
    found text[];
    group_name text;
BEGIN
    found := pg_temp.executable('authz_sidecar');
    ASSERT found = ARRAY[
        'authz.accept_invitation(uuid,bigint,text,text,text,text[],bigint[])',
        'authz.acting_as(text,text,text,text)',
        'authz.anchor_log(text,bigint,bytea,boolean)',
        'authz.announce_replica_reads()',
        'authz.catalog_in_use()',
        'authz.catalog_revision()',
        'authz.change_as(bigint)',
        'authz.change_role(uuid,bigint,text,text)',
        'authz.clock_now()',
        'authz.commit_reservation(text,jsonb)',
        'authz.consume(uuid,bigint,bigint,timestamp with time zone,timestamp with time zone,timestamp with time zone,'
            'text,text,text,bigint,text,text,text,text,json)',
        'authz.consume_many(json,boolean)',
        'authz.create_workspace(uuid,text,text)',
        'authz.delete_workspace(uuid,bigint)',
        'authz.facts(text[],text[])',
        'authz.facts_for(text[],text[],text[])',
        'authz.find_workspaces(text,text,text,text,integer)',
        'authz.found_workspace(uuid,text,text,uuid,bigint,bigint)',
        'authz.get_user_workspaces(text)',
        'authz.get_workspace_role(text,uuid)',
        'authz.has_feature_access(uuid,text)',
        'authz.has_member(uuid,text)',
        'authz.invitation_by_token(text)',
        'authz.invitations_of(uuid,text,integer)',
        'authz.invite(uuid,bigint,uuid,text,text,text,text,text[],bigint[])',
        'authz.is_invited(uuid,text)',
        'authz.is_workspace_member(text,uuid)',
        'authz.isolation_gaps()',
        'authz.member_of(uuid,text)',
        'authz.members_of(text,text,integer)',
        'authz.names_for(text)',
        'authz.oldest_owned(text)',
        'authz.patch_workspace(text,text)',
        'authz.people_of(uuid,text,integer)',
        'authz.plain_facts(text[],text[])',
        'authz.put_subscription(text,text,text,text,bigint,timestamp with time zone,timestamp with time zone,'
            'timestamp with time zone,text,text,text)',
        'authz.read_as(bigint)',
        'authz.refund(text,text,jsonb)',
        'authz.release_reservation(text)',
        'authz.release_resource(text,text,text)',
        'authz.remove_member(uuid,bigint,text)',
        'authz.rename_workspace(uuid,bigint,text)',
        'authz.repeated(uuid,text[],text,text,text)',
        'authz.replayed_facts(text[],text[],text[],bigint)',
        'authz.revoke_invitation(uuid,bigint,uuid)',
        'authz.seal_history(text)',
        'authz.see_user(text,text,boolean)',
        'authz.set_overrides(text,jsonb,jsonb,timestamp with time zone,text,boolean)',
        'authz.set_plan(text,text,timestamp with time zone,boolean)',
        'authz.set_status(text,text,text,timestamp with time zone,boolean)',
        'authz.slugs_like(text,text[])',
        'authz.standing_of(text)',
        'authz.take(uuid,bigint,text,text,text[],bigint[],bigint[],text,text,text,integer,text,text,text,json)',
        'authz.to_come(uuid[],text[])',
        'authz.transfer_ownership(uuid,bigint,text,text)',
        'authz.was_purged(text)',
        'authz.workspace_known(text,text,integer)',
        'authz.workspaces_of(text,text,integer)',
        'authz.written_now()'
    ], format('authz_sidecar may execute %s', found);
    found := pg_temp.executable('authz_audit');
    ASSERT found = ARRAY[
        'authz.anchors(timestamp with time zone,timestamp with time zone,text,bigint)',
        'authz.audience()',
        'authz.audience_of(text[],bigint)',
        'authz.audience_together(bigint)',
        'authz.catalog_revision()',
        'authz.digests(timestamp with time zone,timestamp with time zone)',
        'authz.effects(timestamp with time zone,timestamp with time zone)',
        'authz.facts_for(text[],text[],text[])',
        'authz.history(timestamp with time zone,timestamp with time zone,uuid,text[],bigint)',
        'authz.kept(text)',
        'authz.known_since()',
        'authz.members_at(timestamp with time zone,uuid)',
        'authz.members_of(text,text,integer)',
        'authz.members_standing(uuid)',
        'authz.migrated_to()',
        'authz.names_for(text)',
        'authz.not_understood(timestamp with time zone,uuid)',
        'authz.over_limits(jsonb)',
        'authz.people(uuid)',
        'authz.publications(timestamp with time zone,timestamp with time zone)',
        'authz.published(timestamp with time zone)',
        'authz.read_as(bigint)',
        'authz.to_come(uuid[],text[])',
        'authz.unaccounted()',
        'authz.workspaces_at(timestamp with time zone,uuid)',
        'authz.workspaces_called(text)',
        'authz.workspaces_not_on(text[])',
        'authz.workspaces_standing(uuid)'
    ], format('authz_audit may execute %s', found);
    found := pg_temp.executable('authz_app');
    ASSERT found = ARRAY[
        'authz.claimed_workspace()',
        'authz.enter(text,text)',
        'authz.enter(text,uuid)',
        'authz.entered_workspace()',
        'authz.get_user_workspaces(text)',
        'authz.get_workspace_role(text,uuid)',
        'authz.has_feature_access(uuid,text)',
        'authz.is_workspace_member(text,uuid)'
    ], format('authz_app may execute %s', found);

    FOREACH group_name IN ARRAY ARRAY['authz_sidecar', 'authz_app', 'authz_audit'] LOOP
        SELECT array_agg(c.relname::text) INTO found
        FROM pg_class AS c
        WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'm', 'p')
          AND has_table_privilege(
              group_name, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'
          );
        ASSERT found IS NULL, format('%s may touch %s', group_name, found);
        ASSERT NOT has_schema_privilege(group_name, 'authz', 'CREATE'), format('%s may create', group_name);
        ASSERT NOT (SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolcanlogin OR rolbypassrls
            FROM pg_roles WHERE rolname = group_name), format('%s is more than a group', group_name);
    END LOOP;

    SELECT array_agg(p.oid::regprocedure::text) INTO found
    FROM pg_proc AS p
    LEFT JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) AS granted ON true
    WHERE p.pronamespace = 'authz'::regnamespace AND granted.grantee = 0;
    ASSERT found IS NULL, format('everybody may execute %s', found);

    -- Not '': the types of the caller's temporary schema would come before ours (shadows.sql).
    SELECT array_agg(p.oid::regprocedure::text) INTO found
    FROM pg_proc AS p
    WHERE p.pronamespace = 'authz'::regnamespace
      AND (p.prosecdef OR p.proconfig IS NOT NULL)
      AND NOT 'search_path=pg_catalog, pg_temp' = ANY (COALESCE(p.proconfig, '{}'));
    ASSERT found IS NULL, format('search_path is not pg_catalog, pg_temp in %s', found);
END;
$$;

SET LOCAL ROLE authz_sidecar;

DO $$
DECLARE
    attempt text;
BEGIN
    ASSERT authz.catalog_revision() = 'dev';
    ASSERT authz.catalog_in_use() ->> 'default_plan' = 'starter';
    ASSERT authz.facts('{adam}', '{acme}') -> 0 ->> 'role' = 'admin';
    ASSERT authz.workspaces_of('adam', NULL, 9) -> 0 ->> 'slug' = 'acme';
    ASSERT authz.members_of('acme', NULL, 9) #>> '{members,0,0}' = 'adam';
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
        'SELECT authz.fold_usage(now(), 0, 1, 1)',
        'TRUNCATE authz.workspace_features',
        'SELECT authz.create_default_workspace(''eve'', NULL)',
        'SELECT FROM authz.outbox',
        'SELECT FROM authz.workspace_invitations',
        'DELETE FROM authz.outbox',
        'SELECT FROM authz.log_anchors',
        'DELETE FROM authz.log_anchors',
        'UPDATE authz.log_anchors SET removed_at = now()',
        'INSERT INTO authz.log_anchors (writer, number, head) VALUES (''w'', 1, sha256(''''))',
        'SELECT FROM authz.policy_history',
        'DELETE FROM authz.history_digests',
        'SELECT authz.log_removed(''w'')',
        'SELECT authz.thin_anchors()',
        'SELECT authz.prune_history(now())',
        'SELECT authz.find_unrecorded()',
        'SELECT authz.members_at()',
        'SELECT authz.unaccounted()',
        'SELECT authz.record(gen_random_uuid(), ''member.joined'', ''{}'')',
        'SELECT authz.restore_workspace(gen_random_uuid())',
        'SELECT authz.purge_workspaces(''0'')',
        'SELECT authz.decided_by(gen_random_uuid(), 1)',
        'SELECT authz.enter(''adam'', ''acme'')',
        'SELECT authz.forget_users(''{adam}'')',
        'SELECT authz.workspace_locked(''acme'')',
        'SELECT authz.workspace_state(gen_random_uuid(), true)',
        'SELECT authz.period_of(''day'', now(), now())',
        'SELECT FROM authz.period_at(''day'', now(), now())',
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

SET LOCAL ROLE authz_app;

DO $$
DECLARE
    attempt text;
BEGIN
    ASSERT (SELECT role FROM authz.get_user_workspaces('adam')) = 'admin';

    FOREACH attempt IN ARRAY ARRAY[
        'SELECT FROM authz.members',
        'SELECT FROM authz.isolation_secret',
        'SELECT authz.signed(gen_random_uuid()::text, pg_current_xact_id())',
        'SELECT authz.masked(''secret'', 54)',
        'SELECT authz.rotate_isolation_secret()',
        'SELECT authz.isolate(''authz.users'')',
        'SELECT authz.facts(''{adam}'', ''{acme}'')',
        'SELECT authz.set_plan(''solo'', ''team'')',
        'SELECT authz.create_default_workspace(''eve'', NULL)',
        'SELECT authz.forget_users(''{adam}'')'
    ] LOOP
        BEGIN
            EXECUTE attempt;
        EXCEPTION
            WHEN insufficient_privilege THEN
                CONTINUE;
        END;
        RAISE EXCEPTION 'authz_app may %', attempt;
    END LOOP;
END;
$$;

SET LOCAL ROLE authz_audit;

DO $$
DECLARE
    attempt text;
BEGIN
    ASSERT (SELECT count(*) FROM authz.members_at()) > 0;
    ASSERT (SELECT count(*) FROM authz.unaccounted()) = 0;
    ASSERT (SELECT count(*) FROM authz.history()) > 0;

    FOREACH attempt IN ARRAY ARRAY[
        'SELECT FROM authz.outbox',
        'SELECT FROM authz.workspaces',
        'SELECT FROM authz.workspace_memberships',
        'SELECT FROM authz.policy_history',
        'SELECT FROM authz.log_anchors',
        'SELECT FROM authz.history_digests',
        'SELECT FROM authz.usage_ledger',
        'DELETE FROM authz.outbox',
        'INSERT INTO authz.outbox (workspace_id) VALUES (gen_random_uuid())',
        'TRUNCATE authz.outbox',
        'SELECT authz.acting_as(''olivia'', ''user'')',
        'SELECT authz.anchor_log(''w'', 1, sha256(''''))',
        'SELECT authz.seal_history(''w'')',
        'SELECT authz.log_removed(''w'')',
        'SELECT authz.prune_history(now())',
        'SELECT authz.find_unrecorded()',
        'SELECT authz.set_plan(''solo'', ''team'')',
        'CREATE TABLE authz.mine ()'
    ] LOOP
        BEGIN
            EXECUTE attempt;
        EXCEPTION
            WHEN insufficient_privilege THEN
                CONTINUE;
        END;
        RAISE EXCEPTION 'authz_audit may %', attempt;
    END LOOP;
END;
$$;

ROLLBACK;
