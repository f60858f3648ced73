"""What PostgreSQL's catalogs say of the schema, for sidecar/store/contract.py. For an empty search_path."""

from __future__ import annotations

LAST = "SELECT name FROM authz.migrations ORDER BY number DESC LIMIT 1"
# Storage parameters are the operator's: docs/database.md tells them to tune autovacuum.
OBJECTS = """
    WITH relations AS (
        SELECT c.* FROM pg_class AS c WHERE c.relnamespace = to_regnamespace('authz')
    )
    SELECT format('%s %s', CASE c.relkind
            WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence'
            WHEN 'm' THEN 'materialized view'
            ELSE format('relation (%s)', c.relkind)
        END, c.oid::regclass) AS name,
        CASE c.relkind
            WHEN 'v' THEN
                md5(pg_get_viewdef(c.oid)) || COALESCE(' ' || array_to_string(c.reloptions, ' '), '')
            ELSE format('persistence %s, row security %s, forced %s', c.relpersistence, c.relrowsecurity,
                c.relforcerowsecurity)
        END AS text
    FROM relations AS c WHERE c.relkind NOT IN ('i', 'I', 'c')
    UNION ALL
    SELECT format('column %s.%I', c.oid::regclass, a.attname), concat_ws(
        ' ',
        format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
        CASE WHEN a.attnotnull THEN 'NOT NULL' END,
        'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
        NULLIF(format('identity %s', a.attidentity), 'identity '),
        NULLIF(format('generated %s', a.attgenerated), 'generated ')
    )
    FROM relations AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relkind = 'r'
    UNION ALL
    SELECT format('constraint %I on %s', k.conname, c.oid::regclass),
        pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' ELSE ' (not valid)' END
    FROM relations AS c JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.contype NOT IN ('n', 't')
    UNION ALL
    SELECT format('index %s', i.indexrelid::regclass),
        pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' (invalid)' END
    FROM relations AS c JOIN pg_index AS i ON i.indrelid = c.oid
    UNION ALL
    SELECT format('trigger %I on %s', t.tgname, t.tgrelid::regclass),
        format('%s%s', pg_get_triggerdef(t.oid), CASE t.tgenabled
            WHEN 'O' THEN '' WHEN 'D' THEN ' (disabled)' WHEN 'R' THEN ' (replica only)' ELSE ' (always)'
        END)
    FROM pg_trigger AS t
    JOIN pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE NOT t.tgisinternal
      AND (
          c.relnamespace = to_regnamespace('authz')
          -- On Supabase's users; what else calls our functions from tables of yours is yours.
          OR (p.pronamespace = to_regnamespace('authz') AND t.tgrelid = to_regclass('auth.users'))
      )
    UNION ALL
    SELECT format('policy %I on %s', p.polname, c.oid::regclass), concat_ws(
        ' ', p.polcmd::text, p.polpermissive::text, p.polroles::regrole[]::text,
        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
    )
    FROM relations AS c JOIN pg_policy AS p ON p.polrelid = c.oid
    UNION ALL
    SELECT format('rule %I on %s', r.rulename, c.oid::regclass), pg_get_ruledef(r.oid)
    FROM relations AS c JOIN pg_rewrite AS r ON r.ev_class = c.oid AND r.rulename <> '_RETURN'
    UNION ALL
    SELECT format('child %s of %s', i.inhrelid::regclass, c.oid::regclass), 'inherits'
    FROM relations AS c JOIN pg_inherits AS i ON i.inhparent = c.oid WHERE c.relkind = 'r'
    UNION ALL
    SELECT format('%s %s', CASE p.prokind
            WHEN 'f' THEN 'function' WHEN 'p' THEN 'procedure' ELSE 'aggregate'
        END, p.oid::regprocedure),
        CASE
            WHEN p.prokind NOT IN ('f', 'p') THEN ''
            WHEN p.prosqlbody IS NULL THEN md5(pg_get_functiondef(p.oid))
            -- After a dump and restore PostgreSQL names columns in it that had no name.
            ELSE md5(regexp_replace(pg_get_functiondef(p.oid), ' AS ("[^"]+"|[[:alnum:]_]+)', '', 'g'))
        END
    FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('authz')
    UNION ALL
    SELECT format('type %s', t.oid::regtype), t.typtype::text
    FROM pg_type AS t
    LEFT JOIN pg_class AS c ON c.oid = t.typrelid
    WHERE t.typnamespace = to_regnamespace('authz')
      AND t.typtype <> 'p' AND t.typcategory <> 'A' AND COALESCE(c.relkind, 'c') = 'c'
"""
# Kinds of object that no migration makes: operators, statistics, default privileges in the schema.
OTHERWISE_THERE = """
    SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
    FROM pg_depend AS d
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = to_regnamespace('authz')
      AND d.classid NOT IN (
          'pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_constraint'::regclass
      )
      AND pg_describe_object(d.classid, d.objid, 0) IS NOT NULL
    ORDER BY 1
"""
_GRANTABLE = """
    SELECT 'SCHEMA authz' AS name, '' AS in_column, n.nspowner AS owner, n.nspacl AS acl, 'n'::"char" AS kind,
        n.oid AS id
    FROM pg_namespace AS n WHERE n.nspname = 'authz'
    UNION ALL
    SELECT format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass), '',
        c.relowner, c.relacl, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.oid
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace('authz') AND c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S')
    UNION ALL
    SELECT format('TABLE %s', c.oid::regclass), format('%I', a.attname), c.relowner,
        a.attacl, 'c'::"char", c.oid
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
    WHERE c.relnamespace = to_regnamespace('authz')
    UNION ALL
    SELECT format('%s %s', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure),
        '', p.proowner, p.proacl, 'f'::"char", p.oid
    FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('authz')
    UNION ALL
    SELECT format('TYPE %s', t.oid::regtype), '', t.typowner, t.typacl, 'T'::"char", t.oid
    FROM pg_type AS t WHERE t.typnamespace = to_regnamespace('authz') AND t.typacl IS NOT NULL
"""
GRANTS = f"""
    WITH grantable AS ({_GRANTABLE})
    SELECT g.name, g.in_column, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
        a.privilege_type, a.is_grantable, a.grantor::regrole::text
    FROM grantable AS g, aclexplode(COALESCE(g.acl, acldefault(g.kind, g.owner))) AS a
    WHERE a.grantee <> g.owner AND NOT (g.kind = 'T' AND a.grantee = 0)
    ORDER BY 1, 2, 3, 4, 5
"""  # noqa: S608 - of constants
OWNERS = """
    SELECT o.name, o.owner::regrole::text, n.nspowner::regrole::text
    FROM pg_namespace AS n
    JOIN (
        SELECT format('%s %s', CASE c.relkind
                WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE'
            END, c.oid::regclass) AS name, c.relowner AS owner, c.relnamespace AS namespace
        FROM pg_class AS c WHERE c.relkind NOT IN ('i', 'I', 'c', 't')
        UNION ALL
        SELECT format('ROUTINE %s', p.oid::regprocedure), p.proowner, p.pronamespace FROM pg_proc AS p
    ) AS o ON o.namespace = n.oid
    WHERE n.nspname = 'authz' AND o.owner <> n.nspowner
    ORDER BY 1
"""
# Rights that no grant on an object shows, and groups that are not there. A superuser has all rights anyway.
BY_MEMBERSHIP = """
    SELECT format('%s may do what %s may: read or write the tables, the isolation secret among them',
            m.oid::regrole, g.oid::regrole),
        format('as a superuser: REVOKE %s FROM %s; or know that they are as trusted as the owner', (
            SELECT string_agg(d.rolname, ', ')
            FROM pg_auth_members AS a JOIN pg_roles AS d ON d.oid = a.roleid
            WHERE a.member = m.oid AND pg_has_role(a.roleid, g.oid, 'MEMBER')
        ), m.oid::regrole)
    FROM pg_namespace AS n
    JOIN pg_roles AS g ON g.oid = n.nspowner OR g.rolname IN ('pg_read_all_data', 'pg_write_all_data')
    JOIN pg_roles AS m ON m.oid <> g.oid AND pg_has_role(m.oid, g.oid, 'MEMBER')
    WHERE n.nspname = 'authz' AND NOT m.rolsuper AND m.oid <> n.nspowner AND m.rolname !~ '^(pg|authz)_'
    UNION ALL
    SELECT format('%s is a member of %s', m.oid::regrole, g.oid::regrole),
        format('as a superuser: REVOKE %s FROM %s', g.oid::regrole, m.oid::regrole)
    FROM pg_auth_members AS a
    JOIN pg_roles AS g ON g.oid = a.roleid
    JOIN pg_roles AS m ON m.oid = a.member
    WHERE m.rolname IN ('authz_app', 'authz_audit', 'authz_sidecar')
    UNION ALL
    SELECT format('%s is more than a group', r.oid::regrole), format(
        'as a superuser: ALTER ROLE %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOLOGIN NOREPLICATION NOBYPASSRLS',
        r.oid::regrole
    )
    FROM pg_roles AS r
    WHERE r.rolname IN ('authz_app', 'authz_audit', 'authz_sidecar')
      AND (
          r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolcanlogin OR r.rolreplication
          OR r.rolbypassrls
      )
    UNION ALL
    SELECT format('the cluster lacks the role %s, which no dump has', g.name),
        format('sidecar migrate makes it, or as a superuser: CREATE ROLE %s NOLOGIN', g.name)
    FROM unnest(ARRAY['authz_app', 'authz_audit', 'authz_sidecar']) AS g (name)
    WHERE to_regrole(g.name) IS NULL
    ORDER BY 1
"""
# An owner can take rights from themselves; our functions run with the owner's.
OWNER_LACKS = f"""
    WITH grantable AS ({_GRANTABLE})
    SELECT g.name, d.privilege_type, g.owner::regrole::text
    FROM grantable AS g, aclexplode(acldefault(g.kind, g.owner)) AS d
    WHERE g.acl IS NOT NULL AND g.kind NOT IN ('T', 'c') AND d.grantee = g.owner
      AND NOT EXISTS (
          SELECT FROM aclexplode(g.acl) AS a
          WHERE a.grantee = g.owner AND a.privilege_type = d.privilege_type
      )
    ORDER BY 1, 2
"""  # noqa: S608 - of constants
# Who has more of an object than its owner and our groups: after a migration made it, by default privileges.
GIVEN_AWAY = f"""
    WITH grantable AS ({_GRANTABLE})
    SELECT DISTINCT g.id, g.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
    FROM grantable AS g, aclexplode(g.acl) AS a
    WHERE a.grantee <> g.owner AND g.kind NOT IN ('T', 'c')
      AND (a.grantee = 0 OR a.grantee::regrole::text NOT IN ('authz_app', 'authz_audit', 'authz_sidecar'))
"""  # noqa: S608 - of constants
IDS = f"SELECT DISTINCT g.id FROM ({_GRANTABLE}) AS g"  # noqa: S608 - of constants
