-- As the sidecar: which facts a question gets, and by which clock.
BEGIN;

DO $$
DECLARE
    solo CONSTANT uuid := (SELECT id FROM authz.workspaces WHERE slug = 'solo');
    row json;
BEGIN
    -- Within one statement there is one instant: an override that expires at it has expired.
    INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled, expires_at) VALUES
        (solo, 'feature', 'analytics', true, statement_timestamp()),
        (solo, 'feature', 'video_avatar', true, statement_timestamp() + interval '1 microsecond');
    SET LOCAL ROLE authz_sidecar;
    row := authz.facts('{sam}', '{solo}') -> 0;
    ASSERT row ->> 'features' = '{ "video_avatar" : true }', row ->> 'features';
    ASSERT (row ->> 'at')::timestamptz = statement_timestamp();
    RESET ROLE;

    -- A row of a later period, after a fail-over to a clock that is behind: its use still counts.
    INSERT INTO authz.workspace_usage VALUES (solo, 'minutes', now() + interval '40 days', 97);
    ASSERT authz.facts('{sam}', '{solo}') #>> '{0,usage,minutes,0}' = '97';

    -- An undeclared role is returned unchanged: the sidecar interprets it.
    UPDATE authz.workspace_memberships SET role = 'janitor' WHERE user_id = 'mia';
    ASSERT authz.facts('{mia}', '{acme}') #>> '{0,role}' = 'janitor';
END;
$$;

DO $$
BEGIN
    ASSERT authz.facts('{adam,NULL,adam,mia}', '{acme,acme,NULL}')::jsonb - 0 = '[null, null, null]', 'gaps';
    ASSERT authz.facts('{}', '{}')::text = '[]';
    ASSERT authz.workspaces_of(NULL, NULL, 10)::text = '[]';
    ASSERT authz.workspaces_of('adam', NULL, 0)::text = '[]';
END;
$$;

-- The session's time zone and date style do not change an answer.
SET LOCAL TimeZone = 'Pacific/Kiritimati';
SET LOCAL DateStyle = 'German, DMY';
DO $$
BEGIN
    ASSERT authz.facts('{adam}', '{acme}') #>> '{0,usage,minutes,2}' ~ '^\d{4}-\d\d-01T00:00:00\+00:00$',
        authz.facts('{adam}', '{acme}') #>> '{0,usage,minutes,2}';
    ASSERT authz.facts('{adam}', '{acme}') #>> '{0,at}' ~ '\+00:00$';
    ASSERT authz.set_plan('solo', 'pro') ->> 'as_of' ~ '^\d{4}-.*\+00:00$';
END;
$$;

ROLLBACK;
