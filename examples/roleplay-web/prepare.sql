-- What the trainer's own table needs, as the owner of the schema: it shows one workspace, and the application's login
-- is an ordinary one.

CREATE TABLE IF NOT EXISTS public.roleplay_scenarios (
    id text NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    title text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    plays integer NOT NULL DEFAULT 0,
    played_by text -- by whom last
);
SELECT authz.isolate('public.roleplay_scenarios');

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'roleplay_web') THEN
        CREATE ROLE roleplay_web LOGIN PASSWORD 'roleplay_web' IN ROLE authz_app;
    END IF;
END;
$$;
GRANT SELECT, INSERT, UPDATE ON public.roleplay_scenarios TO roleplay_web;
