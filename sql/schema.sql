-- What the migrations add up to, for readers. Written by tests/postgres/schema_text.py, compared by a test:
-- change the schema by a migration, never here.

TABLE authz.catalog (
    only_row boolean NOT NULL DEFAULT true,
    revision text NOT NULL,
    default_plan text COLLATE "C" NOT NULL,
    published_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT catalog_default_plan_fkey FOREIGN KEY (default_plan) REFERENCES authz.plans(name),
    CONSTRAINT catalog_only_row_check CHECK (only_row),
    CONSTRAINT catalog_pkey PRIMARY KEY (only_row)
);

TABLE authz.features (
    name text COLLATE "C" NOT NULL,
    CONSTRAINT features_pkey PRIMARY KEY (name)
);

TABLE authz.meters (
    name text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    per text,
    anchor text NOT NULL,
    CONSTRAINT meters_anchor_check CHECK ((anchor = ANY (ARRAY['calendar'::text, 'subscription'::text]))),
    CONSTRAINT meters_kind_check CHECK ((kind = ANY (ARRAY['counter'::text, 'level'::text, 'members'::text]))),
    CONSTRAINT meters_kind_per_check CHECK (((kind = 'counter'::text) = (per IS NOT NULL))),
    CONSTRAINT meters_per_check CHECK ((per = ANY (ARRAY['month'::text, 'day'::text, 'ever'::text]))),
    CONSTRAINT meters_pkey PRIMARY KEY (name)
);

TABLE authz.migrations (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT migrations_pkey PRIMARY KEY (number)
);

TABLE authz.plan_features (
    plan text COLLATE "C" NOT NULL,
    feature text COLLATE "C" NOT NULL,
    CONSTRAINT plan_features_feature_fkey FOREIGN KEY (feature) REFERENCES authz.features(name) ON DELETE CASCADE,
    CONSTRAINT plan_features_pkey PRIMARY KEY (plan, feature),
    CONSTRAINT plan_features_plan_fkey FOREIGN KEY (plan) REFERENCES authz.plans(name) ON DELETE CASCADE
);

TABLE authz.plan_limits (
    plan text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    at_most bigint,
    CONSTRAINT plan_limits_at_most_check CHECK ((at_most >= 0)),
    CONSTRAINT plan_limits_meter_fkey FOREIGN KEY (meter) REFERENCES authz.meters(name),
    CONSTRAINT plan_limits_pkey PRIMARY KEY (plan, meter),
    CONSTRAINT plan_limits_plan_fkey FOREIGN KEY (plan) REFERENCES authz.plans(name) ON DELETE CASCADE
);

TABLE authz.plans (
    name text COLLATE "C" NOT NULL,
    rank integer NOT NULL,
    CONSTRAINT plans_pkey PRIMARY KEY (name)
);

TABLE authz.roles (
    name text COLLATE "C" NOT NULL,
    rank integer NOT NULL,
    CONSTRAINT roles_pkey PRIMARY KEY (name)
);

TABLE authz.users (
    id text COLLATE "C" NOT NULL,
    email text,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT users_id_check CHECK (((length(id) >= 1) AND (length(id) <= 256))),
    CONSTRAINT users_pkey PRIMARY KEY (id)
);

TABLE authz.workspace_features (
    workspace_id uuid NOT NULL,
    kind text NOT NULL,
    name text COLLATE "C" NOT NULL,
    enabled boolean,
    at_most bigint,
    expires_at timestamp with time zone,
    reason text,
    changed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT workspace_features_at_most_check CHECK ((((at_most >= 0) AND (kind = 'limit'::text)) OR (at_most IS NULL))),
    CONSTRAINT workspace_features_enabled_check CHECK (((kind = 'feature'::text) = (enabled IS NOT NULL))),
    CONSTRAINT workspace_features_kind_check CHECK ((kind = ANY (ARRAY['feature'::text, 'limit'::text]))),
    CONSTRAINT workspace_features_pkey PRIMARY KEY (workspace_id, kind, name),
    CONSTRAINT workspace_features_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES authz.workspaces(id) ON DELETE CASCADE
);

TABLE authz.workspace_memberships (
    workspace_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    joined_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT workspace_memberships_pkey PRIMARY KEY (workspace_id, user_id),
    CONSTRAINT workspace_memberships_role_check CHECK (((length(role) >= 1) AND (length(role) <= 256))),
    CONSTRAINT workspace_memberships_user_id_check CHECK (((length(user_id) >= 1) AND (length(user_id) <= 256))),
    CONSTRAINT workspace_memberships_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES authz.workspaces(id) ON DELETE CASCADE
);

