-- sidecar doctor logs in as the sidecar, and has to tell what has opened an isolated table since it was isolated.

CREATE FUNCTION authz.isolation_gaps()
RETURNS TABLE (says text, fix text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT o.says, o.fix
    FROM pg_policy AS p
    JOIN pg_class AS c ON c.oid = p.polrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL authz.open_to_others(p.polrelid) WITH ORDINALITY AS o (says, fix, place)
    WHERE p.polname = 'authz_workspace'
    ORDER BY n.nspname, c.relname, o.place;
END;
$$;
COMMENT ON FUNCTION authz.isolation_gaps IS
    'authz.open_to_others of all isolated tables: it reads the catalogs alone, and no row of a table.
- says: what it is, and what it gives away.
- fix: the statement to run.
Returns: a row for each, by table.
Called by: authz_sidecar, for sidecar doctor.';
REVOKE ALL ON FUNCTION authz.isolation_gaps FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.isolation_gaps TO authz_sidecar;
