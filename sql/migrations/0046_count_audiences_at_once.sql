-- What half a million memberships are asked for takes seconds: who does not exist is looked up once for all of them, and
-- not by a call for each; whom a change concerns is counted and named in one pass, and not in one for each kind.

DO $$
BEGIN
    -- As authz.is_somebody, which was made in the same way: elsewhere than with Supabase this trigger is on authz.users.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = 'authz.users'::regclass AND t.tgname = 'on_auth_user_created'
    ) THEN
        CREATE FUNCTION authz.nobodies(workspace uuid)
        RETURNS SETOF text
        LANGUAGE sql STABLE
        BEGIN ATOMIC
            SELECT d.id FROM authz.deleted_users AS d WHERE NOT authz.is_somebody(d.id);
        END;
        CREATE FUNCTION authz.email_or(user_id text, known text)
        RETURNS text
        LANGUAGE sql STABLE
        RETURN known;
    ELSE
        EXECUTE format(
            $sql$
            CREATE FUNCTION authz.nobodies(workspace uuid)
            RETURNS SETOF text
            LANGUAGE sql STABLE
            BEGIN ATOMIC
                SELECT DISTINCT m.user_id
                FROM authz.workspace_memberships AS m
                LEFT JOIN auth.users AS u
                    ON u.id = CASE
                        WHEN m.user_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                            THEN m.user_id::uuid
                    END %s
                WHERE u.id IS NULL AND (nobodies.workspace IS NULL OR m.workspace_id = nobodies.workspace);
            END
            $sql$,
            CASE WHEN EXISTS (
                SELECT FROM pg_catalog.pg_depend AS d
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                WHERE d.objid = 'authz.is_somebody(text)'::regprocedure
                  AND d.refobjid = 'auth.users'::regclass
                  AND a.attname = 'deleted_at'
            ) THEN 'AND u.deleted_at IS NULL' END
        );
        CREATE FUNCTION authz.email_or(user_id text, known text)
        RETURNS text
        LANGUAGE sql STABLE
        RETURN COALESCE(known, authz.email_of(user_id));
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.nobodies IS
'The users who do not exist (authz.is_somebody), at least those who are members of a workspace all the same. It is
quick for all members at once; of one user ask authz.is_somebody.
- workspace: members of this workspace at least; NULL: of any.
Returns: a row for each user.
Called by: authz.people, authz.members_standing and authz.audience_together.';
REVOKE ALL ON FUNCTION authz.nobodies FROM PUBLIC;
COMMENT ON FUNCTION authz.email_or IS
'The e-mail address of a user whose row in authz.users was read: quicker than authz.email_of for many.
- user_id: the user.
- known: the address in that row; NULL if there is no row, or none in it.
Returns: the address; NULL if none is known.
Called by: authz.people.';
REVOKE ALL ON FUNCTION authz.email_or FROM PUBLIC;

CREATE INDEX outbox_slug_idx ON authz.outbox (COALESCE(data ->> 'slug', data ->> 'to'))
    WHERE kind IN ('workspace.created', 'workspace.found', 'workspace.slug_changed');
COMMENT ON INDEX authz.outbox_slug_idx IS 'Finds the workspaces that had a slug at any time.';