TABLE authz.workspace_usage (
    workspace_id uuid NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period_start timestamp with time zone NOT NULL,
    used bigint NOT NULL,
    CONSTRAINT workspace_usage_pkey PRIMARY KEY (workspace_id, meter),
    CONSTRAINT workspace_usage_used_check CHECK ((used >= 0)),
    CONSTRAINT workspace_usage_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES authz.workspaces(id) ON DELETE CASCADE
) WITH (fillfactor=70);

TABLE authz.workspaces (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    slug text COLLATE "C" NOT NULL,
    name text NOT NULL,
    plan_tier text COLLATE "C" NOT NULL,
    plan_as_of timestamp with time zone,
    status text NOT NULL DEFAULT 'active'::text,
    status_reason text,
    subscribed_at timestamp with time zone NOT NULL DEFAULT now(),
    member_count bigint NOT NULL DEFAULT 0,
    facts_version bigint NOT NULL DEFAULT 1,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT workspaces_id_check CHECK ((id <> '00000000-0000-0000-0000-000000000000'::uuid)),
    CONSTRAINT workspaces_member_count_check CHECK ((member_count >= 0)),
    CONSTRAINT workspaces_name_check CHECK (((length(name) >= 1) AND (length(name) <= 256))),
    CONSTRAINT workspaces_pkey PRIMARY KEY (id),
    CONSTRAINT workspaces_plan_tier_fkey FOREIGN KEY (plan_tier) REFERENCES authz.plans(name),
    CONSTRAINT workspaces_slug_check CHECK (authz.is_slug(slug)),
    CONSTRAINT workspaces_slug_key UNIQUE (slug),
    CONSTRAINT workspaces_status_check CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text])))
);

CREATE UNIQUE INDEX workspace_memberships_owner_key ON authz.workspace_memberships USING btree (workspace_id) WHERE (role = 'owner'::text);

CREATE INDEX workspace_memberships_user_id_idx ON authz.workspace_memberships USING btree (user_id, workspace_id);

CREATE INDEX workspaces_plan_tier_idx ON authz.workspaces USING btree (plan_tier);

