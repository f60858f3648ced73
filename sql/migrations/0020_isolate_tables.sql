-- An application's own table becomes one that shows each transaction the rows of the workspace it has entered.

CREATE FUNCTION authz.isolate(isolated regclass)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning -- not what IF EXISTS has to say
AS $$
DECLARE
    attribute record;
    homeless boolean;
    part record;
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', isolated);
    IF NOT EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.oid = isolated
          AND c.relkind = 'r'
          AND c.relpersistence <> 't'
          AND c.relnamespace <> 'authz'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhparent, i.inhrelid))
    ) THEN
        RAISE EXCEPTION '% is not a table of yours without partitions or children, which would each be a way around', isolated
            USING ERRCODE = '42809';
    END IF;

    EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS workspace_id uuid', isolated);
    SELECT a.attnum AS number, format_type(a.atttypid, a.atttypmod) AS type INTO attribute
    FROM pg_attribute AS a
    WHERE a.attrelid = isolated AND a.attname = 'workspace_id';
    IF attribute.type <> 'uuid' THEN
        RAISE EXCEPTION '%.workspace_id is %, not uuid', isolated, attribute.type USING ERRCODE = '42804';
    END IF;
    EXECUTE format(
        'ALTER TABLE %s ALTER COLUMN workspace_id SET DEFAULT authz.claimed_workspace(),'
        ' ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', -- so that its owner finds the homeless
        isolated
    );
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE workspace_id IS NULL)', isolated) INTO homeless;
    IF homeless THEN
        RAISE WARNING '% has rows of no workspace, which nobody will see: give them one, and isolate it again', isolated;
    ELSE
        EXECUTE format('ALTER TABLE %s ALTER COLUMN workspace_id SET NOT NULL', isolated);
        -- What is unique is so within a workspace: else one would learn of a key that another has, and could not use it.
        FOR part IN
            SELECT k.conname AS name, pg_get_constraintdef(k.oid) AS definition
            FROM pg_constraint AS k
            WHERE k.conrelid = isolated
              AND k.contype IN ('p', 'u')
              AND attribute.number <> ALL (k.conkey)
              AND NOT EXISTS (
                  SELECT FROM pg_constraint AS f WHERE f.contype = 'f' AND f.conindid = k.conindid
              )
        LOOP
            EXECUTE format(
                'ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
                isolated,
                part.name,
                part.name,
                overlay(part.definition PLACING '(workspace_id, ' FROM strpos(part.definition, '(') FOR 1)
            );
        END LOOP;
    END IF;
    FOR part IN
        SELECT i.indexrelid::regclass AS name
        FROM pg_index AS i
        WHERE i.indrelid = isolated AND i.indisunique AND attribute.number <> ALL (i.indkey)
        ORDER BY i.indexrelid::regclass::text
    LOOP
        RAISE WARNING '% is unique across workspaces: each can find out what another has there', part.name;
    END LOOP;
    IF NOT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = isolated AND i.indkey[0] = attribute.number AND i.indisvalid AND i.indpred IS NULL
    ) THEN
        EXECUTE format('CREATE INDEX ON %s (workspace_id)', isolated);
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_constraint AS k
        WHERE k.conrelid = isolated
          AND k.confrelid = 'authz.workspaces'::regclass
          AND k.conkey = ARRAY[attribute.number]
    ) THEN
        -- The rows of a workspace go with it: nobody could enter it any more to delete them.
        EXECUTE format(
            'ALTER TABLE %s ADD FOREIGN KEY (workspace_id) REFERENCES authz.workspaces (id) ON DELETE CASCADE', isolated
        );
    END IF;

    EXECUTE format('DROP POLICY IF EXISTS authz_workspace ON %s', isolated);
    EXECUTE format('DROP POLICY IF EXISTS authz_access ON %s', isolated);
    -- Restrictive, so that no other policy can widen it. The sub-select is evaluated once a statement, not for each row.
    EXECUTE format(
        'CREATE POLICY authz_workspace ON %s AS RESTRICTIVE'
        ' USING (workspace_id = (SELECT authz.entered_workspace()))'
        ' WITH CHECK (workspace_id = (SELECT authz.entered_workspace()))',
        isolated
    );
    IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = isolated AND p.polpermissive) THEN
        -- Where all policies restrict, nothing is allowed.
        EXECUTE format('CREATE POLICY authz_access ON %s USING (true) WITH CHECK (true)', isolated);
    END IF;
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', isolated); -- for its owner too

    -- What policies do not govern: to empty it, to look for keys from another table, to be called with others' rows.
    FOR part IN
        SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
        FROM pg_class AS c, aclexplode(c.relacl) AS g
        WHERE c.oid = isolated AND g.grantee <> c.relowner
        UNION
        SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END
        FROM pg_attribute AS a, aclexplode(a.attacl) AS g
        WHERE a.attrelid = isolated
    LOOP
        EXECUTE format('REVOKE TRUNCATE, REFERENCES, TRIGGER ON %s FROM %s', isolated, part.grantee);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION authz.isolate IS
    'For whoever owns the table, and this schema; again after each change of it. Says in warnings what it leaves open.';
REVOKE ALL ON FUNCTION authz.isolate FROM PUBLIC;