CREATE OR REPLACE FUNCTION authz.workspaces_called(
    slug text,
    OUT workspace_id uuid,
    OUT since timestamptz,
    OUT until timestamptz,
    OUT created_at timestamptz,
    OUT deleted_at timestamptz
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH told AS (
        SELECT
            o.workspace_id, o.id, o.at,
            CASE
                WHEN o.kind IN ('workspace.created', 'workspace.found') THEN o.data ->> 'slug'
                WHEN o.kind = 'workspace.slug_changed' THEN o.data ->> 'to'
            END AS slug
        FROM authz.outbox AS o
        WHERE o.kind IN (
            'workspace.created', 'workspace.found', 'workspace.slug_changed', 'workspace.purged', 'workspace.lost'
        )
          AND o.workspace_id IN (
              SELECT s.workspace_id FROM authz.outbox AS s
              WHERE s.kind IN ('workspace.created', 'workspace.found', 'workspace.slug_changed')
                AND COALESCE(s.data ->> 'slug', s.data ->> 'to') = workspaces_called.slug
          )
    ),
    called AS (
        SELECT t.*, lead(t.at) OVER (PARTITION BY t.workspace_id ORDER BY t.id) AS until FROM told AS t
    ),
    own AS (
        SELECT
            c.workspace_id,
            min(c.at) AS since,
            CASE WHEN bool_or(c.until IS NULL) THEN NULL ELSE max(c.until) END AS until
        FROM called AS c
        WHERE c.slug = workspaces_called.slug
        GROUP BY c.workspace_id
    )
    SELECT
        w.workspace_id, w.since, w.until,
        (SELECT min(o.at) FROM authz.outbox AS o
            WHERE o.workspace_id = w.workspace_id AND o.kind IN ('workspace.created', 'workspace.found')),
        (SELECT o.at FROM authz.outbox AS o
            WHERE o.workspace_id = w.workspace_id
              AND o.kind IN ('workspace.deleted', 'workspace.purged', 'workspace.lost')
              AND NOT EXISTS (
                  SELECT FROM authz.outbox AS r
                  WHERE r.workspace_id = o.workspace_id
                    AND r.id > o.id
                    AND r.kind IN ('workspace.restored', 'workspace.created', 'workspace.found')
              )
            ORDER BY o.id LIMIT 1)
    FROM own AS w
    ORDER BY w.since, w.workspace_id;
END;
$$;
CREATE OR REPLACE FUNCTION authz.people(
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT deleted_at timestamptz,
    OUT members jsonb,
    OUT invitations jsonb,
    OUT overrides jsonb,
    OUT limits jsonb,
    OUT usage jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET plan_cache_mode = force_custom_plan SET work_mem = '64MB'
AS $$
BEGIN
    RETURN QUERY
    WITH nobodies AS MATERIALIZED (SELECT n.id FROM authz.nobodies(people.workspace) AS n (id))
    SELECT
        w.id, w.slug, w.name, w.plan_tier, w.status, w.deleted_at,
        COALESCE(m.members, '[]'), COALESCE(i.invitations, '[]'), COALESCE(f.overrides, '[]'),
        COALESCE(f.limits, '{}'), COALESCE(u.usage, '{}')
    FROM authz.workspaces AS w
    LEFT JOIN (
        SELECT m.workspace_id, jsonb_agg(
            jsonb_build_object(
                'user', m.user_id, 'role', m.role, 'email', authz.email_or(m.user_id, u.email),
                'joined_at', m.joined_at, 'exists', n.id IS NULL
            )
            ORDER BY m.user_id
        ) AS members
        FROM authz.workspace_memberships AS m
        LEFT JOIN authz.users AS u ON u.id = m.user_id
        LEFT JOIN nobodies AS n ON n.id = m.user_id
        WHERE people.workspace IS NULL OR m.workspace_id = people.workspace
        GROUP BY m.workspace_id
    ) AS m ON m.workspace_id = w.id
    LEFT JOIN (
        SELECT
            i.workspace_id,
            jsonb_agg(authz.invitation_document(i) ORDER BY authz.email_key(i.email)) AS invitations
        FROM authz.workspace_invitations AS i
        WHERE (people.workspace IS NULL OR i.workspace_id = people.workspace) AND i.expires_at > statement_timestamp()
        GROUP BY i.workspace_id
    ) AS i ON i.workspace_id = w.id
    LEFT JOIN (
        SELECT
            f.workspace_id,
            jsonb_agg(
                authz.override_document(f) || jsonb_build_object('changed_at', f.changed_at) ORDER BY f.kind, f.name
            ) AS overrides,
            jsonb_object_agg(f.name, f.at_most) FILTER (WHERE f.kind = 'limit') AS limits
        FROM authz.workspace_features AS f
        WHERE (people.workspace IS NULL OR f.workspace_id = people.workspace)
          AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ) AS f ON f.workspace_id = w.id
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(t.name, CASE
            WHEN t.kind = 'members' THEN w.member_count + jsonb_array_length(COALESCE(i.invitations, '[]'))
            WHEN c.period_start >= p.starts THEN c.used
            ELSE 0
        END) AS usage
        FROM authz.meters AS t
        LEFT JOIN authz.workspace_usage AS c ON c.workspace_id = w.id AND c.meter = t.name
        CROSS JOIN LATERAL authz.period_at(
            t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
        ) AS p
        WHERE t.kind <> 'owned' AND position('#' IN t.name) = 0
    ) AS u ON true
    WHERE (people.workspace IS NULL OR w.id = people.workspace)
      AND (w.deleted_at IS NULL OR m.members IS NOT NULL)
    ORDER BY w.slug;
END;
$$;
CREATE FUNCTION authz.workspaces_standing(
    workspace uuid DEFAULT NULL,
    OUT workspace_id uuid,
    OUT slug text,
    OUT name text,
    OUT plan text,
    OUT status text,
    OUT features jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT w.id, w.slug, w.name, w.plan_tier, w.status, COALESCE(o.features, '{}')
    FROM authz.workspaces AS w
    LEFT JOIN (
        SELECT f.workspace_id, jsonb_object_agg(f.name, f.enabled) AS features
        FROM authz.workspace_features AS f
        WHERE (workspaces_standing.workspace IS NULL OR f.workspace_id = workspaces_standing.workspace)
          AND f.kind = 'feature' AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ) AS o ON o.workspace_id = w.id
    WHERE (workspaces_standing.workspace IS NULL OR w.id = workspaces_standing.workspace)
      AND (w.deleted_at IS NULL OR EXISTS (
          SELECT FROM authz.workspace_memberships AS m WHERE m.workspace_id = w.id
      ))
    ORDER BY w.slug;
END;
$$;
COMMENT ON FUNCTION authz.workspaces_standing IS
'The workspaces as rights are asked about them: what authz.people tells, without people, invitations and quotas.
- workspace: a workspace; NULL: all that are not deleted, or have members all the same.
- workspace_id: (result) the workspace.
- slug: (result) its slug.
- name: (result) its name.
- plan: (result) its plan.
- status: (result) active or suspended.
- features: (result) {feature: true or false} of the overrides that hold.
Returns: a row for each workspace, by slug.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.workspaces_standing FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.workspaces_standing TO authz_audit;

CREATE FUNCTION authz.members_standing(
    workspace uuid DEFAULT NULL, OUT workspace_id uuid, OUT user_id text, OUT role text, OUT is_somebody boolean
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET work_mem = '64MB'
AS $$
BEGIN
    RETURN QUERY
    WITH nobodies AS MATERIALIZED (SELECT n.id FROM authz.nobodies(members_standing.workspace) AS n (id))
    SELECT m.workspace_id, m.user_id, m.role, n.id IS NULL
    FROM authz.workspace_memberships AS m
    LEFT JOIN nobodies AS n ON n.id = m.user_id
    WHERE members_standing.workspace IS NULL OR m.workspace_id = members_standing.workspace
    ORDER BY m.workspace_id, m.user_id;
END;
$$;
COMMENT ON FUNCTION authz.members_standing IS
'Who is in which workspace now, by the tables.
- workspace: a workspace; NULL: all.
- workspace_id: (result) the workspace.
- user_id: (result) the user.
- role: (result) their role.
- is_somebody: (result) whether the user exists (authz.is_somebody).
Returns: a row for each membership, by workspace and user.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.members_standing FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.members_standing TO authz_audit;

CREATE FUNCTION authz.audience_together(
    at_most bigint DEFAULT 20,
    OUT plan text,
    OUT status text,
    OUT role text,
    OUT features jsonb,
    OUT roles text[],
    OUT workspaces bigint,
    OUT people bigint,
    OUT first text[]
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
AS $$
BEGIN
    RETURN QUERY
    WITH overridden AS MATERIALIZED (
        SELECT f.workspace_id, jsonb_object_agg(f.name, f.enabled) AS features
        FROM authz.workspace_features AS f
        WHERE f.kind = 'feature' AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
        GROUP BY f.workspace_id
    ),
    nobodies AS MATERIALIZED (SELECT n.id FROM authz.nobodies(NULL) AS n (id)),
    holding AS (
        SELECT m.workspace_id, m.role, count(*) AS people
        FROM authz.workspace_memberships AS m
        WHERE NOT EXISTS (SELECT FROM nobodies AS n WHERE n.id = m.user_id)
        GROUP BY m.workspace_id, m.role
    ),
    held AS MATERIALIZED (
        SELECT
            w.slug, w.plan_tier, w.status, COALESCE(o.features, '{}') AS features, h.roles, h.people
        FROM (
            SELECT
                h.workspace_id, array_agg(h.role ORDER BY h.role) AS roles, array_agg(h.people ORDER BY h.role) AS people
            FROM holding AS h
            GROUP BY h.workspace_id
        ) AS h
        JOIN authz.workspaces AS w ON w.id = h.workspace_id
        LEFT JOIN overridden AS o ON o.workspace_id = w.id
    ),
    -- Compared by a number from here: there are few kinds, and many workspaces.
    kinds AS MATERIALIZED (
        SELECT row_number() OVER () AS kind, k.*
        FROM (SELECT DISTINCT h.plan_tier, h.status, h.features, h.roles FROM held AS h) AS k
    ),
    numbered AS MATERIALIZED (
        SELECT k.kind, h.slug, h.people
        FROM held AS h
        JOIN kinds AS k
            ON k.plan_tier = h.plan_tier AND k.status = h.status AND k.features = h.features AND k.roles = h.roles
    ),
    named AS (
        SELECT n.kind, count(*) AS workspaces, (array_agg(n.slug ORDER BY n.slug))[:audience_together.at_most] AS first
        FROM numbered AS n
        GROUP BY n.kind
    ),
    counted AS (
        SELECT n.kind, p.place, sum(p.people)::bigint AS people
        FROM numbered AS n
        CROSS JOIN LATERAL unnest(n.people) WITH ORDINALITY AS p (people, place)
        GROUP BY n.kind, p.place
    )
    SELECT k.plan_tier, k.status, k.roles[c.place], k.features, k.roles, n.workspaces, c.people, n.first
    FROM kinds AS k
    JOIN named AS n ON n.kind = k.kind
    JOIN counted AS c ON c.kind = k.kind
    ORDER BY 1, 2, 3, 4, 5;
END;
$$;
COMMENT ON FUNCTION authz.audience_together IS
'As authz.audience, and apart for workspaces in which other roles are held: so that those of several roles can be
counted once.
- at_most: how many workspaces are named.
- plan: (result) their workspace''s plan.
- status: (result) its status.
- role: (result) their role.
- features: (result) {feature: true or false} of its overrides that hold.
- roles: (result) all roles that are held in it.
- workspaces: (result) how many workspaces are so.
- people: (result) how many memberships of the role they have.
- first: (result) the slugs of the first ones.
Returns: a row for each kind.
Called by: authz_audit; authz.audience.';
REVOKE ALL ON FUNCTION authz.audience_together FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.audience_together TO authz_audit;

CREATE OR REPLACE FUNCTION authz.audience(
    OUT plan text, OUT status text, OUT role text, OUT features jsonb, OUT workspaces bigint, OUT people bigint
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT t.plan, t.status, t.role, t.features, sum(t.workspaces)::bigint, sum(t.people)::bigint
    FROM authz.audience_together(0) AS t
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4;
END;
$$;

DROP FUNCTION authz.audience_of(text, text, text, jsonb, bigint);
CREATE FUNCTION authz.audience_of(
    slugs text[],
    at_most bigint DEFAULT 20,
    OUT slug text,
    OUT role text,
    OUT user_id text
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT w.slug, r.name, m.user_id
    FROM authz.workspaces AS w
    CROSS JOIN LATERAL (
        SELECT DISTINCT h.role FROM authz.workspace_memberships AS h WHERE h.workspace_id = w.id
    ) AS r (name)
    CROSS JOIN LATERAL (
        SELECT h.user_id FROM authz.workspace_memberships AS h
        WHERE h.workspace_id = w.id AND h.role = r.name AND authz.is_somebody(h.user_id)
        ORDER BY h.user_id
        LIMIT audience_of.at_most
    ) AS m
    WHERE w.slug = ANY (audience_of.slugs)
    ORDER BY w.slug, m.user_id;
END;
$$;
COMMENT ON FUNCTION authz.audience_of IS
'Who the people in some workspaces are.
- slugs: the workspaces.
- at_most: how many people of each role and workspace; NULL: all.
- slug: (result) the workspace.
- role: (result) their role.
- user_id: (result) the user.
Returns: a row for each membership of a user who exists, by slug and user.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.audience_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.audience_of TO authz_audit;

CREATE FUNCTION authz.workspaces_not_on(plans text[], OUT slug text, OUT plan text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT w.slug, w.plan_tier FROM authz.workspaces AS w
    WHERE w.plan_tier <> ALL (workspaces_not_on.plans) AND w.deleted_at IS NULL
    ORDER BY w.slug;
END;
$$;
COMMENT ON FUNCTION authz.workspaces_not_on IS
'The workspaces on other plans than some, those without members too: while there are any, no catalog with only those
plans can be published.
- plans: the plans.
- slug: (result) the workspace.
- plan: (result) its plan.
Returns: a row for each workspace that is not deleted, by slug.
Called by: authz_audit.';
REVOKE ALL ON FUNCTION authz.workspaces_not_on FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.workspaces_not_on TO authz_audit;

-- Half a million rows are sorted and hashed in memory.
ALTER FUNCTION authz.members_at SET work_mem = '64MB';
ALTER FUNCTION authz.workspaces_told SET work_mem = '64MB';
ALTER FUNCTION authz.overrides_told SET work_mem = '64MB';
ALTER FUNCTION authz.unaccounted SET work_mem = '64MB';
ALTER FUNCTION authz.over_limits SET work_mem = '64MB';
