-- As a caller who may make temporary objects: none of their code runs with the owner's rights.
BEGIN;

SET LOCAL ROLE authz_app;
CREATE FUNCTION pg_temp.betray() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    ASSERT current_user IN ('authz_app', 'authz_sidecar'), format('the caller''s code runs as %s', current_user);
    RETURN true;
END;
$$;
GRANT EXECUTE ON FUNCTION pg_temp.betray() TO PUBLIC;

-- Each type that our functions name, in the schema that is searched first unless it is named last.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'bool', 'bytea', 'int4', 'int8', 'interval', 'json', 'jsonb', 'text', 'timestamp', 'timestamptz',
        'tstzrange', 'uuid', 'xid8'
    ] LOOP
        EXECUTE format('CREATE DOMAIN pg_temp.%I AS pg_catalog.%I CHECK (pg_temp.betray())', name, name);
        EXECUTE format('GRANT USAGE ON DOMAIN pg_temp.%I TO PUBLIC', name);
    END LOOP;
END;
$$;

CREATE FUNCTION pg_temp.call_everything() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    call pg_catalog.text;
    calls bigint := 0;
BEGIN
    FOR call IN
        SELECT format('SELECT authz.%I(%s)', p.proname, (
            SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ') FROM unnest(p.proargtypes) AS t
        ))
        FROM pg_proc AS p
        WHERE p.pronamespace = 'authz'::regnamespace AND has_function_privilege(p.oid, 'EXECUTE')
    LOOP
        calls := calls + 1;
        BEGIN
            EXECUTE call;
        EXCEPTION
            WHEN OTHERS THEN -- an assertion is not among them
                NULL;
        END;
    END LOOP;
    RETURN calls;
END;
$$;
GRANT EXECUTE ON FUNCTION pg_temp.call_everything() TO PUBLIC;

DO $$
DECLARE
    acme CONSTANT pg_catalog.uuid := authz.enter('adam'::pg_catalog.text, 'acme'::pg_catalog.text);
BEGIN
    ASSERT authz.entered_workspace() = acme;
    ASSERT authz.is_workspace_member('adam', acme);
    ASSERT authz.get_workspace_role('adam', acme) = 'admin';
    ASSERT authz.has_feature_access(acme, 'analytics');
    ASSERT (SELECT count(*) FROM authz.get_user_workspaces('adam')) = 1;
    BEGIN
        PERFORM authz.enter('adam'::pg_catalog.text, acme::pg_catalog.text);
    EXCEPTION
        WHEN object_not_in_prerequisite_state THEN
            NULL;
    END;
    ASSERT pg_temp.call_everything() >= 8;
END;
$$;

SET LOCAL ROLE authz_sidecar;
DO $$
DECLARE
    acme CONSTANT pg_catalog.uuid := authz.facts('{adam}', '{acme}') -> 0 ->> 'workspace_id';
BEGIN
    ASSERT authz.facts(ARRAY['adam']::pg_catalog.text[], ARRAY[acme]::pg_catalog.text[]) -> 0 ->> 'role' = 'admin';
    ASSERT authz.workspaces_of('adam', NULL, 9) -> 0 ->> 'slug' = 'acme';
    PERFORM authz.see_user('new', 'new@example.com', true);
    PERFORM authz.set_plan('solo', 'pro', now());
    PERFORM authz.set_overrides('solo', '{"analytics": true}'::pg_catalog.jsonb, '{"minutes": 3}'::pg_catalog.jsonb);
    PERFORM authz.set_status('solo', 'suspended');
    ASSERT pg_temp.call_everything() >= 17;
END;
$$;

ROLLBACK;
