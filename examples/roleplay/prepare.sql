-- What the product's own tables need, as the owner of the schema: each shows one workspace, and the
-- application's login is an ordinary one.

CREATE TABLE IF NOT EXISTS public.kv_store_b9a572ea (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL);
SELECT authz.isolate('public.kv_store_b9a572ea');

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'roleplay') THEN
        CREATE ROLE roleplay LOGIN PASSWORD 'roleplay' IN ROLE authz_app;
    END IF;
END;
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.kv_store_b9a572ea TO roleplay;