CREATE OR REPLACE FUNCTION authz.anchor_of(anchor text, subscribed_at timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE anchor WHEN 'subscription'::text THEN subscribed_at ELSE '2000-01-01 00:00:00+00'::timestamp with time zone END
;

CREATE OR REPLACE FUNCTION authz.catalog_revision()
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
BEGIN ATOMIC
 SELECT catalog.revision
    FROM authz.catalog;
END
;

CREATE OR REPLACE FUNCTION authz.count_members()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
BEGIN
    -- In the order of their ids, so that two statements about many workspaces cannot wait for each other.
    IF TG_OP = 'INSERT' THEN
        PERFORM FROM authz.workspaces AS w WHERE w.id IN (SELECT n.workspace_id FROM new_rows AS n)
        ORDER BY w.id FOR NO KEY UPDATE;
        UPDATE authz.workspaces AS w
        SET facts_version = w.facts_version + 1, member_count = w.member_count + change.members
        FROM (SELECT n.workspace_id, count(*) AS members FROM new_rows AS n GROUP BY 1) AS change
        WHERE w.id = change.workspace_id;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM FROM authz.workspaces AS w WHERE w.id IN (SELECT o.workspace_id FROM old_rows AS o)
        ORDER BY w.id FOR NO KEY UPDATE;
        UPDATE authz.workspaces AS w
        SET facts_version = w.facts_version + 1, member_count = w.member_count - change.members
        FROM (SELECT o.workspace_id, count(*) AS members FROM old_rows AS o GROUP BY 1) AS change
        WHERE w.id = change.workspace_id;
    ELSE
        PERFORM FROM authz.workspaces AS w WHERE w.id IN (
            SELECT n.workspace_id FROM new_rows AS n UNION SELECT o.workspace_id FROM old_rows AS o
        ) ORDER BY w.id FOR NO KEY UPDATE;
        UPDATE authz.workspaces AS w
        SET facts_version = w.facts_version + 1, member_count = w.member_count + change.members
        FROM (
            SELECT each.workspace_id, sum(each.members) AS members
            FROM (
                SELECT n.workspace_id, 1 AS members FROM new_rows AS n
                UNION ALL
                SELECT o.workspace_id, -1 FROM old_rows AS o
            ) AS each
            GROUP BY 1
        ) AS change
        WHERE w.id = change.workspace_id;
    END IF;
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.create_default_workspace(user_id text, email text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
DECLARE
    local_part CONSTANT text := COALESCE(NULLIF(split_part(email, '@', 1), ''), 'workspace');
    stem text := left(btrim(regexp_replace(lower(local_part), '[^a-z0-9]+', '-', 'g'), '-'), 40);
    candidate text;
    new_id uuid;
BEGIN
    -- Two sign-ups of one user at once: the second waits, and finds the workspace of the first.
    PERFORM pg_advisory_xact_lock(hashtextextended(user_id, 7023));
    IF EXISTS (SELECT FROM authz.workspace_memberships AS m WHERE m.user_id = create_default_workspace.user_id) THEN
        RETURN;
    END IF;

    stem := rtrim(stem, '-');
    IF NOT authz.is_slug(stem) THEN
        stem := 'workspace';
    END IF;
    candidate := stem;
    LOOP
        INSERT INTO authz.workspaces AS w (slug, name, plan_tier)
        SELECT candidate, left(local_part, 256), c.default_plan FROM authz.catalog AS c
        ON CONFLICT ON CONSTRAINT workspaces_slug_key DO NOTHING
        RETURNING w.id INTO new_id;
        EXIT WHEN new_id IS NOT NULL;
        IF NOT EXISTS (SELECT FROM authz.catalog) THEN
            RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate';
        END IF;
        candidate := stem || '-' || left(replace(gen_random_uuid()::text, '-', ''), 8);
    END LOOP;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (new_id, create_default_workspace.user_id, 'owner');
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.create_default_workspace_for_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
BEGIN
    PERFORM authz.create_default_workspace(NEW.id::text, NEW.email::text);
    RETURN NULL;
EXCEPTION
    WHEN OTHERS THEN
        -- A signup must not fail for want of a workspace: it can be made up for, the user may not come back.
        RAISE WARNING 'user % has no workspace of his own: % (%)', NEW.id, SQLERRM, SQLSTATE;
        RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.facts(users text[], workspaces text[])
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(known.facts ORDER BY question.number), '[]')
        FROM unnest(users, workspaces) WITH ORDINALITY AS question (user_id, workspace, number)
        LEFT JOIN LATERAL (
            SELECT f.facts
            FROM authz.member_facts AS f
            WHERE f.user_id = question.user_id
              AND f.workspace_id = CASE
                  WHEN question.workspace
                      ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
                      THEN question.workspace::uuid
                  -- The nil UUID, which no workspace has, and not NULL: a membership is looked for in any case.
                  ELSE COALESCE(
                      (SELECT w.id FROM authz.workspaces AS w WHERE w.slug = question.workspace),
                      '00000000-0000-0000-0000-000000000000'
                  )
              END
        ) AS known ON true
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.is_slug(candidate text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ((candidate ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text) AND (candidate !~ '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$'::text))
;

CREATE OR REPLACE FUNCTION authz.period_of(per text, anchored_at timestamp with time zone, at timestamp with time zone)
 RETURNS tstzrange
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO ''
AS $function$
DECLARE
    anchor CONSTANT timestamp := anchored_at AT TIME ZONE 'UTC';
    moment CONSTANT timestamp := at AT TIME ZONE 'UTC';
    months integer;
    midnight timestamp;
BEGIN
    IF per = 'month' THEN
        months := 12 * (extract(year FROM moment)::integer - extract(year FROM anchor)::integer)
            + extract(month FROM moment)::integer - extract(month FROM anchor)::integer;
        IF anchor + months * interval '1 month' > moment THEN
            months := months - 1;
        END IF;
        -- Each from the anchor, never from the period before: 31 January, 28 February, 31 March.
        RETURN tstzrange(
            (anchor + months * interval '1 month') AT TIME ZONE 'UTC',
            (anchor + (months + 1) * interval '1 month') AT TIME ZONE 'UTC'
        );
    ELSIF per = 'day' THEN
        midnight := date_trunc('day', moment);
        RETURN tstzrange(midnight AT TIME ZONE 'UTC', (midnight + interval '1 day') AT TIME ZONE 'UTC');
    END IF;
    RETURN tstzrange('-infinity', 'infinity');
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.raise_version_of_override()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
BEGIN
    UPDATE authz.workspaces AS w SET facts_version = w.facts_version + 1
    WHERE w.id = COALESCE(NEW.workspace_id, OLD.workspace_id);
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.raise_version_of_workspace()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
BEGIN
    NEW.facts_version := OLD.facts_version + 1;
    RETURN NEW;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.set_overrides(workspace text, features jsonb DEFAULT '{}'::jsonb, limits jsonb DEFAULT '{}'::jsonb, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
DECLARE
    locked_id CONSTANT uuid := authz.workspace_locked(workspace);
    override record;
BEGIN
    IF jsonb_typeof(features) <> 'object' OR jsonb_typeof(limits) <> 'object' THEN
        RAISE EXCEPTION 'features and limits are objects' USING ERRCODE = '22023';
    END IF;
    FOR override IN
        SELECT 'feature' AS kind, f.key AS name, f.value FROM jsonb_each(features) AS f
        UNION ALL
        SELECT 'limit', l.key, l.value FROM jsonb_each(limits) AS l
        ORDER BY kind, name
    LOOP
        IF override.value = 'null' THEN -- also of what is declared no more
            DELETE FROM authz.workspace_features AS f
            WHERE f.workspace_id = locked_id AND f.kind = override.kind AND f.name = override.name;
            CONTINUE;
        END IF;
        IF override.kind = 'feature' THEN
            IF NOT EXISTS (SELECT FROM authz.features AS f WHERE f.name = override.name) THEN
                RAISE EXCEPTION 'feature "%" is not declared', override.name USING ERRCODE = '22023';
            ELSIF jsonb_typeof(override.value) <> 'boolean' THEN
                RAISE EXCEPTION 'feature "%" is true, false or null, not %', override.name, override.value
                    USING ERRCODE = '22023';
            END IF;
        ELSE
            IF NOT EXISTS (SELECT FROM authz.plan_limits AS l WHERE l.meter = override.name) THEN
                RAISE EXCEPTION 'meter "%" is not declared', override.name USING ERRCODE = '22023';
            ELSIF override.value <> '"unlimited"' AND (
                jsonb_typeof(override.value) <> 'number' OR override.value #>> '{}' !~ '^[0-9]{1,15}$'
            ) THEN
                RAISE EXCEPTION 'limit "%" is a whole number, "unlimited" or null, not %', override.name, override.value
                    USING ERRCODE = '22023';
            END IF;
        END IF;
        INSERT INTO authz.workspace_features AS f
            (workspace_id, kind, name, enabled, at_most, expires_at, reason, changed_at)
        VALUES (
            locked_id,
            override.kind,
            override.name,
            CASE override.kind WHEN 'feature' THEN override.value::boolean END,
            CASE WHEN override.kind = 'limit' AND override.value <> '"unlimited"' THEN override.value::bigint END,
            set_overrides.expires_at,
            set_overrides.reason,
            clock_timestamp()
        )
        ON CONFLICT ON CONSTRAINT workspace_features_pkey DO UPDATE
        SET enabled = excluded.enabled,
            at_most = excluded.at_most,
            expires_at = excluded.expires_at,
            reason = excluded.reason,
            changed_at = excluded.changed_at;
    END LOOP;
    RETURN authz.workspace_state(locked_id, applied => true);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.set_plan(workspace text, plan text, as_of timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
DECLARE
    locked_id CONSTANT uuid := authz.workspace_locked(workspace);
    moment CONSTANT timestamptz := COALESCE(as_of, clock_timestamp()); -- after the lock
BEGIN
    -- FOR KEY SHARE: a catalog that drops the plan meanwhile waits, and then sees the workspace.
    PERFORM FROM authz.plans AS p WHERE p.name = set_plan.plan FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'plan "%" is not sold', plan USING ERRCODE = 'AZ002';
    END IF;
    IF NOT isfinite(moment) THEN
        RAISE EXCEPTION 'as_of is not a date: %', moment USING ERRCODE = '22023';
    END IF;

    UPDATE authz.workspaces AS w
    SET plan_tier = set_plan.plan, plan_as_of = moment
    WHERE w.id = locked_id AND (w.plan_as_of IS NULL OR w.plan_as_of <= moment);
    RETURN authz.workspace_state(locked_id, applied => FOUND);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.set_status(workspace text, status text, reason text DEFAULT NULL::text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
DECLARE
    locked_id CONSTANT uuid := authz.workspace_locked(workspace);
BEGIN
    IF COALESCE(status, '') NOT IN ('active', 'suspended') THEN
        RAISE EXCEPTION 'status is active or suspended, not "%"', status USING ERRCODE = '22023';
    END IF;
    UPDATE authz.workspaces AS w
    SET status = set_status.status, status_reason = set_status.reason
    WHERE w.id = locked_id;
    RETURN authz.workspace_state(locked_id, applied => true);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.workspace_locked(workspace text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
DECLARE
    found_id uuid;
BEGIN
    SELECT w.id INTO found_id
    FROM authz.workspaces AS w
    WHERE w.slug = workspace
       OR w.id = CASE
           WHEN workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
               THEN workspace::uuid
       END
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'workspace "%" does not exist', workspace USING ERRCODE = 'AZ001';
    END IF;
    RETURN found_id;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.workspace_state(workspace_id uuid, applied boolean)
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
BEGIN
    RETURN (
        SELECT json_build_object(
            'workspace_id', w.id,
            'slug', w.slug,
            'plan', w.plan_tier,
            'as_of', COALESCE(w.plan_as_of, w.created_at),
            'status', w.status,
            'reason', w.status_reason,
            'overrides', (
                SELECT COALESCE(json_agg(json_build_object(
                    'kind', f.kind,
                    'name', f.name,
                    'enabled', f.enabled,
                    'at_most', f.at_most,
                    'expires_at', f.expires_at,
                    'reason', f.reason
                ) ORDER BY f.kind, f.name), '[]')
                FROM authz.workspace_features AS f
                WHERE f.workspace_id = w.id
                  AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
            ),
            'applied', workspace_state.applied
        )
        FROM authz.workspaces AS w
        WHERE w.id = workspace_state.workspace_id
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.workspaces_of(user_id text, after text, at_most integer)
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(page.facts ORDER BY page.slug), '[]')
        FROM (
            SELECT f.slug, f.facts
            FROM authz.member_facts AS f
            WHERE f.user_id = workspaces_of.user_id
              AND (workspaces_of.after IS NULL OR f.slug > workspaces_of.after)
            ORDER BY f.slug
            LIMIT workspaces_of.at_most
        ) AS page
    );
END;
$function$
;

VIEW authz.member_facts AS
 SELECT m.workspace_id,
    m.user_id,
    w.slug,
    json_build_object('workspace_id', w.id, 'slug', w.slug, 'name', w.name, 'role', m.role, 'plan', w.plan_tier, 'status', w.status, 'features', override.features, 'limits', override.limits, 'usage', meter.usage, 'version', w.facts_version, 'at', statement_timestamp()) AS facts
   FROM (((authz.workspace_memberships m
     JOIN authz.workspaces w ON ((w.id = m.workspace_id)))
     CROSS JOIN LATERAL ( SELECT COALESCE(json_object_agg(f.name, f.enabled) FILTER (WHERE (f.kind = 'feature'::text)), '{}'::json) AS features,
            COALESCE(json_object_agg(f.name, f.at_most) FILTER (WHERE (f.kind = 'limit'::text)), '{}'::json) AS limits
           FROM authz.workspace_features f
          WHERE ((f.workspace_id = w.id) AND ((f.expires_at IS NULL) OR (f.expires_at > statement_timestamp())))) override)
     CROSS JOIN LATERAL ( SELECT COALESCE(json_object_agg(t.name, json_build_array(
                CASE
                    WHEN (t.kind = 'members'::text) THEN w.member_count
                    WHEN (u.period_start >= lower(p.period)) THEN u.used
                    ELSE (0)::bigint
                END, 0,
                CASE
                    WHEN isfinite(upper(p.period)) THEN upper(p.period)
                    ELSE NULL::timestamp with time zone
                END)), '{}'::json) AS usage
           FROM ((authz.meters t
             LEFT JOIN authz.workspace_usage u ON (((u.workspace_id = w.id) AND (u.meter = t.name))))
             CROSS JOIN LATERAL ( SELECT authz.period_of(t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()) AS period) p)) meter);

CREATE TRIGGER on_auth_user_created AFTER INSERT ON authz.users FOR EACH ROW EXECUTE FUNCTION authz.create_default_workspace_for_user();

CREATE TRIGGER raise_version AFTER INSERT OR DELETE OR UPDATE ON authz.workspace_features FOR EACH ROW EXECUTE FUNCTION authz.raise_version_of_override();

CREATE TRIGGER count_members_deleted AFTER DELETE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();

CREATE TRIGGER count_members_inserted AFTER INSERT ON authz.workspace_memberships REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();

CREATE TRIGGER count_members_updated AFTER UPDATE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();

CREATE TRIGGER raise_version BEFORE UPDATE OF plan_tier, status ON authz.workspaces FOR EACH ROW WHEN (((old.plan_tier IS DISTINCT FROM new.plan_tier) OR (old.status IS DISTINCT FROM new.status))) EXECUTE FUNCTION authz.raise_version_of_workspace();

GRANT EXECUTE ON FUNCTION authz.catalog_revision() TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.facts(text[],text[]) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_overrides(text,jsonb,jsonb,timestamp with time zone,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_plan(text,text,timestamp with time zone) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_status(text,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.workspaces_of(text,text,integer) TO authz_sidecar;
