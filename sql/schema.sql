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

TABLE authz.usage_holds (
    workspace_id uuid NOT NULL,
    meter text COLLATE "C" NOT NULL,
    reservation text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    period_start timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT usage_holds_amount_check CHECK ((amount > 0)),
    CONSTRAINT usage_holds_pkey PRIMARY KEY (workspace_id, meter, reservation)
);

TABLE authz.usage_keys (
    workspace_id uuid NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint text NOT NULL,
    decision_id text NOT NULL,
    answer jsonb NOT NULL,
    meters text[] NOT NULL,
    amounts bigint[],
    starts timestamp with time zone[] NOT NULL,
    resource text,
    reservation text,
    given_back jsonb,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT usage_keys_pkey PRIMARY KEY (workspace_id, key)
);

TABLE authz.usage_ledger (
    workspace_id uuid NOT NULL,
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period_start timestamp with time zone NOT NULL,
    amount bigint NOT NULL,
    kind text NOT NULL,
    user_id text COLLATE "C",
    action text COLLATE "C",
    resource text COLLATE "C",
    decision_id text COLLATE "C",
    CONSTRAINT usage_ledger_kind_check CHECK ((kind = ANY (ARRAY['consume'::text, 'commit'::text, 'release'::text, 'adjust'::text]))),
    CONSTRAINT usage_ledger_pkey PRIMARY KEY (workspace_id, id)
);

TABLE authz.usage_reservations (
    workspace_id uuid NOT NULL,
    id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    resource text COLLATE "C",
    amounts jsonb NOT NULL,
    committed jsonb,
    state text NOT NULL DEFAULT 'held'::text,
    expires_at timestamp with time zone NOT NULL,
    key text COLLATE "C",
    decision_id text NOT NULL,
    revision text NOT NULL,
    CONSTRAINT usage_reservations_committed_check CHECK (((state = 'committed'::text) = (committed IS NOT NULL))),
    CONSTRAINT usage_reservations_id_key UNIQUE (id),
    CONSTRAINT usage_reservations_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT usage_reservations_state_check CHECK ((state = ANY (ARRAY['held'::text, 'committed'::text, 'released'::text])))
);

