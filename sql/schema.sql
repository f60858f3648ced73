-- What the migrations add up to, for readers. Written by tests/postgres/schema_text.py, compared by a test:
-- change the schema by a migration, never here.

TABLE authz.action_roles (
    action text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    CONSTRAINT action_roles_pkey PRIMARY KEY (action, role)
);

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

TABLE authz.isolation_secret (
    only_row boolean NOT NULL DEFAULT true,
    inner_key bytea NOT NULL,
    outer_key bytea NOT NULL,
    made_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT isolation_secret_only_row_check CHECK (only_row),
    CONSTRAINT isolation_secret_pkey PRIMARY KEY (only_row)
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

TABLE authz.outbox (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    workspace_id uuid NOT NULL,
    actor text NOT NULL,
    actor_kind text NOT NULL,
    kind text NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT outbox_actor_kind_check CHECK ((actor_kind = ANY (ARRAY['user'::text, 'caller'::text, 'sql'::text]))),
    CONSTRAINT outbox_pkey PRIMARY KEY (workspace_id, id)
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
    answer json NOT NULL,
    at timestamp with time zone NOT NULL,
    quota jsonb NOT NULL,
    held json,
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

TABLE authz.workspace_invitations (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    email text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    invited_by text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_invitations_email_check CHECK (((length(email) >= 3) AND (length(email) <= 320))),
    CONSTRAINT workspace_invitations_email_key UNIQUE (workspace_id, email),
    CONSTRAINT workspace_invitations_expires_at_check CHECK ((expires_at <= (created_at + '7 days'::interval))),
    CONSTRAINT workspace_invitations_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workspace_invitations_role_check CHECK ((role <> 'owner'::text)),
    CONSTRAINT workspace_invitations_token_hash_check CHECK ((length(token_hash) = 32)),
    CONSTRAINT workspace_invitations_token_hash_key UNIQUE (token_hash),
    CONSTRAINT workspace_invitations_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES authz.workspaces(id) ON DELETE CASCADE
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
    deleted_at timestamp with time zone,
    deleted_by text COLLATE "C",
    members_before jsonb,
    default_of text COLLATE "C",
    CONSTRAINT workspaces_default_of_key UNIQUE (default_of),
    CONSTRAINT workspaces_deleted_check CHECK ((((deleted_at IS NULL) = (deleted_by IS NULL)) AND ((deleted_at IS NULL) = (members_before IS NULL)))),
    CONSTRAINT workspaces_id_check CHECK ((id <> '00000000-0000-0000-0000-000000000000'::uuid)),
    CONSTRAINT workspaces_member_count_check CHECK ((member_count >= 0)),
    CONSTRAINT workspaces_name_check CHECK (((length(name) >= 1) AND (length(name) <= 256))),
    CONSTRAINT workspaces_pkey PRIMARY KEY (id),
    CONSTRAINT workspaces_plan_tier_fkey FOREIGN KEY (plan_tier) REFERENCES authz.plans(name),
    CONSTRAINT workspaces_slug_check CHECK (authz.is_slug(slug)),
    CONSTRAINT workspaces_slug_key UNIQUE (slug),
    CONSTRAINT workspaces_status_check CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text])))
);

CREATE INDEX outbox_transaction_id_idx ON authz.outbox USING btree (transaction, id);

CREATE UNIQUE INDEX workspace_memberships_owner_key ON authz.workspace_memberships USING btree (workspace_id) WHERE (role = 'owner'::text);

CREATE INDEX workspace_memberships_user_id_idx ON authz.workspace_memberships USING btree (user_id, workspace_id);

CREATE INDEX workspaces_deleted_at_idx ON authz.workspaces USING btree (deleted_at) WHERE (deleted_at IS NOT NULL);

CREATE INDEX workspaces_plan_tier_idx ON authz.workspaces USING btree (plan_tier);

