-- With search_path = '' a name of a type is looked up in the caller's temporary schema before pg_catalog: what a function
-- of ours calls uuid is then whatever domain he has made there, and its CHECK runs his code with the owner's rights.
-- Named, and last, that schema is harmless.

DO $$
DECLARE
    function record;
BEGIN
    FOR function IN
        SELECT p.oid::regprocedure AS name
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'authz'::regnamespace AND 'search_path=""' = ANY (p.proconfig)
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', function.name);
    END LOOP;
END;
$$;
