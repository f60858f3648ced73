-- A table was isolated by its policies and its unique constraints, and not by all else that compares its rows or tells of
-- them: indexes, included columns, exclusion constraints, foreign keys and their actions. isolate rewrites what it can, and
-- warns of the rest with the statement to run.

CREATE FUNCTION authz.is_isolated(relation regclass)
RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (
    SELECT FROM pg_policy AS p
    JOIN pg_attribute AS a ON a.attrelid = p.polrelid AND a.attname = 'workspace_id' AND a.attnotnull
    WHERE p.polrelid = relation AND p.polname = 'authz_workspace'
);
COMMENT ON FUNCTION authz.is_isolated IS
    'Whether authz.isolate has isolated a table, and each of its rows has a workspace.
- relation: the table.
Returns: true or false.
Called by: authz.isolate and authz.references_across.';
REVOKE ALL ON FUNCTION authz.is_isolated FROM PUBLIC;

CREATE FUNCTION authz.keys_across(isolated regclass)
RETURNS TABLE (key regclass, is_unique boolean, referred boolean, widens text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        i.indexrelid::regclass,
        i.indisunique,
        EXISTS (SELECT FROM pg_constraint AS f WHERE f.contype = 'f' AND f.conindid = i.indexrelid),
        CASE WHEN w.attnum <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1]) THEN concat_ws(
            '; ',
            CASE
                WHEN k.oid IS NOT NULL THEN format(
                    'ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
                    isolated,
                    k.conname,
                    k.conname,
                    overlay(
                        pg_get_constraintdef(k.oid)
                        PLACING CASE k.contype WHEN 'x' THEN '(workspace_id WITH =, ' ELSE '(workspace_id, ' END
                        FROM strpos(pg_get_constraintdef(k.oid), '(') FOR 1
                    )
                )
                ELSE format(
                    'DROP INDEX %s; %sworkspace_id, %s',
                    i.indexrelid::regclass,
                    opening.text,
                    substr(pg_get_indexdef(i.indexrelid), length(opening.text) + 1)
                )
            END,
            -- What goes with an index that is dropped.
            format('COMMENT ON CONSTRAINT %I ON %s IS ', c.relname, isolated)
                || quote_literal(obj_description(k.oid, 'pg_constraint')),
            format('COMMENT ON INDEX %s IS ', i.indexrelid::regclass)
                || quote_literal(obj_description(i.indexrelid, 'pg_class')),
            CASE WHEN i.indisreplident THEN
                format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', isolated, c.relname) END,
            CASE WHEN i.indisclustered THEN format('ALTER TABLE %s CLUSTER ON %I', isolated, c.relname) END
        ) END
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am AS m ON m.oid = c.relam
    JOIN pg_attribute AS w ON w.attrelid = i.indrelid AND w.attname = 'workspace_id'
    LEFT JOIN pg_constraint AS k
        ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
    CROSS JOIN LATERAL (
        SELECT format('CREATE UNIQUE INDEX %I ON %s USING %I (', c.relname, isolated, m.amname) AS text
    ) AS opening
    WHERE i.indrelid = isolated
      AND (i.indisunique OR i.indisexclusion)
      -- An included column is compared with nothing; nor does an exclusion keep apart that asks for other workspaces.
      AND NOT EXISTS (
          SELECT FROM generate_series(1, i.indnkeyatts) AS n
          WHERE i.indkey[n - 1] = w.attnum
            AND (k.conexclop IS NULL OR k.conexclop[n] = '=(uuid,uuid)'::regoperator)
      )
    ORDER BY i.indexrelid::regclass::text;
END;
$$;
COMMENT ON FUNCTION authz.keys_across IS
    'What compares the rows of a table across workspaces: its unique constraints and indexes, and its exclusion
constraints, whose key columns do not include workspace_id.
- isolated: the table; it has a column workspace_id.
- key: the index, which a constraint may own.
- is_unique: whether it is for equality; otherwise it is an exclusion constraint.
- referred: whether a foreign key refers to it.
- widens: the statements that put workspace_id first; NULL: it is in the key already, compared by another operator than =.
Returns: a row for each, by name.
Called by: authz.isolate, authz.refer_within and authz.open_to_others.';
REVOKE ALL ON FUNCTION authz.keys_across FROM PUBLIC;