CREATE OR REPLACE FUNCTION authz.accept_invitation(workspace_id uuid, facts_version bigint, token_hash text, user_id text, email text, meters text[], limits bigint[])
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    moment timestamptz;
    members bigint;
    claimed authz.workspace_invitations;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    moment := clock_timestamp(); -- after the lock
    SELECT w.member_count INTO members FROM authz.workspaces AS w WHERE w.id = accept_invitation.workspace_id;
    IF NOT authz.seats_for(workspace_id, members + 1, meters, limits, moment) THEN
        RETURN 'full';
    END IF;

    DELETE FROM authz.workspace_invitations AS i
    WHERE i.token_hash = decode(accept_invitation.token_hash, 'hex')
      AND i.workspace_id = accept_invitation.workspace_id
      AND i.email = accept_invitation.email
      AND i.expires_at > moment
      AND NOT EXISTS (
          SELECT FROM authz.workspace_memberships AS m
          WHERE m.workspace_id = i.workspace_id AND m.user_id = accept_invitation.user_id
      )
    RETURNING i.* INTO claimed;
    IF NOT FOUND THEN
        RETURN 'invalid';
    END IF;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (claimed.workspace_id, accept_invitation.user_id, claimed.role);
    PERFORM authz.record(workspace_id, 'invitation.accepted', authz.invitation_document(claimed));
    RETURN 'joined';
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.acting_as(actor text, kind text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM set_config('authz.actor', acting_as.actor, true), set_config('authz.actor_kind', acting_as.kind, true);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.actor()
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
RETURN COALESCE(NULLIF(current_setting('authz.actor'::text, true), ''::text), (SESSION_USER)::text)
;

CREATE OR REPLACE FUNCTION authz.actor_kind()
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
RETURN COALESCE(NULLIF(current_setting('authz.actor_kind'::text, true), ''::text), 'sql'::text)
;

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

CREATE OR REPLACE FUNCTION authz.catalog_in_use()
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
BEGIN
    RETURN json_build_object(
        'meters', (
            SELECT COALESCE(json_object_agg(t.name, json_build_array(t.kind, t.per, t.anchor)), '{}')
            FROM authz.meters AS t
        ),
        'plans', (
            SELECT COALESCE(json_agg(p.name ORDER BY p.rank), '[]')
            FROM authz.plans AS p
            -- One look into workspaces_plan_tier_idx for each plan. LIMIT keeps it from becoming a join that reads all.
            CROSS JOIN LATERAL (SELECT FROM authz.workspaces AS w WHERE w.plan_tier = p.name LIMIT 1) AS holder
        ),
        'default_plan', (SELECT c.default_plan FROM authz.catalog AS c)
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.catalog_revision()
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
BEGIN ATOMIC
 SELECT catalog.revision
    FROM authz.catalog;
END
;

CREATE OR REPLACE FUNCTION authz.change_role(workspace_id uuid, facts_version bigint, user_id text, role text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    UPDATE authz.workspace_memberships AS m
    SET role = change_role.role
    WHERE m.workspace_id = change_role.workspace_id
      AND m.user_id = change_role.user_id
      AND m.role NOT IN ('owner', change_role.role)
      AND change_role.role <> 'owner';
    RETURN authz.member_of(workspace_id, user_id);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.claimed_workspace()
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN (NULLIF("left"(current_setting('authz.entered'::text, true), 36), ''::text))::uuid
;

CREATE OR REPLACE FUNCTION authz.commit_reservation(reservation text, amounts jsonb)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
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
    held := authz.reservation_locked(reservation);
    IF held.id IS NULL THEN
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

CREATE OR REPLACE FUNCTION authz.consume(workspace_id uuid, facts_version bigint, ceiling bigint, starts timestamp with time zone, ends timestamp with time zone, until timestamp with time zone, user_id text, action text, meter text, amount bigint, resource text, key text, fingerprint text, decision_id text, answer json)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
    used_now bigint;
    moment timestamptz;
BEGIN
    -- The statement waits for the counter, and then sees it as it is. A hold may have been made meanwhile.
    UPDATE authz.workspace_usage AS u SET used = u.used + consume.amount
    WHERE u.workspace_id = consume.workspace_id
      AND u.meter = consume.meter
      AND u.period_start = consume.starts
      AND (u.used + consume.amount <= ceiling OR ceiling IS NULL)
      AND (u.held_until <= statement_timestamp() OR u.held_until IS NULL)
    RETURNING u.used INTO used_now;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    moment := clock_timestamp(); -- after the lock: whoever waited past midnight is not charged yesterday

    -- Only if nothing has changed since the decision, and the key is new.
    IF key IS NULL THEN
        PERFORM FROM authz.workspaces AS w
        WHERE w.id = consume.workspace_id
          AND w.facts_version = consume.facts_version
          AND moment >= consume.starts
          AND (moment < LEAST(ends, until)) IS NOT FALSE
        FOR SHARE;
    ELSE
        INSERT INTO authz.usage_keys (
            workspace_id, key, fingerprint, decision_id, answer, at, quota,
            meters, amounts, starts, resource, expires_at
        )
        SELECT
            w.id,
            consume.key,
            consume.fingerprint,
            consume.decision_id,
            consume.answer,
            moment,
            jsonb_build_object(consume.meter, jsonb_build_array(ceiling, used_now, 0, ends)),
            ARRAY[consume.meter],
            ARRAY[consume.amount],
            ARRAY[consume.starts],
            consume.resource,
            COALESCE(ends, 'infinity') + interval '24 hours'
        FROM authz.workspaces AS w
        WHERE w.id = consume.workspace_id
          AND w.facts_version = consume.facts_version
          AND moment >= consume.starts
          AND (moment < LEAST(ends, until)) IS NOT FALSE
        FOR SHARE
        ON CONFLICT ON CONSTRAINT usage_keys_pkey DO NOTHING;
    END IF;
    IF NOT FOUND THEN
        UPDATE authz.workspace_usage AS u SET used = u.used - consume.amount
        WHERE u.workspace_id = consume.workspace_id AND u.meter = consume.meter;
        RETURN NULL;
    END IF;

    INSERT INTO authz.usage_ledger
        (workspace_id, at, meter, period_start, amount, kind, user_id, action, resource, decision_id)
    VALUES (
        consume.workspace_id,
        moment,
        consume.meter,
        consume.starts,
        consume.amount,
        'consume',
        consume.user_id,
        consume.action,
        consume.resource,
        consume.decision_id
    );
    RETURN json_build_array(moment, used_now);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.count_members()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '100ms'
AS $function$
DECLARE
    own_id uuid;
    workspace_name text;
    stem text;
    candidate text;
    plan text;
    founder_role text;
BEGIN
    FOR attempt IN 1..10 LOOP
        SELECT m.workspace_id INTO own_id
        FROM authz.members AS m
        WHERE m.user_id = create_default_workspace.user_id
        ORDER BY m.joined_at, m.workspace_id
        LIMIT 1;
        IF FOUND THEN
            RETURN own_id; -- his already, or made by another session a moment ago
        END IF;

        IF attempt = 1 THEN
            SELECT c.default_plan INTO plan FROM authz.catalog AS c;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate'
                    USING ERRCODE = '55000';
            END IF;
            SELECT r.name INTO founder_role FROM authz.roles AS r ORDER BY r.name = 'owner' DESC, r.rank DESC LIMIT 1;
            workspace_name := btrim(regexp_replace(
                left(split_part(email, '@', 1), 256), '[[:space:][:cntrl:]]+', ' ', 'g'
            ));
            stem := btrim(regexp_replace(lower(workspace_name COLLATE "C"), '[^a-z0-9]+', '-', 'g'), '-');
            stem := rtrim(left(stem, 40), '-');
            IF authz.is_slug(stem) THEN
                candidate := stem;
            ELSE
                candidate := 'workspace';
            END IF;
            stem := candidate;
        ELSE
            candidate := stem || '-' || left(replace(gen_random_uuid()::text, '-', ''), 8);
        END IF;

        BEGIN
            UPDATE authz.workspaces AS w SET default_of = NULL -- one that he has left
            WHERE w.default_of = create_default_workspace.user_id;
            INSERT INTO authz.workspaces AS w (slug, name, plan_tier, default_of)
            VALUES (candidate, COALESCE(NULLIF(workspace_name, ''), candidate), plan, user_id)
            ON CONFLICT DO NOTHING
            RETURNING w.id INTO own_id;
            IF FOUND THEN
                INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
                VALUES (own_id, create_default_workspace.user_id, founder_role);
                RETURN own_id;
            END IF;
        EXCEPTION
            WHEN lock_not_available THEN
                NULL; -- the slug is being taken, or his workspace being made: look again
        END;
    END LOOP;
    RAISE EXCEPTION 'another session is at the workspace of this user' USING ERRCODE = '55P03';
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.create_default_workspace_for_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.create_workspace(workspace_id uuid, user_id text, name text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    stem CONSTANT text := authz.slug_after(create_workspace.name);
    candidate text := stem;
    founder_role text;
BEGIN
    LOOP
        INSERT INTO authz.workspaces (id, slug, name, plan_tier)
        SELECT create_workspace.workspace_id, candidate, create_workspace.name, c.default_plan FROM authz.catalog AS c
        ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        -- The id is the sidecar's, and new for each question: if it is there, this is the second time.
        EXIT WHEN EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = create_workspace.workspace_id);
        IF NOT EXISTS (SELECT FROM authz.catalog) THEN
            RAISE EXCEPTION 'no catalog is published, so there is no default plan: run sidecar migrate';
        END IF;
        candidate := stem || '-' || left(replace(gen_random_uuid()::text, '-', ''), 8);
    END LOOP;
    SELECT r.name INTO founder_role FROM authz.roles AS r ORDER BY r.name = 'owner' DESC, r.rank DESC LIMIT 1;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (create_workspace.workspace_id, create_workspace.user_id, founder_role)
    ON CONFLICT ON CONSTRAINT workspace_memberships_pkey DO NOTHING;
    RETURN (
        SELECT json_build_object(
            'id', w.id, 'name', w.name, 'slug', w.slug, 'plan_tier', w.plan_tier, 'role', founder_role
        )
        FROM authz.workspaces AS w
        WHERE w.id = create_workspace.workspace_id
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.decided_by(workspace_id uuid, facts_version bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM FROM authz.workspaces AS w
    WHERE w.id = decided_by.workspace_id AND w.facts_version = decided_by.facts_version AND w.deleted_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'workspace % has changed since', workspace_id USING ERRCODE = 'AZ010';
    END IF;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.delete_workspace(workspace_id uuid, facts_version bigint)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    UPDATE authz.workspaces AS w
    SET deleted_at = clock_timestamp(),
        deleted_by = authz.actor(),
        members_before = (
            SELECT COALESCE(jsonb_agg(jsonb_build_object(
                'user_id', m.user_id, 'role', m.role, 'joined_at', m.joined_at
            ) ORDER BY m.user_id), '[]')
            FROM authz.workspace_memberships AS m
            WHERE m.workspace_id = delete_workspace.workspace_id
        )
    WHERE w.id = delete_workspace.workspace_id;
    DELETE FROM authz.workspace_invitations AS i WHERE i.workspace_id = delete_workspace.workspace_id;
    DELETE FROM authz.workspace_memberships AS m WHERE m.workspace_id = delete_workspace.workspace_id;
    RETURN 'deleted';
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.email_of(user_id text)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN (SELECT u.email FROM authz.users u WHERE (u.id = email_of.user_id))
;

CREATE OR REPLACE FUNCTION authz.enter(user_id text, workspace text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    marker CONSTANT integer := 7024;
    entered_id uuid;
BEGIN
    -- The variable could have been emptied, so it proves nothing. A transaction that has entered has a number and
    -- holds the marker, which nobody can let go of before its end; most have no number yet, and need not look.
    IF pg_current_xact_id_if_assigned() IS NOT NULL AND EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory'
          AND l.pid = pg_backend_pid()
          AND l.classid = marker
          AND l.objid = pg_backend_pid()
    ) THEN
        RAISE EXCEPTION 'this transaction has entered a workspace already: one each, so that they cannot mix'
            USING ERRCODE = '55000';
    END IF;

    SELECT m.workspace_id INTO entered_id
    FROM authz.members AS m
    WHERE m.user_id = enter.user_id
      -- The nil UUID, which no workspace has, and not NULL: a membership is looked for in any case, as in authz.facts.
      AND m.workspace_id = COALESCE(authz.workspace_id_of(workspace), '00000000-0000-0000-0000-000000000000');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not a member of this workspace' USING ERRCODE = '42501'; -- if there is such a workspace
    ELSIF NOT pg_try_advisory_xact_lock_shared(marker, pg_backend_pid()) THEN
        RAISE EXCEPTION 'another session keeps this one from entering: it holds the advisory lock (%, %)',
            marker, pg_backend_pid() USING ERRCODE = '55P03';
    END IF;
    PERFORM set_config('authz.entered', authz.signed(entered_id::text, pg_current_xact_id()), true);
    RETURN entered_id;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.enter(user_id text, workspace uuid)
 RETURNS uuid
 LANGUAGE sql
RETURN authz.enter(user_id, (workspace)::text)
;

CREATE OR REPLACE FUNCTION authz.entered_workspace()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    entered CONSTANT text := current_setting('authz.entered', true);
    workspace CONSTANT text := left(entered, 36);
BEGIN
    IF entered = authz.signed(workspace, pg_current_xact_id_if_assigned()) THEN
        RETURN workspace::uuid;
    END IF;
    -- Rather than NULL, which would show an empty table: a plausible answer, and a wrong one.
    RAISE EXCEPTION 'this transaction has entered no workspace'
        USING ERRCODE = '55000', HINT = 'SELECT authz.enter(user, workspace) comes first in each transaction.';
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.facts(users text[], workspaces text[])
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.forget_deleted_users()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM old_rows) THEN
        RETURN NULL;
    END IF;
    PERFORM authz.forget_users(ARRAY(SELECT o.id::text FROM old_rows AS o));
    DELETE FROM authz.users AS u USING old_rows AS o WHERE u.id = o.id::text; -- who was auth.users' and came here
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.forget_usage()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    DELETE FROM authz.usage_reservations AS r USING old_rows AS o WHERE r.workspace_id = o.id;
    DELETE FROM authz.usage_holds AS h USING old_rows AS o WHERE h.workspace_id = o.id;
    DELETE FROM authz.usage_keys AS k USING old_rows AS o WHERE k.workspace_id = o.id;
    DELETE FROM authz.usage_resources AS r USING old_rows AS o WHERE r.workspace_id = o.id;
    DELETE FROM authz.usage_ledger AS l USING old_rows AS o WHERE l.workspace_id = o.id;
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.forget_users(users text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    left_ids uuid[];
    ownerless_ids uuid[];
BEGIN
    -- Of a workspace that will go its counters come first, since whoever takes quota holds them when he locks the
    -- workspace.
    SELECT array_agg(m.workspace_id) INTO left_ids
    FROM authz.workspace_memberships AS m
    WHERE m.user_id = ANY (users)
      AND NOT EXISTS (
          SELECT FROM authz.workspace_memberships AS o
          WHERE o.workspace_id = m.workspace_id AND o.user_id <> ALL (users)
      );
    PERFORM FROM authz.workspace_usage AS u WHERE u.workspace_id = ANY (left_ids)
    ORDER BY u.workspace_id, u.meter FOR UPDATE;
    -- Whoever joins, leaves or moves ownership in one of them waits, or we wait for him; in the order of their ids, so
    -- that two cannot wait for each other. FOR UPDATE from the start: some of these rows will be deleted.
    PERFORM FROM authz.workspaces AS w
    WHERE w.id IN (
        SELECT m.workspace_id FROM authz.workspace_memberships AS m WHERE m.user_id = ANY (users)
        UNION ALL
        SELECT d.id FROM authz.workspaces AS d WHERE d.default_of = ANY (users)
        UNION ALL
        SELECT b.id
        FROM authz.workspaces AS b
        CROSS JOIN LATERAL jsonb_to_recordset(b.members_before) AS before (user_id text)
        WHERE b.deleted_at IS NOT NULL AND before.user_id = ANY (users)
    )
    ORDER BY w.id FOR UPDATE;

    UPDATE authz.workspaces AS w SET default_of = NULL WHERE w.default_of = ANY (users);
    -- The owner goes before his heir is made owner: at no time may there be two (workspace_memberships_owner_key).
    WITH gone AS (
        DELETE FROM authz.workspace_memberships AS m WHERE m.user_id = ANY (users)
        RETURNING m.workspace_id, m.role
    )
    SELECT array_agg(g.workspace_id), array_agg(g.workspace_id) FILTER (WHERE g.role = 'owner')
    INTO left_ids, ownerless_ids
    FROM gone AS g;
    PERFORM authz.hand_over(ownerless_ids);
    WITH kept AS (
        UPDATE authz.workspaces AS w
        SET members_before = (
            SELECT COALESCE(jsonb_agg(before.member ORDER BY before.member ->> 'user_id'), '[]')
            FROM jsonb_array_elements(w.members_before) AS before (member)
            WHERE before.member ->> 'user_id' <> ALL (users)
        )
        WHERE w.deleted_at IS NOT NULL
          AND EXISTS (
              SELECT FROM jsonb_to_recordset(w.members_before) AS before (user_id text)
              WHERE before.user_id = ANY (users)
          )
        RETURNING w.id
    )
    SELECT left_ids || array_agg(k.id) INTO left_ids FROM kept AS k;
    -- Nobody is left who could use it, hand it over, or ask for it back.
    DELETE FROM authz.workspaces AS w
    WHERE w.id = ANY (left_ids)
      AND COALESCE(w.members_before, '[]') = '[]'
      AND NOT EXISTS (SELECT FROM authz.workspace_memberships AS m WHERE m.workspace_id = w.id);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.get_user_workspaces(user_id text)
 RETURNS TABLE(workspace_id uuid, slug text, name text, plan_tier text, role text, status text, joined_at timestamp with time zone)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN QUERY
    SELECT w.id, w.slug, w.name, w.plan_tier, m.role, w.status, m.joined_at
    FROM authz.members AS m
    JOIN authz.workspaces AS w ON w.id = m.workspace_id
    WHERE m.user_id = get_user_workspaces.user_id
    ORDER BY w.slug;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.get_workspace_role(user_id text, workspace_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT m.role
        FROM authz.members AS m
        WHERE m.workspace_id = get_workspace_role.workspace_id
          AND m.user_id = get_workspace_role.user_id
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.hand_over(workspace_ids uuid[])
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
BEGIN ATOMIC
 UPDATE authz.workspace_memberships m SET role = 'owner'::text
    FROM ( SELECT DISTINCT ON (c.workspace_id) c.workspace_id,
             c.user_id
            FROM (authz.workspace_memberships c
              LEFT JOIN authz.roles r ON ((r.name = c.role)))
           WHERE (c.workspace_id = ANY (hand_over.workspace_ids))
           ORDER BY c.workspace_id, r.rank DESC NULLS LAST, c.joined_at, c.user_id) heir
   WHERE ((m.workspace_id = heir.workspace_id) AND (m.user_id = heir.user_id));
END
;

CREATE OR REPLACE FUNCTION authz.has_feature_access(workspace_id uuid, feature text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.workspaces AS w
        JOIN authz.features AS f ON f.name = has_feature_access.feature -- an override alone declares nothing
        LEFT JOIN authz.workspace_features AS o
            ON o.workspace_id = w.id
            AND o.kind = 'feature'
            AND o.name = f.name
            AND (o.expires_at IS NULL OR o.expires_at > statement_timestamp())
        WHERE w.id = has_feature_access.workspace_id
          AND w.status = 'active'
          AND w.deleted_at IS NULL
          AND COALESCE(o.enabled, EXISTS (
              SELECT FROM authz.plan_features AS p WHERE p.plan = w.plan_tier AND p.feature = f.name
          ))
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.invitation_by_token(token_hash text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
BEGIN
    RETURN (
        SELECT authz.invitation_document(i)
            || jsonb_build_object('workspace_id', w.id, 'members', w.member_count)
        FROM authz.workspace_invitations AS i
        JOIN authz.workspaces AS w ON w.id = i.workspace_id
        WHERE i.token_hash = decode(invitation_by_token.token_hash, 'hex')
          AND i.expires_at > statement_timestamp()
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.invitation_document(invitation authz.workspace_invitations)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
RETURN jsonb_build_object('id', (invitation).id, 'email', (invitation).email, 'role', (invitation).role, 'invited_by', (invitation).invited_by, 'created_at', (invitation).created_at, 'expires_at', (invitation).expires_at)
;

CREATE OR REPLACE FUNCTION authz.invitations_of(workspace_id uuid, after text, at_most integer)
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(authz.invitation_document(page) ORDER BY page.email), '[]')
        FROM (
            SELECT i.*
            FROM authz.workspace_invitations AS i
            WHERE i.workspace_id = invitations_of.workspace_id
              AND i.expires_at > statement_timestamp()
              AND i.email > COALESCE(invitations_of.after, '')
            ORDER BY i.email
            LIMIT invitations_of.at_most
        ) AS page
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.invite(workspace_id uuid, facts_version bigint, id uuid, invited_by text, email text, role text, token_hash text, meters text[], limits bigint[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    moment timestamptz;
    members bigint;
    made authz.workspace_invitations;
    replaced authz.workspace_invitations;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    moment := clock_timestamp(); -- after the lock
    SELECT w.member_count INTO members FROM authz.workspaces AS w WHERE w.id = invite.workspace_id;
    IF NOT authz.seats_for(
        workspace_id, members + authz.open_invitations(workspace_id, moment, email) + 1, meters, limits, moment
    ) THEN
        RETURN NULL;
    END IF;

    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = invite.workspace_id AND i.expires_at <= moment;
    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = invite.workspace_id AND i.email = invite.email
    RETURNING i.* INTO replaced;
    IF FOUND THEN
        PERFORM authz.record(workspace_id, 'invitation.replaced', authz.invitation_document(replaced));
    END IF;
    INSERT INTO authz.workspace_invitations AS i
        (workspace_id, id, email, role, invited_by, token_hash, created_at, expires_at)
    VALUES (
        invite.workspace_id,
        invite.id,
        invite.email,
        invite.role,
        invite.invited_by,
        decode(invite.token_hash, 'hex'),
        moment,
        moment + interval '7 days'
    )
    RETURNING i.* INTO made;
    PERFORM authz.record(workspace_id, 'invitation.created', authz.invitation_document(made));
    RETURN authz.invitation_document(made);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.is_invited(workspace_id uuid, email text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.workspace_invitations AS i
        WHERE i.workspace_id = is_invited.workspace_id
          AND i.email = is_invited.email
          AND i.expires_at > statement_timestamp()
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

CREATE OR REPLACE FUNCTION authz.is_workspace_member(user_id text, workspace_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.members AS m
        WHERE m.workspace_id = is_workspace_member.workspace_id
          AND m.user_id = is_workspace_member.user_id
    );
END;
$function$
;

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
$function$
;

CREATE OR REPLACE FUNCTION authz.let_go(of_workspace uuid, of_meter text, of_resource text, by_decision text, amount bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.masked(key bytea, mask integer)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    block bytea := decode(repeat('00', 64), 'hex'); -- a block of SHA-256
BEGIN
    FOR at IN 0..63 LOOP
        block := set_byte(block, at, (CASE WHEN at < length(key) THEN get_byte(key, at) ELSE 0 END) # mask);
    END LOOP;
    RETURN block;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.member_document(membership authz.workspace_memberships)
 RETURNS json
 LANGUAGE sql
 STABLE
RETURN json_build_object('user', (membership).user_id, 'role', (membership).role, 'email', authz.email_of((membership).user_id), 'joined_at', (membership).joined_at)
;

CREATE OR REPLACE FUNCTION authz.member_of(workspace_id uuid, user_id text)
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
BEGIN
    RETURN (
        SELECT authz.member_document(m)
        FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = member_of.workspace_id AND m.user_id = member_of.user_id
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.members_of(workspace text, after text, at_most integer)
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
DECLARE
    known CONSTANT uuid := CASE
        WHEN workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
            THEN workspace::uuid
        ELSE (SELECT w.id FROM authz.workspaces AS w WHERE w.slug = workspace)
    END;
BEGIN
    RETURN (
        SELECT json_build_object(
            'facts', (
                SELECT f.facts FROM authz.member_facts AS f
                WHERE f.workspace_id = known AND f.user_id = min(page.user_id)
            ),
            'members', COALESCE(json_agg(json_build_array(page.user_id, page.role) ORDER BY page.user_id), '[]')
        )
        FROM (
            SELECT m.user_id, m.role
            FROM authz.workspace_memberships AS m
            WHERE m.workspace_id = known
              AND m.user_id > COALESCE(after, '') -- which no user is
            ORDER BY m.user_id
            LIMIT at_most
        ) AS page
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.miscounts(of_workspace uuid)
 RETURNS TABLE(kind text, meter text, resource text, counted bigint, expected bigint, period_start timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.open_invitations(workspace_id uuid, moment timestamp with time zone, but_of text DEFAULT NULL::text)
 RETURNS bigint
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
BEGIN ATOMIC
 SELECT count(*) AS count
    FROM authz.workspace_invitations i
   WHERE ((i.workspace_id = open_invitations.workspace_id) AND (i.expires_at > open_invitations.moment) AND (i.email IS DISTINCT FROM open_invitations.but_of));
END
;

CREATE OR REPLACE FUNCTION authz.people_of(workspace_id uuid, after text, at_most integer)
 RETURNS json
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(authz.member_document(page) ORDER BY page.user_id), '[]')
        FROM (
            SELECT m.*
            FROM authz.workspace_memberships AS m
            WHERE m.workspace_id = people_of.workspace_id
              AND m.user_id > COALESCE(people_of.after, '') -- which no user is
            ORDER BY m.user_id
            LIMIT people_of.at_most
        ) AS page
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.period_at(per text, anchored_at timestamp with time zone, at timestamp with time zone)
 RETURNS TABLE(starts timestamp with time zone, ends timestamp with time zone)
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
 SELECT
         CASE period_at.per
             WHEN 'month'::text THEN ((m.anchor + ((m.months)::double precision * '1 mon'::interval)) AT TIME ZONE 'UTC'::text)
             WHEN 'day'::text THEN (date_trunc('day'::text, m.moment) AT TIME ZONE 'UTC'::text)
             ELSE '-infinity'::timestamp with time zone
         END AS "case",
         CASE period_at.per
             WHEN 'month'::text THEN ((m.anchor + (((m.months + 1))::double precision * '1 mon'::interval)) AT TIME ZONE 'UTC'::text)
             WHEN 'day'::text THEN ((date_trunc('day'::text, m.moment) + '1 day'::interval) AT TIME ZONE 'UTC'::text)
             ELSE 'infinity'::timestamp with time zone
         END AS "case"
    FROM ( SELECT c.anchor,
             c.moment,
             (c.months -
                 CASE
                     WHEN ((c.anchor + ((c.months)::double precision * '1 mon'::interval)) > c.moment) THEN 1
                     ELSE 0
                 END) AS months
            FROM ( SELECT l.anchor,
                     l.moment,
                     (((((12)::double precision * (date_part('year'::text, l.moment) - date_part('year'::text, l.anchor))) + date_part('month'::text, l.moment)) - date_part('month'::text, l.anchor)))::integer AS months
                    FROM ( SELECT (period_at.anchored_at AT TIME ZONE 'UTC'::text) AS anchor,
                             (period_at.at AT TIME ZONE 'UTC'::text) AS moment) l) c
          OFFSET 0) m;
END
;

CREATE OR REPLACE FUNCTION authz.period_of(per text, anchored_at timestamp with time zone, at timestamp with time zone)
 RETURNS tstzrange
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (SELECT tstzrange(p.starts, p.ends) FROM authz.period_at(per, anchored_at, at) AS p);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.purge_workspaces(grace interval DEFAULT '30 days'::interval, at_most integer DEFAULT 100)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    purged integer;
BEGIN
    WITH due AS (
        SELECT w.id
        FROM authz.workspaces AS w
        WHERE w.deleted_at <= clock_timestamp() - grace
          AND w.member_count = 0 -- somebody is in it again: restored by hand
        ORDER BY w.deleted_at
        LIMIT at_most
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM authz.workspaces AS w USING due WHERE w.id = due.id;
    GET DIAGNOSTICS purged = ROW_COUNT;
    RETURN purged;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.quota_now(workspace_id uuid, meters text[])
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.facts_version := OLD.facts_version + 1;
    RETURN NEW;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.record(workspace_id uuid, kind text, data jsonb)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
BEGIN ATOMIC
 INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
   VALUES (record.workspace_id, authz.actor(), authz.actor_kind(), record.kind, record.data);
END
;

CREATE OR REPLACE FUNCTION authz.record_members()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    who CONSTANT text := authz.actor();
BEGIN
    -- A workspace that is not there any more has taken its members with it: that is recorded once, not for each.
    IF TG_OP = 'INSERT' THEN
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id,
            who,
            authz.actor_kind(),
            'member.joined',
            jsonb_build_object('user', n.user_id, 'role', n.role)
        FROM new_rows AS n
        JOIN authz.workspaces AS w ON w.id = n.workspace_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            o.workspace_id,
            who,
            authz.actor_kind(),
            CASE WHEN o.user_id = who AND authz.actor_kind() = 'user' THEN 'member.left' ELSE 'member.removed' END,
            jsonb_build_object('user', o.user_id, 'role', o.role)
        FROM old_rows AS o
        JOIN authz.workspaces AS w ON w.id = o.workspace_id AND w.deleted_at IS NULL;
    ELSE
        INSERT INTO authz.outbox (workspace_id, actor, actor_kind, kind, data)
        SELECT
            n.workspace_id,
            who,
            authz.actor_kind(),
            'member.role_changed',
            jsonb_build_object('user', n.user_id, 'from', o.role, 'to', n.role)
        FROM new_rows AS n
        JOIN old_rows AS o ON o.workspace_id = n.workspace_id AND o.user_id = n.user_id
        WHERE n.role <> o.role;
    END IF;
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.record_override()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM authz.workspaces AS w WHERE w.id = OLD.workspace_id) THEN
            PERFORM authz.record(
                OLD.workspace_id, 'override.removed', jsonb_build_object('of', OLD.kind, 'name', OLD.name)
            );
        END IF;
    ELSE
        PERFORM authz.record(NEW.workspace_id, 'override.set', jsonb_build_object(
            'of', NEW.kind,
            'name', NEW.name,
            'value', CASE
                WHEN NEW.kind = 'feature' THEN to_jsonb(NEW.enabled)
                WHEN NEW.at_most IS NULL THEN '"unlimited"'
                ELSE to_jsonb(NEW.at_most)
            END,
            'expires_at', NEW.expires_at,
            'reason', NEW.reason
        ));
    END IF;
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.record_workspace()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM authz.record(NEW.id, 'workspace.created', jsonb_build_object(
            'slug', NEW.slug, 'name', NEW.name, 'plan', NEW.plan_tier
        ));
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM authz.record(OLD.id, 'workspace.purged', jsonb_build_object('slug', OLD.slug));
        RETURN NULL;
    END IF;

    IF NEW.name <> OLD.name THEN
        PERFORM authz.record(NEW.id, 'workspace.renamed', jsonb_build_object('from', OLD.name, 'to', NEW.name));
    END IF;
    IF NEW.plan_tier <> OLD.plan_tier THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.plan_changed',
            jsonb_build_object('from', OLD.plan_tier, 'to', NEW.plan_tier, 'as_of', NEW.plan_as_of)
        );
    END IF;
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.deleted', jsonb_build_object(
            'slug', NEW.slug, 'name', NEW.name, 'members', NEW.members_before
        ));
    ELSIF NEW.deleted_at IS NULL AND OLD.deleted_at IS NOT NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.restored', jsonb_build_object('slug', NEW.slug));
    ELSIF NEW.status <> OLD.status THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.status_changed',
            jsonb_build_object('from', OLD.status, 'to', NEW.status, 'reason', NEW.status_reason)
        );
    END IF;
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.recount(of_workspace uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    wrong record;
BEGIN
    PERFORM authz.usage_locked(of_workspace);
    PERFORM FROM authz.workspaces AS w WHERE w.id = of_workspace FOR NO KEY UPDATE;
    FOR wrong IN SELECT m.* FROM authz.miscounts(of_workspace) AS m LOOP
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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
    PERFORM authz.counters_locked(of_workspace, known.meters); -- a commit that is under way comes first, or waits
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
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
    held authz.usage_reservations;
    again boolean;
BEGIN
    held := authz.reservation_locked(reservation);
    IF held.id IS NULL THEN
        RETURN '{"outcome": "unknown"}';
    ELSIF held.state = 'committed' THEN
        RETURN '{"outcome": "committed"}';
    END IF;
    again := held.state = 'released';
    IF NOT again THEN
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.remove_member(workspace_id uuid, facts_version bigint, user_id text)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    DELETE FROM authz.workspace_memberships AS m
    WHERE m.workspace_id = remove_member.workspace_id AND m.user_id = remove_member.user_id AND m.role <> 'owner';
    RETURN 'removed';
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.rename_workspace(workspace_id uuid, facts_version bigint, name text)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    UPDATE authz.workspaces AS w SET name = rename_workspace.name WHERE w.id = rename_workspace.workspace_id;
    RETURN 'renamed';
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.repeat_of(workspace_id uuid, meters text[], resource text, key text, fingerprint text, moment timestamp with time zone)
 RETURNS json
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    known record;
    levels text[];
    made record;
BEGIN
    IF repeat_of.key IS NOT NULL THEN
        SELECT k.fingerprint, k.decision_id, k.answer, k.at, k.quota, k.held INTO known
        FROM authz.usage_keys AS k
        WHERE k.workspace_id = repeat_of.workspace_id AND k.key = repeat_of.key AND k.expires_at > moment;
        IF known.fingerprint <> repeat_of.fingerprint THEN
            RETURN '{"outcome": "key_reused"}';
        ELSIF FOUND THEN
            RETURN json_build_object(
                'outcome', 'repeated',
                'decision_id', known.decision_id,
                'answer', known.answer,
                'at', known.at,
                'quota', known.quota,
                'reservation', known.held
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
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
BEGIN
    RETURN authz.repeat_of(workspace_id, meters, resource, key, fingerprint, clock_timestamp());
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.reservation_locked(reservation text)
 RETURNS authz.usage_reservations
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    held authz.usage_reservations;
BEGIN
    -- What it holds never changes, so that the counters can be locked before it.
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = reservation_locked.reservation;
    PERFORM authz.counters_locked(held.workspace_id, ARRAY(SELECT jsonb_object_keys(held.amounts)));
    SELECT r.* INTO held FROM authz.usage_reservations AS r WHERE r.id = reservation_locked.reservation FOR UPDATE;
    RETURN held;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.reservation_now(reservation authz.usage_reservations, replayed boolean)
 RETURNS json
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.restore_workspace(workspace_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    before jsonb;
BEGIN
    SELECT w.members_before INTO before
    FROM authz.workspaces AS w
    WHERE w.id = restore_workspace.workspace_id AND w.deleted_at IS NOT NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no workspace % was deleted and not purged yet', workspace_id USING ERRCODE = 'AZ001';
    END IF;
    UPDATE authz.workspaces AS w SET deleted_at = NULL, deleted_by = NULL, members_before = NULL
    WHERE w.id = restore_workspace.workspace_id;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role, joined_at)
    SELECT restore_workspace.workspace_id, m.user_id, m.role, m.joined_at
    FROM jsonb_to_recordset(before) AS m (user_id text, role text, joined_at timestamptz);
    IF EXISTS (SELECT FROM authz.roles AS r WHERE r.name = 'owner') AND NOT EXISTS (
        SELECT FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = restore_workspace.workspace_id AND m.role = 'owner'
    ) THEN
        PERFORM authz.hand_over(ARRAY[restore_workspace.workspace_id]);
    END IF;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.revoke_invitation(workspace_id uuid, facts_version bigint, id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    revoked authz.workspace_invitations;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = revoke_invitation.workspace_id
      AND i.id = revoke_invitation.id
      AND i.expires_at > clock_timestamp()
    RETURNING i.* INTO revoked;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM authz.record(workspace_id, 'invitation.revoked', authz.invitation_document(revoked));
    RETURN true;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.rotate_isolation_secret()
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    -- Four times 122 strongly random bits: the server has no other source of them without an extension.
    key CONSTANT bytea := sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    );
BEGIN
    INSERT INTO authz.isolation_secret AS s (inner_key, outer_key)
    VALUES (authz.masked(key, 54), authz.masked(key, 92)) -- 0x36 and 0x5c
    ON CONFLICT (only_row) DO UPDATE
    SET inner_key = excluded.inner_key, outer_key = excluded.outer_key, made_at = now();
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.seats_for(workspace_id uuid, wanted bigint, meters text[], limits bigint[], moment timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
BEGIN ATOMIC
 SELECT (NOT (EXISTS ( SELECT
            FROM (UNNEST(seats_for.meters, seats_for.limits) plan(meter, at_most)
              LEFT JOIN authz.workspace_features f ON (((f.workspace_id = seats_for.workspace_id) AND (f.kind = 'limit'::text) AND (f.name = plan.meter) AND ((f.expires_at IS NULL) OR (f.expires_at > seats_for.moment)))))
           WHERE (seats_for.wanted >
                 CASE
                     WHEN (f.name IS NULL) THEN plan.at_most
                     ELSE f.at_most
                 END))));
END
;

CREATE OR REPLACE FUNCTION authz.see_user(user_id text, email text, verified boolean)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    -- First, and so with any e-mail: it names his own workspace. Others are shown a verified one alone.
    PERFORM authz.create_default_workspace(see_user.user_id, see_user.email);
    INSERT INTO authz.users AS u (id, email) VALUES (see_user.user_id, CASE WHEN verified THEN see_user.email END)
    ON CONFLICT ON CONSTRAINT users_pkey DO UPDATE SET email = excluded.email
    WHERE excluded.email IS NOT NULL AND u.email IS DISTINCT FROM excluded.email;
    RETURN 'seen';
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.set_overrides(workspace text, features jsonb DEFAULT '{}'::jsonb, limits jsonb DEFAULT '{}'::jsonb, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    of_workspace CONSTANT uuid := workspace_id;
    counter record;
    before bigint;
BEGIN
    PERFORM authz.usage_locked(of_workspace); -- all of it: what is not named has used nothing
    DELETE FROM authz.usage_reservations AS r WHERE r.workspace_id = of_workspace;
    DELETE FROM authz.usage_holds AS h WHERE h.workspace_id = of_workspace;
    DELETE FROM authz.usage_keys AS k WHERE k.workspace_id = of_workspace;
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.signed(workspace text, transaction xid8)
 RETURNS text
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT workspace || ' ' || encode(sha256(s.outer_key || sha256(s.inner_key || convert_to(
            -- A number of a transaction comes again after a restore to an earlier time: in another run of the server.
            workspace || ' ' || transaction::text || ' ' || extract(epoch FROM pg_postmaster_start_time())::text, 'UTF8'
        ))), 'hex')
        FROM authz.isolation_secret AS s
    );
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.slug_after(name text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    stem CONSTANT text := rtrim(left(btrim(regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g'), '-'), 40), '-');
BEGIN
    RETURN CASE WHEN authz.is_slug(stem) THEN stem ELSE 'workspace' END;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.take(workspace_id uuid, facts_version bigint, user_id text, action text, meters text[], amounts bigint[], limits bigint[], resource text, key text, fingerprint text, ttl_s integer, reservation text, decision_id text, revision text, answer json)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
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
    held json;
    outcome json;
BEGIN
    <<untaken>>
    BEGIN
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
        IF late THEN
            PERFORM FROM authz.usage_reservations AS r
            WHERE r.workspace_id = take.workspace_id AND r.id = take.reservation AND r.state = 'held'
            FOR UPDATE;
            IF NOT FOUND THEN
                outcome := '{"outcome": "settled"}'; -- somebody was faster
                EXIT untaken;
            END IF;
        END IF;
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

        IF ttl_s IS NOT NULL THEN
            held := json_build_object(
                'id', reservation, 'expires_at', ends_at, 'amounts', authz.amounts_of(meters, wanted)
            );
        END IF;
        WHILE key IS NOT NULL AND NOT late LOOP
            INSERT INTO authz.usage_keys (
                workspace_id, key, fingerprint, decision_id, answer, at, quota, held,
                meters, amounts, starts, resource, reservation, expires_at
            )
            VALUES (
                take.workspace_id,
                take.key,
                take.fingerprint,
                take.decision_id,
                take.answer,
                moment,
                quota,
                held,
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
        RETURN json_build_object('outcome', 'taken', 'at', moment, 'quota', quota, 'reservation', held);
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE OR REPLACE FUNCTION authz.transfer_ownership(workspace_id uuid, facts_version bigint, user_id text, former_role text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    former text;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    -- The order is the unique index's: at no time two owners. Nobody sees the time between.
    UPDATE authz.workspace_memberships AS m
    SET role = former_role
    WHERE m.workspace_id = transfer_ownership.workspace_id AND m.role = 'owner'
    RETURNING m.user_id INTO former;
    UPDATE authz.workspace_memberships AS m
    SET role = 'owner'
    WHERE m.workspace_id = transfer_ownership.workspace_id AND m.user_id = transfer_ownership.user_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'user % is not in workspace %', user_id, workspace_id USING ERRCODE = 'AZ010';
    END IF;
    RETURN json_build_array(authz.member_of(workspace_id, user_id), authz.member_of(workspace_id, former));
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.usage_locked(of_workspace uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    meters CONSTANT text[] := ARRAY(
        SELECT t.name FROM authz.meters AS t WHERE t.kind <> 'members'
        UNION
        SELECT u.meter FROM authz.workspace_usage AS u WHERE u.workspace_id = of_workspace
    );
BEGIN
    -- Every counter has its row, so that it can be locked.
    INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
    SELECT of_workspace, m, '-infinity', 0 FROM unnest(meters) AS m ORDER BY m COLLATE "C"
    ON CONFLICT ON CONSTRAINT workspace_usage_pkey DO NOTHING;
    PERFORM authz.counters_locked(of_workspace, meters);
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.void_invitations()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    void authz.workspace_invitations;
BEGIN
    -- Of who is gone, who may not invite any more, or not to such a role. If he gets the right back, they do not.
    FOR void IN
        DELETE FROM authz.workspace_invitations AS i
        USING old_rows AS o
        WHERE i.workspace_id = o.workspace_id
          AND i.invited_by = o.user_id
          AND NOT EXISTS (
              SELECT FROM authz.workspace_memberships AS m
              JOIN authz.action_roles AS a ON a.action = 'members.invite' AND a.role = m.role
              JOIN authz.roles AS his ON his.name = m.role
              JOIN authz.roles AS given ON given.name = i.role AND given.rank <= his.rank
              WHERE m.workspace_id = i.workspace_id AND m.user_id = i.invited_by
          )
        RETURNING i.*
    LOOP
        PERFORM authz.record(void.workspace_id, 'invitation.voided', authz.invitation_document(void));
    END LOOP;
    RETURN NULL;
END;
$function$
;

CREATE OR REPLACE FUNCTION authz.workspace_id_of(workspace text)
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    found_id uuid;
BEGIN
    SELECT w.id INTO found_id
    FROM authz.workspaces AS w
    WHERE (
            w.slug = workspace
            OR w.id = CASE
                WHEN workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
                    THEN workspace::uuid
            END
        )
      AND w.deleted_at IS NULL
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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
 SET search_path TO 'pg_catalog', 'pg_temp'
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
    json_build_object('workspace_id', w.id, 'slug', w.slug, 'name', w.name, 'role', m.role, 'plan', w.plan_tier, 'status', w.status, 'features', override.features, 'limits', override.limits, 'usage', meter.usage, 'periods', meter.periods, 'until', override.until, 'version', w.facts_version, 'at', statement_timestamp()) AS facts
   FROM (((authz.workspace_memberships m
     JOIN authz.workspaces w ON ((w.id = m.workspace_id)))
     CROSS JOIN LATERAL ( SELECT COALESCE(json_object_agg(f.name, f.enabled) FILTER (WHERE (f.kind = 'feature'::text)), '{}'::json) AS features,
            COALESCE(json_object_agg(f.name, f.at_most) FILTER (WHERE (f.kind = 'limit'::text)), '{}'::json) AS limits,
            min(f.expires_at) AS until
           FROM authz.workspace_features f
          WHERE ((f.workspace_id = w.id) AND ((f.expires_at IS NULL) OR (f.expires_at > statement_timestamp())))) override)
     CROSS JOIN LATERAL ( SELECT COALESCE(json_object_agg(t.name, json_build_array(
                CASE
                    WHEN (t.kind = 'members'::text) THEN (w.member_count + ( SELECT count(*) AS count
                       FROM authz.workspace_invitations i
                      WHERE ((i.workspace_id = w.id) AND (i.expires_at > statement_timestamp()))))
                    WHEN (u.period_start >= p.starts) THEN u.used
                    ELSE (0)::bigint
                END,
                CASE
                    WHEN (u.held_until > statement_timestamp()) THEN authz.reserved_of(w.id, t.name, p.starts, statement_timestamp())
                    ELSE (0)::bigint
                END,
                CASE
                    WHEN isfinite(p.ends) THEN p.ends
                    ELSE NULL::timestamp with time zone
                END)), '{}'::json) AS usage,
            COALESCE(json_object_agg(t.name, p.starts), '{}'::json) AS periods
           FROM ((authz.meters t
             LEFT JOIN authz.workspace_usage u ON (((u.workspace_id = w.id) AND (u.meter = t.name))))
             CROSS JOIN LATERAL authz.period_at(t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()) p(starts, ends))) meter);

VIEW authz.members AS
 SELECT m.workspace_id,
    m.user_id,
    m.role,
    r.rank,
    m.joined_at
   FROM (authz.workspace_memberships m
     JOIN authz.roles r ON ((r.name = m.role)));

CREATE TRIGGER on_auth_user_created AFTER INSERT ON authz.users FOR EACH ROW EXECUTE FUNCTION authz.create_default_workspace_for_user();

CREATE TRIGGER on_user_deleted AFTER DELETE ON authz.users REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.forget_deleted_users();

CREATE TRIGGER raise_version AFTER INSERT OR DELETE OR UPDATE ON authz.workspace_features FOR EACH ROW EXECUTE FUNCTION authz.raise_version_of_override();

CREATE TRIGGER record_override AFTER INSERT OR DELETE OR UPDATE ON authz.workspace_features FOR EACH ROW EXECUTE FUNCTION authz.record_override();

CREATE TRIGGER count_members_deleted AFTER DELETE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();

CREATE TRIGGER count_members_inserted AFTER INSERT ON authz.workspace_memberships REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();

CREATE TRIGGER count_members_updated AFTER UPDATE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();

CREATE TRIGGER record_members_deleted AFTER DELETE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.record_members();

CREATE TRIGGER record_members_inserted AFTER INSERT ON authz.workspace_memberships REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.record_members();

CREATE TRIGGER record_members_updated AFTER UPDATE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.record_members();

CREATE TRIGGER void_invitations_deleted AFTER DELETE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.void_invitations();

CREATE TRIGGER void_invitations_updated AFTER UPDATE ON authz.workspace_memberships REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.void_invitations();

CREATE TRIGGER forget_usage AFTER DELETE ON authz.workspaces REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.forget_usage();

CREATE TRIGGER raise_version BEFORE UPDATE OF plan_tier, status ON authz.workspaces FOR EACH ROW WHEN (((old.plan_tier IS DISTINCT FROM new.plan_tier) OR (old.status IS DISTINCT FROM new.status))) EXECUTE FUNCTION authz.raise_version_of_workspace();

CREATE TRIGGER record_workspace_inserted AFTER INSERT OR DELETE ON authz.workspaces FOR EACH ROW EXECUTE FUNCTION authz.record_workspace();

CREATE TRIGGER record_workspace_updated AFTER UPDATE OF name, plan_tier, status, deleted_at ON authz.workspaces FOR EACH ROW EXECUTE FUNCTION authz.record_workspace();

GRANT EXECUTE ON FUNCTION authz.accept_invitation(uuid,bigint,text,text,text,text[],bigint[]) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.acting_as(text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.catalog_in_use() TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.catalog_revision() TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.change_role(uuid,bigint,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.claimed_workspace() TO authz_app;

GRANT EXECUTE ON FUNCTION authz.commit_reservation(text,jsonb) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.consume(uuid,bigint,bigint,timestamp with time zone,timestamp with time zone,timestamp with time zone,text,text,text,bigint,text,text,text,text,json) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.create_workspace(uuid,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.delete_workspace(uuid,bigint) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.enter(text,text) TO authz_app;

GRANT EXECUTE ON FUNCTION authz.enter(text,uuid) TO authz_app;

GRANT EXECUTE ON FUNCTION authz.entered_workspace() TO authz_app;

GRANT EXECUTE ON FUNCTION authz.facts(text[],text[]) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.get_user_workspaces(text) TO authz_app;

GRANT EXECUTE ON FUNCTION authz.get_user_workspaces(text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.get_workspace_role(text,uuid) TO authz_app;

GRANT EXECUTE ON FUNCTION authz.get_workspace_role(text,uuid) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.has_feature_access(uuid,text) TO authz_app;

GRANT EXECUTE ON FUNCTION authz.has_feature_access(uuid,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.invitation_by_token(text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.invitations_of(uuid,text,integer) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.invite(uuid,bigint,uuid,text,text,text,text,text[],bigint[]) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.is_invited(uuid,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.is_workspace_member(text,uuid) TO authz_app;

GRANT EXECUTE ON FUNCTION authz.is_workspace_member(text,uuid) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.member_of(uuid,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.members_of(text,text,integer) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.people_of(uuid,text,integer) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.refund(text,text,jsonb) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.release_reservation(text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.release_resource(text,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.remove_member(uuid,bigint,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.rename_workspace(uuid,bigint,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.repeated(uuid,text[],text,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.revoke_invitation(uuid,bigint,uuid) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.see_user(text,text,boolean) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_overrides(text,jsonb,jsonb,timestamp with time zone,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_plan(text,text,timestamp with time zone) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.set_status(text,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.take(uuid,bigint,text,text,text[],bigint[],bigint[],text,text,text,integer,text,text,text,json) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.transfer_ownership(uuid,bigint,text,text) TO authz_sidecar;

GRANT EXECUTE ON FUNCTION authz.workspaces_of(text,text,integer) TO authz_sidecar;
