"""The schema `authz` as text, the same from each PostgreSQL: `python -m tests.postgres.schema_text URL`."""

from __future__ import annotations

import sys

import psycopg

HEAD = """\
-- What the migrations add up to, for readers. Written by tests/postgres/schema_text.py, compared by a test:
-- change the schema by a migration, never here.
"""
QUERIES = (
    """SELECT format(
        E'TABLE %s (\\n%s\\n)%s;',
        c.oid::regclass,
        string_agg(part.text, E',\\n' ORDER BY part.place, part.text COLLATE "C"),
        ' WITH (' || array_to_string(c.reloptions, ', ') || ')'
    )
    FROM pg_class AS c
    JOIN LATERAL (
        SELECT a.attnum AS place, concat_ws(
            ' ',
            '    ' || a.attname,
            format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
            CASE WHEN a.attnotnull THEN 'NOT NULL' END,
            'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)
        ) AS text
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 10000, format('    CONSTRAINT %s %s', k.conname, pg_get_constraintdef(k.oid))
        FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype <> 'n'
    ) AS part ON true
    WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind = 'r'
    GROUP BY c.oid ORDER BY c.relname COLLATE "C" """,
    """SELECT pg_get_indexdef(i.indexrelid) || ';'
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'authz'::regnamespace
      AND NOT EXISTS (
          SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
      )
    ORDER BY c.relname COLLATE "C" """,
    """SELECT pg_get_functiondef(p.oid) || ';' FROM pg_proc AS p
    WHERE p.pronamespace = 'authz'::regnamespace ORDER BY p.oid::regprocedure::text COLLATE "C" """,
    """SELECT format(E'VIEW %s AS\\n%s', c.oid::regclass, pg_get_viewdef(c.oid)) FROM pg_class AS c
    WHERE c.relnamespace = 'authz'::regnamespace AND c.relkind = 'v' ORDER BY c.relname COLLATE "C" """,
    """SELECT pg_get_triggerdef(t.oid) || ';' FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'authz'::regnamespace AND NOT t.tgisinternal
    ORDER BY c.relname COLLATE "C", t.tgname COLLATE "C" """,
    """SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s;', p.oid::regprocedure, a.grantee::regrole)
    FROM pg_proc AS p, aclexplode(p.proacl) AS a
    WHERE p.pronamespace = 'authz'::regnamespace AND a.grantee <> p.proowner
    ORDER BY p.oid::regprocedure::text COLLATE "C", a.grantee::regrole::text COLLATE "C" """,
)


def schema_text(url: str) -> str:
    parts = [HEAD]
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = ''")
        for query in QUERIES:
            parts += [text.rstrip() + "\n" for (text,) in connection.execute(query.encode())]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(schema_text(sys.argv[1]))