CREATE FUNCTION authz.references_across(isolated regclass)
RETURNS TABLE (
    name name, child regclass, parent regclass, key regclass, columns int2[], is_between boolean,
    deletes "char", updates "char", drops text, adds text
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        f.conname,
        f.conrelid::regclass,
        f.confrelid::regclass,
        f.conindid::regclass,
        f.confkey,
        between_isolated.is_so,
        f.confdeltype,
        f.confupdtype,
        format('ALTER TABLE %s DROP CONSTRAINT %I', f.conrelid::regclass, f.conname),
        CASE
            WHEN between_isolated.is_so
                AND c.attnum <> ALL (f.conkey)
                AND p.attnum <> ALL (f.confkey)
                -- It would empty workspace_id too: only ON DELETE can say which columns.
                AND f.confupdtype NOT IN ('n', 'd')
                AND (f.confmatchtype <> 'f' OR cardinality(f.conkey) = 1)
            THEN concat_ws(
                '; ',
                format(
                    'ALTER TABLE %s ADD CONSTRAINT %I %s',
                    f.conrelid::regclass,
                    f.conname,
                    regexp_replace(
                        replace(
                            replace(
                                overlay(
                                    pg_get_constraintdef(f.oid) PLACING '(workspace_id, '
                                    FROM strpos(pg_get_constraintdef(f.oid), '(') FOR 1
                                ),
                                format(' REFERENCES %s(', f.confrelid::regclass),
                                format(' REFERENCES %s(workspace_id, ', f.confrelid::regclass)
                            ),
                            ' MATCH FULL', -- of one column the same as the default, of two not
                            ''
                        ),
                        ' ON DELETE SET (NULL|DEFAULT)(?! \()',
                        format(' ON DELETE SET \1 (%s)', (
                            SELECT string_agg(replace(quote_ident(a.attname), '\', '\\'), ', ' ORDER BY k.place)
                            FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
                            JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.number
                        ))
                    )
                ),
                format('COMMENT ON CONSTRAINT %I ON %s IS ', f.conname, f.conrelid::regclass)
                    || quote_literal(obj_description(f.oid, 'pg_constraint'))
            )
        END
    FROM pg_constraint AS f
    LEFT JOIN pg_attribute AS c ON c.attrelid = f.conrelid AND c.attname = 'workspace_id'
    LEFT JOIN pg_attribute AS p ON p.attrelid = f.confrelid AND p.attname = 'workspace_id'
    CROSS JOIN LATERAL (
        SELECT authz.is_isolated(f.conrelid) AND authz.is_isolated(f.confrelid) AS is_so
    ) AS between_isolated
    WHERE f.contype = 'f'
      AND f.conparentid = 0
      AND isolated IN (f.conrelid, f.confrelid)
      AND (SELECT r.relnamespace FROM pg_class AS r WHERE r.oid = f.confrelid) <> 'authz'::regnamespace
      AND NOT (between_isolated.is_so AND EXISTS (
          SELECT FROM generate_subscripts(f.conkey, 1) AS n
          WHERE f.conkey[n] = c.attnum AND f.confkey[n] = p.attnum
      ))
    ORDER BY f.conrelid::regclass::text, f.conname;
END;
$$;
COMMENT ON FUNCTION authz.references_across IS
    'The foreign keys from and to a table that are checked, and act, across workspaces: those without workspace_id, and
those from or to a table that is not isolated. References to tables of the schema authz do not count.
- isolated: the table.
- name: the foreign key''s name.
- child: the table that refers.
- parent: the table that is referred to.
- key: the unique index that is referred to.
- columns: the numbers of the columns that are referred to.
- is_between: whether both tables are isolated.
- deletes: what it does when a row of the parent is deleted, as pg_constraint.confdeltype.
- updates: what it does when the key of a row of the parent changes, as pg_constraint.confupdtype.
- drops: the statement that drops it.
- adds: the statements that add it with workspace_id on both sides; NULL: it cannot have that.
Returns: a row for each, by name.
Called by: authz.refer_within and authz.open_to_others.';
REVOKE ALL ON FUNCTION authz.references_across FROM PUBLIC;

CREATE FUNCTION authz.refer_within(isolated regclass)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed record;
    statement text;
    opened regclass;
BEGIN
    -- All foreign keys to one key at once: while one refers to it, it cannot be changed.
    FOR changed IN
        SELECT
            r.parent,
            r.key,
            r.columns,
            string_agg(r.drops, '; ') AS drops,
            string_agg(r.adds, '; ') AS adds,
            string_agg(format('%s of %s', quote_ident(r.name), r.child), ', ') AS names,
            array_agg(DISTINCT r.child::oid) || r.parent::oid AS tables
        FROM authz.references_across(isolated) AS r
        WHERE r.adds IS NOT NULL
        GROUP BY r.parent, r.key, r.columns
        ORDER BY r.key::text
    LOOP
        BEGIN
            -- Rows that are there are compared in the name of the owner, who has entered no workspace.
            FOREACH opened IN ARRAY changed.tables LOOP
                EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', opened);
            END LOOP;
            EXECUTE changed.drops;
            SELECT k.widens INTO statement
            FROM authz.keys_across(changed.parent) AS k
            WHERE k.key = changed.key AND NOT k.referred;
            BEGIN
                EXECUTE COALESCE(statement, authz.key_within(changed.parent, changed.columns), 'SELECT');
            EXCEPTION
                WHEN dependent_objects_still_exist THEN -- a view is grouped by it
                    EXECUTE COALESCE(authz.key_within(changed.parent, changed.columns), 'SELECT');
            END;
            EXECUTE changed.adds;
            FOREACH opened IN ARRAY changed.tables LOOP
                EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', opened);
            END LOOP;
        EXCEPTION
            WHEN integrity_constraint_violation OR syntax_error_or_access_rule_violation OR feature_not_supported
                OR dependent_objects_still_exist THEN
                RAISE WARNING '% cannot be put within the workspace: %', changed.names, SQLERRM
                    USING HINT = 'Change what is in its way (rows that refer to a row of another workspace, for one), and'
                        || format(' isolate %s again.', isolated);
        END;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION authz.refer_within IS
    'Makes foreign keys between isolated tables include workspace_id on both sides, and the keys that they refer to. Of what
stands in the way it warns, and leaves it as it was.
- isolated: the table; those that refer to it, or that it refers to, are changed too.
Returns: nothing.
Called by: authz.isolate.';
REVOKE ALL ON FUNCTION authz.refer_within FROM PUBLIC;

CREATE FUNCTION authz.key_within(parent regclass, columns int2[])
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    within CONSTANT int2[] := (
        SELECT a.attnum || columns FROM pg_attribute AS a WHERE a.attrelid = parent AND a.attname = 'workspace_id'
    );
BEGIN
    IF EXISTS (
        SELECT FROM pg_index AS i
        CROSS JOIN LATERAL (SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS numbers) AS has
        WHERE i.indrelid = parent
          AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND cardinality(has.numbers) = cardinality(within)
          AND has.numbers @> within
    ) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT format('CREATE UNIQUE INDEX ON %s (%s)', parent, string_agg(quote_ident(a.attname), ', ' ORDER BY k.place))
        FROM unnest(within) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute AS a ON a.attrelid = parent AND a.attnum = k.number
    );
END;
$$;
COMMENT ON FUNCTION authz.key_within IS
    'The statement that makes the index that a foreign key within the workspace needs.
- parent: the table that is referred to.
- columns: the numbers of the columns that are referred to, without workspace_id.
Returns: the statement; NULL: there is such an index.
Called by: authz.refer_within.';
REVOKE ALL ON FUNCTION authz.key_within FROM PUBLIC;

CREATE FUNCTION authz.views_past(isolated regclass)
RETURNS TABLE (shown regclass, is_stored boolean, reads_as name)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE above AS (
        SELECT isolated::oid AS id, false AS is_stored
        UNION
        SELECT v.oid, v.relkind = 'm'
        FROM above AS a
        JOIN pg_depend AS d
            ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.id AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite AS w ON w.oid = d.objid
        JOIN pg_class AS v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
        WHERE NOT a.is_stored
    )
    SELECT c.oid::regclass, a.is_stored, o.rolname
    FROM above AS a
    JOIN pg_class AS c ON c.oid = a.id
    JOIN pg_roles AS o ON o.oid = c.relowner
    WHERE c.oid <> isolated
      AND (a.is_stored OR (
          (o.rolsuper OR o.rolbypassrls)
          AND NOT COALESCE((
              SELECT s.option_value::boolean
              FROM pg_options_to_table(c.reloptions) AS s WHERE s.option_name = 'security_invoker'
          ), false)
      ))
    ORDER BY c.oid::regclass::text;
END;
$$;
COMMENT ON FUNCTION authz.views_past IS
    'The views of a table, and the views of these, that show its rows past its policies: materialized ones, and those that
read with the rights of an owner whom no policy binds.
- isolated: the table.
- shown: the view.
- is_stored: whether it is materialized.
- reads_as: its owner.
Returns: a row for each, by name.
Called by: authz.open_to_others.';
REVOKE ALL ON FUNCTION authz.views_past FROM PUBLIC;

CREATE FUNCTION authz.open_to_others(isolated regclass)
RETURNS TABLE (says text, fix text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        format(
            CASE WHEN k.is_unique THEN '%s is unique across workspaces: each can find out what another has there'
            ELSE '%s excludes rows across workspaces: each can find out what another has there' END,
            k.key
        ),
        CASE
            WHEN NOT authz.is_isolated(isolated) THEN format('SELECT authz.isolate(%L); -- when each row has a workspace', isolated)
            WHEN k.referred THEN format('SELECT authz.isolate(%L); -- when all tables that refer to it are isolated', isolated)
            WHEN k.widens IS NULL THEN format(
                'ALTER TABLE %s DROP CONSTRAINT %I;', isolated, (SELECT c.relname FROM pg_class AS c WHERE c.oid = k.key)
            )
            ELSE k.widens || ';'
        END
    FROM authz.keys_across(isolated) AS k;

    RETURN QUERY
    SELECT
        CASE
            WHEN r.is_between THEN format(
                '%s refers to %s by %I without the workspace: each can find out, or change, what another has there',
                r.child, r.parent, r.name
            )
            WHEN r.parent = isolated THEN format(
                '%s refers to %s by %I, and is not isolated: whoever writes there can find out what each workspace has',
                r.child, r.parent, r.name
            )
            ELSE format(
                '%1$s refers by %3$I to %2$s, which is not isolated: to delete a row there %4$s of all workspaces%5$s',
                r.child,
                r.parent,
                r.name,
                CASE r.deletes WHEN 'c' THEN 'deletes rows' WHEN 'n' THEN 'changes rows' WHEN 'd' THEN 'changes rows'
                    ELSE 'fails because of rows' END,
                CASE WHEN r.updates IN ('c', 'n', 'd') THEN ', to change its key changes them' END
            )
        END,
        CASE
            WHEN r.is_between AND r.adds IS NULL THEN
                r.drops || '; -- and add it with workspace_id on both sides, ON UPDATE CASCADE and without MATCH FULL'
            WHEN r.is_between THEN r.drops || '; ' || r.adds || ';'
            WHEN r.parent = isolated AND (SELECT c.relkind FROM pg_class AS c WHERE c.oid = r.child) <> 'r' THEN
                r.drops || '; -- it cannot be isolated'
            WHEN r.parent = isolated THEN format('SELECT authz.isolate(%L);', r.child)
            ELSE format(
                'SELECT authz.isolate(%L); -- or, if all workspaces share it: REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM …',
                r.parent, r.parent
            )
        END
    FROM authz.references_across(isolated) AS r;

    RETURN QUERY
    SELECT
        CASE WHEN v.is_stored THEN
            format('the materialized view %s holds rows of %s, and no policy applies to it', v.shown, isolated)
        ELSE
            format('the view %s shows rows of %s as %I, to whom no policy applies', v.shown, isolated, v.reads_as)
        END,
        CASE WHEN v.is_stored THEN format('DROP MATERIALIZED VIEW %s; -- or REVOKE ALL ON %s FROM …', v.shown, v.shown)
        ELSE format('ALTER VIEW %s SET (security_invoker = true);', v.shown) END
    FROM authz.views_past(isolated) AS v;

    RETURN QUERY
    SELECT
        format('the rule %I of %s writes with the rights of its owner: what it copies has no workspace', w.rulename, isolated),
        format('DROP RULE %I ON %s;', w.rulename, isolated)
    FROM pg_rewrite AS w
    WHERE w.ev_class = isolated
    ORDER BY w.rulename;

    RETURN QUERY
    SELECT
        format(
            CASE WHEN f.prosecdef AND (o.rolsuper OR o.rolbypassrls)
                THEN 'the trigger %I of %s runs %s as %I, to whom no policy applies: it sees rows of all workspaces'
                ELSE 'the trigger %I of %s hands its rows to %s: what that copies elsewhere has no workspace' END,
            t.tgname, isolated, f.oid::regprocedure, o.rolname
        ),
        CASE WHEN f.prosecdef AND (o.rolsuper OR o.rolbypassrls)
            THEN format('ALTER FUNCTION %s SECURITY INVOKER;', f.oid::regprocedure)
            ELSE format('DROP TRIGGER %I ON %s; -- or isolate what it writes to', t.tgname, isolated) END
    FROM pg_trigger AS t
    JOIN pg_proc AS f ON f.oid = t.tgfoid
    JOIN pg_roles AS o ON o.oid = f.proowner
    WHERE t.tgrelid = isolated
      AND NOT t.tgisinternal
      AND t.tgenabled <> 'D'
      -- One before a row changes that row, most often: its time of change. 66: before, or instead of.
      AND (t.tgtype & 66 = 0 OR (f.prosecdef AND (o.rolsuper OR o.rolbypassrls)))
    ORDER BY t.tgname;

    RETURN QUERY
    SELECT
        format(
            '%s is in the publication %I: subscribers get the rows of all workspaces, and Supabase''s Realtime, which checks'
            ' policies without entering, fails with 55000 for all its tables',
            isolated, b.pubname
        ),
        CASE
            WHEN b.puballtables THEN format(
                'DROP PUBLICATION %I; CREATE PUBLICATION %I FOR TABLE … -- those that are not isolated', b.pubname, b.pubname
            )
            WHEN EXISTS (SELECT FROM pg_publication_rel AS n WHERE n.prpubid = b.oid AND n.prrelid = isolated)
                THEN format('ALTER PUBLICATION %I DROP TABLE %s;', b.pubname, isolated)
            ELSE format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %I;', b.pubname, s.nspname)
        END
    FROM pg_publication_tables AS t
    JOIN pg_publication AS b ON b.pubname = t.pubname
    JOIN pg_namespace AS s ON s.nspname = t.schemaname
    JOIN pg_class AS c ON c.relnamespace = s.oid AND c.relname = t.tablename
    WHERE c.oid = isolated
    ORDER BY b.pubname;
END;
$$;
COMMENT ON FUNCTION authz.open_to_others IS
    'What shows rows of an isolated table to other workspaces, or tells of them, past its policies: keys and foreign keys
that compare across workspaces, views, rules, triggers and publications.
- isolated: the table; it has a column workspace_id.
- says: what it is, and what it gives away.
- fix: the statement to run.
Returns: a row for each.
Called by: authz.isolate, and the owner of the schema, by hand.';
REVOKE ALL ON FUNCTION authz.open_to_others FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.isolate(isolated regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET client_min_messages TO 'warning'
AS $function$
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
    SELECT a.attnum AS number, format_type(a.atttypid, a.atttypmod) AS type, a.attgenerated AS generated
    INTO attribute
    FROM pg_attribute AS a
    WHERE a.attrelid = isolated AND a.attname = 'workspace_id';
    IF attribute.type <> 'uuid' THEN
        RAISE EXCEPTION '%.workspace_id is %, not uuid', isolated, attribute.type USING ERRCODE = '42804';
    ELSIF attribute.generated <> '' THEN
        RAISE EXCEPTION '%.workspace_id is generated: it must have what was entered as its default', isolated
            USING ERRCODE = '42804', HINT = format('ALTER TABLE %s ALTER COLUMN workspace_id DROP EXPRESSION;', isolated);
    END IF;
    EXECUTE format(
        'ALTER TABLE %s ALTER COLUMN workspace_id SET DEFAULT authz.claimed_workspace(),'
        ' ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', -- so that its owner finds the homeless
        isolated
    );
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE workspace_id IS NULL)', isolated) INTO homeless;
    IF homeless THEN
        RAISE WARNING '% has rows of no workspace, which nobody will see: give them one, and isolate it again', isolated
            USING HINT = format(
                'ALTER TABLE %s NO FORCE ROW LEVEL SECURITY; UPDATE %s SET workspace_id = … WHERE workspace_id IS NULL;'
                ' SELECT authz.isolate(%L);',
                isolated, isolated, isolated
            );
    ELSE
        EXECUTE format('ALTER TABLE %s ALTER COLUMN workspace_id SET NOT NULL', isolated);
        -- What is unique is so within a workspace: else one would learn of a key that another has, and could not use it.
        FOR part IN
            SELECT k.key AS name, k.widens FROM authz.keys_across(isolated) AS k
            WHERE NOT k.referred AND k.widens IS NOT NULL
        LOOP
            BEGIN
                EXECUTE part.widens;
            EXCEPTION
                WHEN dependent_objects_still_exist OR feature_not_supported OR undefined_object THEN
                    RAISE WARNING '% cannot be put within the workspace: %', part.name, SQLERRM
                        USING HINT = CASE SQLSTATE
                            WHEN '42704' THEN format(
                                'CREATE EXTENSION IF NOT EXISTS btree_gist; SELECT authz.isolate(%L);', isolated
                            )
                            WHEN '0A000' THEN 'Make it one of the access method btree or gist.'
                            ELSE format('Drop what depends on it, and isolate %s again.', isolated)
                        END;
            END;
        END LOOP;
    END IF;
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
    PERFORM authz.refer_within(isolated);
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
        EXECUTE format('REVOKE TRUNCATE, REFERENCES, TRIGGER ON %s FROM %s CASCADE', isolated, part.grantee);
    END LOOP;
    -- Nor may one set back the numbers that others get: USAGE is enough to take one.
    FOR part IN
        SELECT
            s.oid::regclass AS name,
            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
        FROM pg_depend AS d
        JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
        CROSS JOIN aclexplode(s.relacl) AS g
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = isolated
          AND g.grantee <> s.relowner AND g.privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %s', part.name, part.grantee);
        EXECUTE format('REVOKE UPDATE ON SEQUENCE %s FROM %s CASCADE', part.name, part.grantee);
    END LOOP;

    FOR part IN
        SELECT o.says, o.fix FROM authz.open_to_others(isolated) AS o
    LOOP
        RAISE WARNING '%', part.says USING HINT = part.fix;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION authz.isolate IS
    'Isolates a table of the application: adds workspace_id where it is missing (its default is what was entered, its
foreign key deletes rows with their workspace), puts it first in primary keys, unique constraints, unique indexes and
exclusion constraints, into foreign keys between isolated tables and into an index, forces row-level security with the
restrictive policy authz_workspace, and revokes TRUNCATE, REFERENCES and TRIGGER, and UPDATE of its sequences, from all
but the owner. It may be called again at any time, and must be after each change of the table. What it leaves open it
says in WARNINGs, each with the statement to run as its HINT: rows without a workspace, and authz.open_to_others.
- isolated: the table; not in the schema authz, temporary or partitioned, without parents and children.
Returns: nothing.
Raises: 42809 for a table that cannot be isolated; 42804 if its workspace_id is not a uuid, or generated.
Called by: the owner of the schema authz, who must own the table too, by hand or in a migration of the application.';
