-- What authz.isolate does to any table; it is idempotent.
BEGIN;

CREATE FUNCTION pg_temp.id_of(slug text) RETURNS uuid LANGUAGE sql
RETURN (SELECT w.id FROM authz.workspaces AS w WHERE w.slug = id_of.slug);
CREATE FUNCTION pg_temp.shape(isolated regclass) RETURNS text LANGUAGE sql
RETURN concat_ws(
    ' | ',
    (SELECT format('%s %s', c.relrowsecurity, c.relforcerowsecurity) FROM pg_class AS c WHERE c.oid = isolated),
    (SELECT format('%s %s', a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
        FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = isolated AND a.attname = 'workspace_id'),
    (SELECT string_agg(pg_get_constraintdef(k.oid), '; ' ORDER BY k.contype, k.conname)
        FROM pg_constraint AS k WHERE k.conrelid = isolated AND k.contype <> 'n'),
    (SELECT string_agg(split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2), '; ' ORDER BY i.indexrelid::regclass::text)
        FROM pg_index AS i WHERE i.indrelid = isolated),
    (SELECT string_agg(format('%s %s %s', p.polname, p.polpermissive, p.polcmd), '; ' ORDER BY p.polname)
        FROM pg_policy AS p WHERE p.polrelid = isolated)
);

CREATE TABLE public.kv_store_b9a572ea (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL);
GRANT ALL ON public.kv_store_b9a572ea TO PUBLIC, authz_app;
GRANT REFERENCES (key) ON public.kv_store_b9a572ea TO authz_sidecar;
CREATE TABLE public.notes (
    id integer PRIMARY KEY,
    workspace_id uuid REFERENCES authz.workspaces (id),
    title text UNIQUE NULLS NOT DISTINCT DEFERRABLE,
    body text
);
CREATE INDEX ON public.notes (workspace_id, title);
CREATE UNIQUE INDEX ON public.notes (body) WHERE body <> '';
CREATE TABLE public.tags (id integer PRIMARY KEY, note_id integer REFERENCES public.notes (id));

DO $$
DECLARE
    once text;
    twice text;
    attempt text;
BEGIN
    PERFORM authz.isolate('public.kv_store_b9a572ea');
    once := pg_temp.shape('public.kv_store_b9a572ea');
    PERFORM authz.isolate('kv_store_b9a572ea'::text);
    twice := pg_temp.shape('public.kv_store_b9a572ea');
    ASSERT once = 't t | t authz.claimed_workspace() | '
        'FOREIGN KEY (workspace_id) REFERENCES authz.workspaces(id) ON DELETE CASCADE; PRIMARY KEY (workspace_id, key) | '
        'btree (workspace_id, key) | authz_access t *; authz_workspace f *', once;
    ASSERT twice = once, twice;
    ASSERT (
        SELECT array_agg(DISTINCT g.privilege_type ORDER BY g.privilege_type)
        FROM pg_class AS c, aclexplode(c.relacl) AS g
        WHERE c.oid = 'public.kv_store_b9a572ea'::regclass AND g.grantee <> c.relowner
          AND g.privilege_type <> 'MAINTAIN' -- reads no rows, and does not exist in every version
    ) = ARRAY['DELETE', 'INSERT', 'SELECT', 'UPDATE'];
    ASSERT NOT has_column_privilege('authz_sidecar', 'public.kv_store_b9a572ea', 'key', 'REFERENCES');

    -- An existing column, index that begins with it, or foreign key is kept. What is unique becomes so within a
    -- workspace, unless a table that is not isolated refers to it.
    PERFORM authz.isolate('public.notes');
    PERFORM authz.isolate('public.notes');
    once := pg_temp.shape('public.notes');
    ASSERT once = 't t | t authz.claimed_workspace() | '
        'FOREIGN KEY (workspace_id) REFERENCES authz.workspaces(id); PRIMARY KEY (id); '
        'UNIQUE NULLS NOT DISTINCT (workspace_id, title) DEFERRABLE | '
        'btree (workspace_id, body) WHERE (body <> ''''::text); btree (id); '
        'btree (workspace_id, title) NULLS NOT DISTINCT; '
        'btree (workspace_id, title) | authz_access t *; authz_workspace f *', once;

    FOREACH attempt IN ARRAY ARRAY[
        'CREATE VIEW public.v AS SELECT 1 AS workspace_id',
        'CREATE MATERIALIZED VIEW public.v AS SELECT 1 AS workspace_id',
        'CREATE TABLE public.v (workspace_id uuid) PARTITION BY HASH (workspace_id)',
        'CREATE TABLE public.w (); CREATE TABLE public.v () INHERITS (public.w)',
        'CREATE TABLE public.v (); CREATE TABLE public.w () INHERITS (public.v)',
        'CREATE TABLE public.v (workspace_id text)',
        'CREATE TABLE public.v (workspace_id uuid); INSERT INTO public.v VALUES (gen_random_uuid())',
        'CREATE TABLE authz.v ()',
        'CREATE TEMPORARY TABLE v ()'
    ] LOOP
        BEGIN
            EXECUTE attempt;
            PERFORM authz.isolate(COALESCE(to_regclass('public.v'), to_regclass('authz.v'), to_regclass('v')));
        EXCEPTION
            WHEN wrong_object_type OR datatype_mismatch OR foreign_key_violation THEN
                CONTINUE;
        END;
        RAISE EXCEPTION 'isolated: %', attempt;
    END LOOP;
END;
$$;

-- Rows from before belong to no workspace until the table's owner assigns one.
CREATE TABLE public.old (key text PRIMARY KEY);
INSERT INTO public.old VALUES ('a');
GRANT SELECT ON public.old TO authz_app;
DO $$
BEGIN
    PERFORM authz.isolate('public.old');
    ASSERT pg_temp.shape('public.old') ~ '^t t \| f .*PRIMARY KEY \(key\)', pg_temp.shape('public.old');
    SET LOCAL ROLE authz_app;
    PERFORM authz.enter('adam', 'acme');
    ASSERT NOT EXISTS (SELECT FROM public.old);
    RESET ROLE;
    ALTER TABLE public.old NO FORCE ROW LEVEL SECURITY;
    UPDATE public.old SET workspace_id = pg_temp.id_of('acme');
    PERFORM authz.isolate('public.old');
    ASSERT pg_temp.shape('public.old') ~ '^t t \| t .*PRIMARY KEY \(workspace_id, key\)', pg_temp.shape('public.old');
    SET LOCAL ROLE authz_app;
    ASSERT (SELECT key FROM public.old) = 'a';
END;
$$;

ROLLBACK;
