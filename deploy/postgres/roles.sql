-- The logins of the sidecar, made once by a superuser in the database that it is to use. Change both passwords.
-- Neither is a superuser: `owner` migrates, `sidecar` serves and may execute the functions of one group (docs/database.md).
CREATE ROLE authz_sidecar NOLOGIN;
CREATE ROLE authz_app NOLOGIN;
CREATE ROLE authz_audit NOLOGIN;

CREATE ROLE owner LOGIN PASSWORD 'example';
CREATE ROLE sidecar LOGIN PASSWORD 'example' IN ROLE authz_sidecar;

DO $$
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO owner', current_database());
END
$$;
