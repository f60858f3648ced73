-- For auditors: which login wrote a line of the ledger, and how far the database is migrated.

-- Two steps: a default given with the column would stand in the lines that are there already.
ALTER TABLE authz.usage_ledger ADD COLUMN login text COLLATE "C";
ALTER TABLE authz.usage_ledger ALTER COLUMN login SET DEFAULT session_user;
COMMENT ON COLUMN authz.usage_ledger.login IS
'The login of the database that wrote the line: the sidecar''s own, or that of whoever adjusted it by hand. NULL: written
before this was kept.';

CREATE FUNCTION authz.migrated_to(OUT number integer, OUT name text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT m.number, m.name INTO migrated_to.number, migrated_to.name
    FROM authz.migrations AS m
    ORDER BY m.number DESC
    LIMIT 1;
END;
$$;
COMMENT ON FUNCTION authz.migrated_to IS
'The last migration that was applied: an auditor''s command of an older or a newer version reads other columns.
- number: (result) its number.
- name: (result) its name.
Returns: one row.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.migrated_to FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.migrated_to TO authz_audit;