TABLE authz.usage_resources (
    workspace_id uuid NOT NULL,
    meter text COLLATE "C" NOT NULL,
    resource text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    decision_id text NOT NULL,
    revision text NOT NULL,
    CONSTRAINT usage_resources_amount_check CHECK ((amount > 0)),
    CONSTRAINT usage_resources_pkey PRIMARY KEY (workspace_id, meter, resource)
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
    held_until timestamp with time zone,
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

CREATE OR REPLACE FUNCTION authz.amounts_of(meters text[], amounts bigint[])
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
RETURN (SELECT COALESCE(jsonb_object_agg(a.meter, a.amount), '{}'::jsonb) AS "coalesce" FROM UNNEST(amounts_of.meters, amounts_of.amounts) a(meter, amount))
;

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

CREATE OR REPLACE FUNCTION authz.commit_reservation(reservation text, amounts jsonb)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
    held authz.usage_reservations;
    meters text[];
    wanted jsonb;
    above text[];
    hold record;
    taken bigint;
    charged text[] := '{}';
    amounts_charged bigint[] := '{}';
    starts timestamptz[] := '{}';
BEGIN
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = commit_reservation.reservation FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    END IF;
    meters := ARRAY(SELECT m FROM jsonb_object_keys(held.amounts) AS m ORDER BY m COLLATE "C");
    above := ARRAY(SELECT m FROM jsonb_object_keys(commit_reservation.amounts) AS m WHERE NOT m = ANY (meters));
    IF above <> '{}' THEN
        RETURN json_build_object('outcome', 'not_held', 'meters', above, 'amounts', held.amounts);
    END IF;
    wanted := held.amounts || COALESCE(commit_reservation.amounts, '{}');
    IF held.state = 'committed' AND held.committed = wanted THEN
        RETURN authz.reservation_now(held, true);
    ELSIF held.state <> 'held' THEN
        RETURN json_build_object('outcome', held.state);
    END IF;
    above := ARRAY(
        SELECT w.key FROM jsonb_each(wanted) AS w WHERE w.value::bigint > (held.amounts ->> w.key)::bigint
    );
    IF above <> '{}' THEN
        RETURN json_build_object('outcome', 'exceeds', 'meters', above, 'amounts', held.amounts);
    END IF;

    PERFORM authz.counters_locked(held.workspace_id, meters);
    IF held.expires_at <= clock_timestamp() THEN -- after the locks: whoever saw it expired has its room
        RETURN json_build_object(
            'outcome', 'expired', 'workspace_id', held.workspace_id, 'user', held.user_id, 'action', held.action,
            'resource', held.resource, 'amounts', wanted
        );
    END IF;
    FOR hold IN
        SELECT h.meter, h.period_start, t.kind
        FROM authz.usage_holds AS h
        JOIN authz.meters AS t ON t.name = h.meter
        WHERE h.workspace_id = held.workspace_id AND h.reservation = held.id
        ORDER BY h.meter
    LOOP
        taken := wanted ->> hold.meter;
        IF hold.kind = 'level' AND held.resource IS NOT NULL THEN
            INSERT INTO authz.usage_resources (workspace_id, meter, resource, amount, decision_id, revision)
            VALUES (held.workspace_id, hold.meter, held.resource, taken, held.decision_id, held.revision)
            ON CONFLICT ON CONSTRAINT usage_resources_pkey DO NOTHING;
            IF NOT FOUND THEN
                taken := 0; -- somebody has made it meanwhile: to make it twice is to make it once
            END IF;
        END IF;
        IF taken > 0 THEN
            PERFORM authz.move_usage(
                held.workspace_id, hold.meter, hold.period_start, taken, 'commit',
                held.decision_id, held.user_id, held.action, held.resource
            );
        END IF;
        charged := charged || hold.meter;
        amounts_charged := amounts_charged || taken;
        starts := starts || hold.period_start;
    END LOOP;
    PERFORM authz.settle(held.workspace_id, held.id, wanted, charged, amounts_charged, starts);
    held.state := 'committed';
    held.committed := wanted;
    RETURN authz.reservation_now(held, false);
END;
$function$
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

CREATE OR REPLACE FUNCTION authz.counters_locked(workspace_id uuid, meters text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
BEGIN
    PERFORM FROM authz.workspace_usage AS u
    WHERE u.workspace_id = counters_locked.workspace_id AND u.meter = ANY (counters_locked.meters)
    ORDER BY u.meter
    FOR UPDATE;
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

CREATE OR REPLACE FUNCTION authz.forget_usage()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
BEGIN
    DELETE FROM authz.usage_ledger AS l USING old_rows AS o WHERE l.workspace_id = o.id;
    DELETE FROM authz.usage_keys AS k USING old_rows AS o WHERE k.workspace_id = o.id;
    DELETE FROM authz.usage_resources AS r USING old_rows AS o WHERE r.workspace_id = o.id;
    DELETE FROM authz.usage_reservations AS r USING old_rows AS o WHERE r.workspace_id = o.id;
    DELETE FROM authz.usage_holds AS h USING old_rows AS o WHERE h.workspace_id = o.id;
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.is_slug(candidate text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ((candidate ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text) AND (candidate !~ '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$'::text))
;

CREATE OR REPLACE FUNCTION authz.let_go(of_workspace uuid, of_meter text, of_resource text, by_decision text, amount bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
BEGIN
    IF of_resource IS NULL OR NOT EXISTS (
        SELECT FROM authz.meters AS t WHERE t.name = of_meter AND t.kind = 'level'
    ) THEN
        RETURN true;
    END IF;
    DELETE FROM authz.usage_resources AS r
    WHERE r.workspace_id = of_workspace AND r.meter = of_meter AND r.resource = of_resource
      AND r.decision_id = by_decision AND r.amount <= let_go.amount;
    IF FOUND THEN
        RETURN true;
    END IF;
    UPDATE authz.usage_resources AS r SET amount = r.amount - let_go.amount
    WHERE r.workspace_id = of_workspace AND r.meter = of_meter AND r.resource = of_resource
      AND r.decision_id = by_decision;
    RETURN FOUND;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.miscounts(of_workspace uuid)
 RETURNS TABLE(kind text, meter text, resource text, counted bigint, expected bigint, period_start timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO ''
BEGIN ATOMIC
 SELECT 'counter'::text,
     c.meter,
     NULL::text,
     c.counted,
     c.expected,
     c.period_start
    FROM ( SELECT COALESCE(u.meter, l.meter) AS meter,
                 CASE
                     WHEN (u.period_start >= COALESCE(l.period_start, u.period_start)) THEN u.used
                     ELSE (0)::bigint
                 END AS counted,
                 CASE
                     WHEN (l.period_start >= COALESCE(u.period_start, l.period_start)) THEN l.amount
                     ELSE (0)::bigint
                 END AS expected,
             GREATEST(u.period_start, l.period_start) AS period_start
            FROM (( SELECT w.meter,
                     w.period_start,
                     w.used
                    FROM authz.workspace_usage w
                   WHERE (w.workspace_id = miscounts.of_workspace)) u
              FULL JOIN ( SELECT DISTINCT ON (g.meter) g.meter,
                     g.period_start,
                     (sum(g.amount))::bigint AS amount
                    FROM authz.usage_ledger g
                   WHERE (g.workspace_id = miscounts.of_workspace)
                   GROUP BY g.meter, g.period_start
                   ORDER BY g.meter, g.period_start DESC) l ON ((l.meter = u.meter)))) c
   WHERE (c.counted <> c.expected)
 UNION ALL
  SELECT 'resource'::text,
     COALESCE(r.meter, l.meter) AS "coalesce",
     COALESCE(r.resource, l.resource) AS "coalesce",
     COALESCE(r.amount, (0)::bigint) AS "coalesce",
     COALESCE(l.amount, (0)::bigint) AS "coalesce",
     '-infinity'::timestamp with time zone
    FROM (( SELECT e.meter,
             e.resource,
             e.amount
            FROM authz.usage_resources e
           WHERE (e.workspace_id = miscounts.of_workspace)) r
      FULL JOIN ( SELECT g.meter,
             g.resource,
             (sum(g.amount))::bigint AS amount
            FROM (authz.usage_ledger g
              JOIN authz.meters t ON (((t.name = g.meter) AND (t.kind = 'level'::text))))
           WHERE ((g.workspace_id = miscounts.of_workspace) AND (g.resource IS NOT NULL) AND (g.period_start = '-infinity'::timestamp with time zone))
           GROUP BY g.meter, g.resource) l ON (((l.meter = r.meter) AND (l.resource = r.resource))))
   WHERE (COALESCE(r.amount, (0)::bigint) <> COALESCE(l.amount, (0)::bigint))
 UNION ALL
  SELECT 'members'::text,
     NULL::text,
     NULL::text,
     w.member_count,
     m.members,
     NULL::timestamp with time zone
    FROM (authz.workspaces w
      CROSS JOIN LATERAL ( SELECT count(*) AS members
            FROM authz.workspace_memberships p
           WHERE (p.workspace_id = w.id)) m)
   WHERE ((w.id = miscounts.of_workspace) AND (w.member_count <> m.members));
END
;

CREATE OR REPLACE FUNCTION authz.move_usage(workspace_id uuid, meter text, period_start timestamp with time zone, amount bigint, kind text, decision_id text, user_id text DEFAULT NULL::text, action text DEFAULT NULL::text, resource text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
BEGIN
    -- A period that is over lives in the ledger alone.
    UPDATE authz.workspace_usage AS u SET used = u.used + move_usage.amount
    WHERE u.workspace_id = move_usage.workspace_id
      AND u.meter = move_usage.meter
      AND u.period_start = move_usage.period_start;
    INSERT INTO authz.usage_ledger
        (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
    VALUES (
        move_usage.workspace_id,
        clock_timestamp(),
        move_usage.meter,
        move_usage.period_start,
        move_usage.amount,
        move_usage.kind,
        move_usage.user_id,
        move_usage.action,
        move_usage.resource,
        move_usage.decision_id
    );
END;
$function$
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

CREATE OR REPLACE FUNCTION authz.quota_now(workspace_id uuid, meters text[])
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    RETURN (
        SELECT json_build_object(
            'plan', w.plan_tier,
            'at', moment,
            'limits', (
                SELECT COALESCE(json_object_agg(f.name, f.at_most), '{}')
                FROM authz.workspace_features AS f
                WHERE f.workspace_id = w.id AND f.kind = 'limit'
                  AND (f.expires_at IS NULL OR f.expires_at > moment)
            ),
            'usage', (
                SELECT COALESCE(json_object_agg(t.name, json_build_array(
                    CASE WHEN u.period_start >= lower(p.period) THEN u.used ELSE 0 END,
                    authz.reserved_of(w.id, t.name, lower(p.period), moment),
                    CASE WHEN isfinite(upper(p.period)) THEN upper(p.period) END
                )), '{}')
                FROM authz.meters AS t
                LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id AND u.meter = t.name
                CROSS JOIN LATERAL (
                    SELECT authz.period_of(t.per, authz.anchor_of(t.anchor, w.subscribed_at), moment) AS period
                ) AS p
                WHERE t.name = ANY (quota_now.meters)
            )
        )
        FROM authz.workspaces AS w
        WHERE w.id = quota_now.workspace_id
    );
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

CREATE OR REPLACE FUNCTION authz.recount(of_workspace uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
DECLARE
    meters CONSTANT text[] := ARRAY(SELECT DISTINCT m.meter FROM authz.miscounts(of_workspace) AS m WHERE m.meter IS NOT NULL);
    wrong record;
BEGIN
    -- Every counter has its row, so that it can be locked; then what is wrong is looked for again.
    INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
    SELECT of_workspace, m, '-infinity', 0 FROM unnest(meters) AS m ORDER BY m
    ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO NOTHING;
    PERFORM authz.counters_locked(of_workspace, meters);
    PERFORM FROM authz.workspaces AS w WHERE w.id = of_workspace FOR NO KEY UPDATE;
    FOR wrong IN
        SELECT m.* FROM authz.miscounts(of_workspace) AS m WHERE m.meter IS NULL OR m.meter = ANY (meters)
    LOOP
        IF wrong.kind = 'counter' THEN
            UPDATE authz.workspace_usage AS u
            SET used = greatest(wrong.expected, 0), period_start = wrong.period_start
            WHERE u.workspace_id = of_workspace AND u.meter = wrong.meter;
        ELSIF wrong.kind = 'members' THEN
            UPDATE authz.workspaces AS w SET member_count = wrong.expected WHERE w.id = of_workspace;
        ELSIF wrong.expected <= 0 THEN
            DELETE FROM authz.usage_resources AS r
            WHERE r.workspace_id = of_workspace AND r.meter = wrong.meter AND r.resource = wrong.resource;
        ELSE
            INSERT INTO authz.usage_resources (workspace_id, meter, resource, amount, decision_id, revision)
            SELECT of_workspace, wrong.meter, wrong.resource, wrong.expected, l.decision_id, c.revision
            FROM authz.catalog AS c, authz.usage_ledger AS l
            WHERE l.workspace_id = of_workspace AND l.meter = wrong.meter AND l.resource = wrong.resource
              AND l.amount > 0
            ORDER BY l.id DESC
            LIMIT 1
            ON CONFLICT ON CONSTRAINT usage_resources_pkey DO UPDATE SET amount = excluded.amount;
        END IF;
    END LOOP;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.refund(workspace text, key text, amounts jsonb)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
    of_workspace CONSTANT uuid := authz.workspace_id_of(workspace);
    known authz.usage_keys;
    taken jsonb;
    wanted jsonb;
    again boolean := true;
    part record;
BEGIN
    IF of_workspace IS NULL THEN
        RETURN '{"outcome": "unknown_workspace"}';
    END IF;
    SELECT k.* INTO known
    FROM authz.usage_keys AS k
    WHERE k.workspace_id = of_workspace AND k.key = refund.key AND k.expires_at > clock_timestamp();
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    END IF;
    IF known.reservation IS NOT NULL THEN -- a commit may be under way: it comes first, or waits
        PERFORM FROM authz.usage_reservations AS r
        WHERE r.workspace_id = of_workspace AND r.id = known.reservation
        FOR UPDATE;
    END IF;
    PERFORM authz.counters_locked(of_workspace, known.meters);
    SELECT k.* INTO known
    FROM authz.usage_keys AS k
    WHERE k.workspace_id = of_workspace AND k.key = refund.key
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    END IF;
    taken := CASE WHEN known.amounts IS NULL THEN '{}' ELSE authz.amounts_of(known.meters, known.amounts) END;
    wanted := COALESCE(refund.amounts, known.given_back, taken);
    IF known.amounts IS NULL
        OR known.given_back <> wanted
        OR EXISTS (
            SELECT FROM jsonb_each(wanted) AS w
            WHERE NOT taken ? w.key OR w.value::bigint > (taken ->> w.key)::bigint
        )
    THEN
        RETURN json_build_object('outcome', 'exceeds', 'taken', taken, 'given_back', known.given_back);
    END IF;

    IF known.given_back IS NULL THEN
        FOR part IN
            SELECT k.meter, k.start, (wanted ->> k.meter)::bigint AS amount
            FROM unnest(known.meters, known.starts) AS k (meter, start)
            WHERE (wanted ->> k.meter)::bigint > 0
        LOOP
            IF authz.let_go(of_workspace, part.meter, known.resource, known.decision_id, part.amount) THEN
                again := false;
                PERFORM authz.move_usage(
                    of_workspace, part.meter, part.start, -part.amount, 'release',
                    known.decision_id, resource => known.resource
                );
            END IF;
        END LOOP;
        UPDATE authz.usage_keys AS k SET given_back = wanted
        WHERE k.workspace_id = of_workspace AND k.key = refund.key;
    END IF;
    RETURN json_build_object(
        'outcome', 'given_back',
        'replayed', again,
        'released', wanted,
        'now', authz.quota_now(of_workspace, known.meters)
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.release_reservation(reservation text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
    held authz.usage_reservations;
    again boolean;
BEGIN
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = release_reservation.reservation FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{"outcome": "unknown"}';
    ELSIF held.state = 'committed' THEN
        RETURN '{"outcome": "committed"}';
    END IF;
    again := held.state = 'released';
    IF NOT again THEN
        PERFORM authz.counters_locked(held.workspace_id, ARRAY(SELECT jsonb_object_keys(held.amounts)));
        DELETE FROM authz.usage_holds AS h WHERE h.workspace_id = held.workspace_id AND h.reservation = held.id;
        UPDATE authz.usage_reservations AS r SET state = 'released'
        WHERE r.workspace_id = held.workspace_id AND r.id = held.id
        RETURNING r.* INTO held;
    END IF;
    RETURN authz.reservation_now(held, again);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.release_resource(workspace text, meter text, resource text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
    of_workspace CONSTANT uuid := authz.workspace_id_of(workspace);
    gone record;
BEGIN
    IF of_workspace IS NULL THEN
        RETURN '{"outcome": "unknown_workspace"}';
    END IF;
    PERFORM authz.counters_locked(of_workspace, ARRAY[meter]);
    DELETE FROM authz.usage_resources AS r
    WHERE r.workspace_id = of_workspace
      AND r.meter = release_resource.meter
      AND r.resource = release_resource.resource
    RETURNING r.amount, r.decision_id INTO gone;
    IF FOUND THEN
        PERFORM authz.move_usage(
            of_workspace, meter, '-infinity', -gone.amount, 'release', gone.decision_id, resource => resource
        );
    END IF;
    RETURN json_build_object(
        'outcome', 'given_back',
        'replayed', gone.amount IS NULL,
        'released', jsonb_build_object(meter, COALESCE(gone.amount, 0)),
        'now', authz.quota_now(of_workspace, ARRAY[meter])
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.repeat_of(workspace_id uuid, meters text[], resource text, key text, fingerprint text, moment timestamp with time zone)
 RETURNS json
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
DECLARE
    known record;
    levels text[];
    made record;
BEGIN
    IF repeat_of.key IS NOT NULL THEN
        SELECT k.fingerprint, k.decision_id, k.answer INTO known
        FROM authz.usage_keys AS k
        WHERE k.workspace_id = repeat_of.workspace_id AND k.key = repeat_of.key AND k.expires_at > moment;
        IF known.fingerprint <> repeat_of.fingerprint THEN
            RETURN '{"outcome": "key_reused"}';
        ELSIF FOUND THEN
            RETURN json_build_object(
                'outcome', 'repeated', 'decision_id', known.decision_id, 'answer', known.answer
            );
        END IF;
    END IF;
    IF repeat_of.resource IS NULL THEN
        RETURN NULL;
    END IF;

    SELECT array_agg(t.name) INTO levels
    FROM authz.meters AS t
    WHERE t.name = ANY (repeat_of.meters) AND t.kind = 'level';
    SELECT min(r.decision_id) AS decision_id, min(r.revision) AS revision, count(*) AS there INTO made
    FROM authz.usage_resources AS r
    WHERE r.workspace_id = repeat_of.workspace_id
      AND r.meter = ANY (levels)
      AND r.resource = repeat_of.resource;
    IF made.there = 0 OR made.there < cardinality(levels) THEN
        RETURN NULL;
    END IF;
    RETURN json_build_object(
        'outcome', 'repeated',
        'decision_id', made.decision_id,
        'revision', made.revision,
        'now', authz.quota_now(repeat_of.workspace_id, repeat_of.meters)
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.repeated(workspace_id uuid, meters text[], resource text, key text, fingerprint text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
BEGIN
    RETURN authz.repeat_of(workspace_id, meters, resource, key, fingerprint, clock_timestamp());
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.reservation_now(reservation authz.usage_reservations, replayed boolean)
 RETURNS json
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
BEGIN
    RETURN json_build_object(
        'outcome', 'settled',
        'replayed', replayed,
        'id', reservation.id,
        'workspace_id', reservation.workspace_id,
        'state', reservation.state,
        'expires_at', reservation.expires_at,
        'amounts', reservation.amounts,
        'committed', reservation.committed,
        'now', authz.quota_now(
            reservation.workspace_id, ARRAY(SELECT jsonb_object_keys(reservation.amounts))
        )
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.reserved_of(workspace_id uuid, meter text, since timestamp with time zone, moment timestamp with time zone)
 RETURNS bigint
 LANGUAGE sql
 STABLE
RETURN (SELECT (COALESCE(sum(h.amount), (0)::numeric))::bigint AS "coalesce" FROM authz.usage_holds h WHERE ((h.workspace_id = reserved_of.workspace_id) AND (h.meter = reserved_of.meter) AND (h.period_start >= reserved_of.since) AND (h.expires_at > reserved_of.moment)))
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

CREATE OR REPLACE FUNCTION authz.set_usage(workspace_id uuid, meters text[], used bigint[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
DECLARE
    of_workspace CONSTANT uuid := workspace_id;
    counter record;
    before bigint;
BEGIN
    PERFORM FROM authz.usage_reservations AS r WHERE r.workspace_id = of_workspace ORDER BY r.id FOR UPDATE;
    -- As many counters as there are, all of them: what is not named has used nothing.
    PERFORM authz.counters_locked(of_workspace, ARRAY(SELECT t.name FROM authz.meters AS t));
    DELETE FROM authz.usage_keys AS k WHERE k.workspace_id = of_workspace;
    DELETE FROM authz.usage_holds AS h WHERE h.workspace_id = of_workspace;
    DELETE FROM authz.usage_reservations AS r WHERE r.workspace_id = of_workspace;
    WITH gone AS (
        DELETE FROM authz.usage_resources AS r WHERE r.workspace_id = of_workspace
        RETURNING r.meter, r.resource, r.amount
    )
    INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind, resource)
    SELECT of_workspace, clock_timestamp(), g.meter, '-infinity', -g.amount, 'adjust', g.resource FROM gone AS g;

    FOR counter IN
        SELECT
            t.name AS meter,
            lower(authz.period_of(t.per, authz.anchor_of(t.anchor, w.subscribed_at), clock_timestamp())) AS start,
            COALESCE(given.used, 0) AS used
        FROM authz.workspaces AS w
        CROSS JOIN authz.meters AS t
        LEFT JOIN unnest(set_usage.meters, set_usage.used) AS given (meter, used) ON given.meter = t.name
        WHERE w.id = of_workspace AND t.kind <> 'members'
        ORDER BY t.name
    LOOP
        SELECT COALESCE(sum(l.amount), 0) INTO before
        FROM authz.usage_ledger AS l
        WHERE l.workspace_id = of_workspace AND l.meter = counter.meter AND l.period_start = counter.start;
        IF before <> counter.used THEN
            INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
            VALUES (
                of_workspace, clock_timestamp(), counter.meter, counter.start, counter.used - before, 'adjust'
            );
        END IF;
        IF counter.used = 0 THEN
            DELETE FROM authz.workspace_usage AS u
            WHERE u.workspace_id = of_workspace AND u.meter = counter.meter;
        ELSE
            INSERT INTO authz.workspace_usage AS u (workspace_id, meter, period_start, used)
            VALUES (of_workspace, counter.meter, counter.start, counter.used)
            ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO UPDATE
            SET period_start = excluded.period_start, used = excluded.used, held_until = NULL;
        END IF;
    END LOOP;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.settle(workspace_id uuid, reservation text, committed jsonb, meters text[], amounts bigint[], starts timestamp with time zone[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
DECLARE
    settled record;
BEGIN
    UPDATE authz.usage_reservations AS r SET state = 'committed', committed = settle.committed
    WHERE r.workspace_id = settle.workspace_id AND r.id = settle.reservation
    RETURNING r.key INTO settled;
    DELETE FROM authz.usage_holds AS h
    WHERE h.workspace_id = settle.workspace_id AND h.reservation = settle.reservation;
    -- Now the key of the reservation has taken something, which can be refunded.
    UPDATE authz.usage_keys AS k SET meters = settle.meters, amounts = settle.amounts, starts = settle.starts
    WHERE k.workspace_id = settle.workspace_id AND k.key = settled.key AND k.reservation = settle.reservation;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.take(workspace_id uuid, facts_version bigint, user_id text, action text, meters text[], amounts bigint[], limits bigint[], resource text, key text, fingerprint text, ttl_s integer, reservation text, decision_id text, revision text, answer jsonb)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
    late CONSTANT boolean := ttl_s IS NULL AND reservation IS NOT NULL;
    moment timestamptz;
    ends_at timestamptz; -- of the reservation
    forget_at timestamptz; -- the key
    made text[] := '{}'; -- counters that were not there
    counter record;
    workspace record;
    meter record;
    wanted bigint[] := amounts;
    starts timestamptz[] := '{}';
    used_now bigint[];
    held_until_now timestamptz[];
    held_now bigint;
    room boolean := true;
    crossed boolean := false; -- a period has ended while we waited
    quota jsonb := '{}';
    told jsonb;
    outcome json;
BEGIN
    <<untaken>>
    BEGIN
        IF late THEN
            PERFORM FROM authz.usage_reservations AS r
            WHERE r.workspace_id = take.workspace_id AND r.id = take.reservation AND r.state = 'held'
            FOR UPDATE;
            IF NOT FOUND THEN
                outcome := '{"outcome": "settled"}'; -- somebody was faster
                EXIT untaken;
            END IF;
        END IF;
        FOR i IN 1..cardinality(meters) LOOP
            LOOP
                SELECT u.period_start, u.used, u.held_until INTO counter
                FROM authz.workspace_usage AS u
                WHERE u.workspace_id = take.workspace_id AND u.meter = meters[i]
                FOR UPDATE;
                EXIT WHEN FOUND;
                -- The first use of this meter. Its row is made now, in the order of locks; two may be here at once.
                IF NOT EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = take.workspace_id) THEN
                    outcome := '{"outcome": "stale"}';
                    EXIT untaken;
                END IF;
                INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
                VALUES (take.workspace_id, meters[i], '-infinity', 0)
                ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO NOTHING;
                IF FOUND THEN
                    made := made || meters[i];
                END IF;
            END LOOP;
            starts[i] := counter.period_start;
            used_now[i] := counter.used;
            held_until_now[i] := counter.held_until;
        END LOOP;
        SELECT w.facts_version, w.subscribed_at INTO workspace
        FROM authz.workspaces AS w
        WHERE w.id = take.workspace_id
        FOR SHARE;
        IF workspace.facts_version IS DISTINCT FROM take.facts_version THEN
            outcome := '{"outcome": "stale"}';
            EXIT untaken;
        END IF;
        moment := clock_timestamp(); -- after the locks: whoever waited past midnight is charged today
        ends_at := moment + make_interval(secs => ttl_s);
        forget_at := moment;
        IF resource IS NOT NULL AND NOT late THEN
            outcome := authz.repeat_of(workspace_id, meters, resource, key, fingerprint, moment);
            EXIT untaken WHEN outcome IS NOT NULL;
        END IF;

        FOR i IN 1..cardinality(meters) LOOP
            SELECT
                t.kind,
                authz.period_of(t.per, authz.anchor_of(t.anchor, workspace.subscribed_at), moment) AS period,
                CASE WHEN f.name IS NULL THEN limits[i] ELSE f.at_most END AS ceiling
            INTO STRICT meter
            FROM authz.meters AS t
            LEFT JOIN authz.workspace_features AS f
                ON f.workspace_id = take.workspace_id AND f.kind = 'limit' AND f.name = t.name
                AND (f.expires_at IS NULL OR f.expires_at > moment)
            WHERE t.name = meters[i];
            IF meter.kind = 'members' THEN
                RAISE EXCEPTION 'the meter "%" is counted by the database', meters[i] USING ERRCODE = '22023';
            END IF;
            IF resource IS NOT NULL AND meter.kind = 'level' AND EXISTS (
                SELECT FROM authz.usage_resources AS r
                WHERE r.workspace_id = take.workspace_id AND r.meter = meters[i] AND r.resource = take.resource
            ) THEN
                wanted[i] := 0; -- of several levels, one that has it
            END IF;
            -- A later period than ours: the clock went back. What was used is used.
            IF starts[i] < lower(meter.period) THEN
                starts[i] := lower(meter.period);
                used_now[i] := 0;
            END IF;
            held_now := 0;
            IF held_until_now[i] > moment THEN
                held_now := authz.reserved_of(workspace_id, meters[i], starts[i], moment);
            END IF;
            IF wanted[i] > 0 AND used_now[i] + held_now + wanted[i] > meter.ceiling THEN -- never above NULL
                room := false;
            END IF;
            IF ttl_s IS NULL THEN
                used_now[i] := used_now[i] + wanted[i];
            ELSE
                held_now := held_now + wanted[i];
            END IF;
            quota := quota || jsonb_build_object(meters[i], jsonb_build_array(
                meter.ceiling,
                used_now[i],
                held_now,
                CASE WHEN isfinite(upper(meter.period)) THEN upper(meter.period) END
            ));
            forget_at := greatest(forget_at, upper(meter.period));
            crossed := crossed OR lower(meter.period) > statement_timestamp();
        END LOOP;
        IF NOT room THEN
            outcome := COALESCE(
                CASE WHEN NOT late THEN
                    authz.repeat_of(workspace_id, meters, resource, key, fingerprint, moment)
                END,
                -- The facts are as of the beginning of the statement: was that another period, they are read again.
                CASE WHEN crossed THEN json '{"outcome": "stale"}' END,
                json_build_object('outcome', 'refused', 'facts', (
                    SELECT f.facts FROM authz.member_facts AS f
                    WHERE f.workspace_id = take.workspace_id AND f.user_id = take.user_id
                ))
            );
            EXIT untaken;
        END IF;

        told := answer || jsonb_build_object('at', moment, 'quota', quota);
        IF ttl_s IS NOT NULL THEN
            told := told || jsonb_build_object('reservation', jsonb_build_object(
                'id', reservation, 'expires_at', ends_at, 'amounts', authz.amounts_of(meters, wanted)
            ));
        END IF;
        WHILE key IS NOT NULL AND NOT late LOOP
            INSERT INTO authz.usage_keys (
                workspace_id, key, fingerprint, decision_id, answer,
                meters, amounts, starts, resource, reservation, expires_at
            )
            VALUES (
                take.workspace_id,
                take.key,
                take.fingerprint,
                take.decision_id,
                told,
                take.meters,
                CASE WHEN ttl_s IS NULL THEN wanted END,
                starts,
                take.resource,
                take.reservation,
                forget_at + interval '24 hours'
            )
            ON CONFLICT ON CONSTRAINT usage_keys_pkey DO NOTHING;
            EXIT WHEN FOUND;
            outcome := authz.repeat_of(workspace_id, meters, resource, key, fingerprint, moment);
            EXIT untaken WHEN outcome IS NOT NULL;
            DELETE FROM authz.usage_keys AS k
            WHERE k.workspace_id = take.workspace_id AND k.key = take.key AND k.expires_at <= moment;
        END LOOP;

        FOR i IN 1..cardinality(meters) LOOP
            CONTINUE WHEN wanted[i] = 0;
            UPDATE authz.workspace_usage AS u
            SET used = used_now[i], period_start = starts[i], held_until = greatest(u.held_until, ends_at)
            WHERE u.workspace_id = take.workspace_id AND u.meter = meters[i];
            IF ttl_s IS NOT NULL THEN
                DELETE FROM authz.usage_holds AS h
                WHERE h.workspace_id = take.workspace_id AND h.meter = meters[i] AND h.expires_at <= moment;
                INSERT INTO authz.usage_holds (workspace_id, meter, reservation, amount, period_start, expires_at)
                VALUES (take.workspace_id, meters[i], take.reservation, wanted[i], starts[i], ends_at);
                CONTINUE;
            END IF;
            INSERT INTO authz.usage_ledger
                (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
            VALUES (
                take.workspace_id,
                moment,
                meters[i],
                starts[i],
                wanted[i],
                CASE WHEN late THEN 'commit' ELSE 'consume' END,
                take.user_id,
                take.action,
                take.resource,
                take.decision_id
            );
            IF resource IS NOT NULL THEN
                INSERT INTO authz.usage_resources (workspace_id, meter, resource, amount, decision_id, revision)
                SELECT take.workspace_id, t.name, take.resource, wanted[i], take.decision_id, take.revision
                FROM authz.meters AS t
                WHERE t.name = meters[i] AND t.kind = 'level';
            END IF;
        END LOOP;
        IF ttl_s IS NOT NULL THEN
            INSERT INTO authz.usage_reservations
                (workspace_id, id, user_id, action, resource, amounts, expires_at, key, decision_id, revision)
            VALUES (
                take.workspace_id,
                take.reservation,
                take.user_id,
                take.action,
                take.resource,
                authz.amounts_of(meters, wanted),
                ends_at,
                take.key,
                take.decision_id,
                take.revision
            );
        ELSIF late THEN
            PERFORM authz.settle(workspace_id, reservation, authz.amounts_of(meters, amounts), meters, wanted, starts);
        END IF;
        RETURN json_build_object('outcome', 'taken', 'answer', told);
    END;

    IF made <> '{}' THEN
        DELETE FROM authz.workspace_usage AS u WHERE u.workspace_id = take.workspace_id AND u.meter = ANY (made);
    END IF;
    RETURN outcome;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.tidy(from_page bigint, pages bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
DECLARE
    -- A part of each table at a time, as it lies on the disk: an index by date would cost each use of quota more.
    low CONSTANT tid := format('(%s,0)', from_page);
    high CONSTANT tid := format('(%s,0)', from_page + pages);
    gone bigint;
    total bigint;
BEGIN
    IF from_page * current_setting('block_size')::bigint >= greatest(
        pg_relation_size('authz.usage_keys'),
        pg_relation_size('authz.usage_holds'),
        pg_relation_size('authz.usage_reservations')
    ) THEN
        RETURN NULL;
    END IF;
    -- What somebody has locked is in use: it is left for the next time, and nobody waits.
    DELETE FROM authz.usage_keys AS k WHERE k.ctid = ANY (ARRAY(
        SELECT e.ctid FROM authz.usage_keys AS e
        WHERE e.ctid >= low AND e.ctid < high AND e.expires_at < now()
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS total = ROW_COUNT;
    DELETE FROM authz.usage_holds AS h WHERE h.ctid = ANY (ARRAY(
        SELECT e.ctid FROM authz.usage_holds AS e
        WHERE e.ctid >= low AND e.ctid < high AND e.expires_at < now()
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM authz.usage_reservations AS r WHERE r.ctid = ANY (ARRAY(
        SELECT e.ctid FROM authz.usage_reservations AS e
        WHERE e.ctid >= low AND e.ctid < high AND e.expires_at < now() - interval '30 days'
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.workspace_id_of(workspace text)
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO ''
BEGIN ATOMIC
 SELECT w.id
    FROM authz.workspaces w
   WHERE ((w.slug = workspace_id_of.workspace) OR (w.id =
         CASE
             WHEN (workspace_id_of.workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'::text) THEN (workspace_id_of.workspace)::uuid
             ELSE NULL::uuid
         END));
END
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
                END,
                CASE
                    WHEN (u.held_until > statement_timestamp()) THEN authz.reserved_of(w.id, t.name, lower(p.period), statement_timestamp())
                    ELSE (0)::bigint
                END,
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

CREATE TRIGGER forget_usage AFTER DELETE ON authz.workspaces REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.forget_usage();

CREATE TRIGGER raise_version BEFORE UPDATE OF plan_tier, status ON authz.workspaces FOR EACH ROW WHEN (((old.plan_tier IS DISTINCT FROM new.plan_tier) OR (old.status IS DISTINCT FROM new.status))) EXECUTE FUNCTION authz.raise_version_of_workspace();

GRANT EXECUTE ON FUNCTION authz.catalog_revision() TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.commit_reservation(text,jsonb) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.facts(text[],text[]) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.refund(text,text,jsonb) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.release_reservation(text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.release_resource(text,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.repeated(uuid,text[],text,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_overrides(text,jsonb,jsonb,timestamp with time zone,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_plan(text,text,timestamp with time zone) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_status(text,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.take(uuid,bigint,text,text,text[],bigint[],bigint[],text,text,text,integer,text,text,text,jsonb) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.workspaces_of(text,text,integer) TO authz_sidecar;
