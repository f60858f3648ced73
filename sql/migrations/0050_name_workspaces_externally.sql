-- A workspace may be named by the id that the application has for it, and administrators find it by what they know.

ALTER TABLE authz.workspaces
    ADD COLUMN external_id text COLLATE "C",
    ADD CONSTRAINT workspaces_external_id_key UNIQUE (external_id),
    ADD CONSTRAINT workspaces_external_id_check CHECK (external_id ~ '^[A-Za-z0-9._:@-]{1,200}$');
COMMENT ON COLUMN authz.workspaces.external_id IS
'The id that the application has for it: wherever a workspace is named, ext: and this id name it. NULL: none was set.';
COMMENT ON CONSTRAINT workspaces_external_id_key ON authz.workspaces IS
'An id names one workspace. Its index finds a workspace by it.';
COMMENT ON CONSTRAINT workspaces_external_id_check ON authz.workspaces IS
'1 to 200 letters, digits and . _ : @ -, so that it needs no escape in a path.';
CREATE INDEX workspaces_name_idx ON authz.workspaces (lower(name) text_pattern_ops);
COMMENT ON INDEX authz.workspaces_name_idx IS 'Finds the workspaces whose names begin with a text.';
CREATE INDEX users_email_idx ON authz.users (authz.email_key(email));
COMMENT ON INDEX authz.users_email_idx IS 'Finds the users of an e-mail address, for administrators.';

CREATE OR REPLACE FUNCTION authz.workspace_id_of(workspace text)
RETURNS uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT w.id
    FROM authz.workspaces AS w
    WHERE w.slug = workspace_id_of.workspace
       OR w.id = CASE
           WHEN workspace_id_of.workspace
               ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
               THEN workspace_id_of.workspace::uuid
       END
       OR w.external_id = CASE
           WHEN workspace_id_of.workspace LIKE 'ext:%' THEN substr(workspace_id_of.workspace, 5)
       END;
END;
COMMENT ON FUNCTION authz.workspace_id_of IS 'Finds a workspace, deleted ones too, without a lock.
- workspace: its UUID, its slug, or ext: and its external_id.
Returns: its id; NULL if there is none.
Called by: authz.enter, authz.refund, authz.release_resource, authz.workspace_locked,
authz.put_subscription and authz.workspace_known.';

CREATE OR REPLACE FUNCTION authz.workspace_locked(workspace text)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named CONSTANT uuid := authz.workspace_id_of(workspace);
    found_id uuid;
BEGIN
    SELECT w.id INTO found_id
    FROM authz.workspaces AS w
    WHERE w.id = named AND w.deleted_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'workspace "%" does not exist', workspace USING ERRCODE = 'AZ001';
    END IF;
    RETURN found_id;
END;
$$;
COMMENT ON FUNCTION authz.workspace_locked IS
'Finds a workspace that is not deleted and locks its row (FOR NO KEY UPDATE) until the transaction ends.
- workspace: its UUID, its slug, or ext: and its external_id.
Returns: its id.
Raises: AZ001 if there is none.
Called by: authz.set_plan, authz.set_overrides, authz.set_status and authz.patch_workspace.';

CREATE OR REPLACE FUNCTION authz.facts(users text[], workspaces text[])
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- One plan, made once a session, by index whatever the statistics say: a plan made while a table was small
-- must not scan it when it has grown.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
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
                      (
                          SELECT w.id FROM authz.workspaces AS w
                          WHERE w.external_id = CASE
                              WHEN question.workspace LIKE 'ext:%' THEN substr(question.workspace, 5)
                          END
                      ),
                      '00000000-0000-0000-0000-000000000000'
                  )
              END
        ) AS known ON true
    );
END;
$$;

CREATE OR REPLACE FUNCTION authz.members_of(workspace text, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- As authz.facts: by index, whatever the statistics say.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    known CONSTANT uuid := CASE
        WHEN workspace ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
            THEN workspace::uuid
        WHEN workspace LIKE 'ext:%' THEN (
            SELECT w.id FROM authz.workspaces AS w WHERE w.external_id = substr(workspace, 5)
        )
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
$$;

CREATE OR REPLACE VIEW authz.workspaces_now AS
SELECT
    w.id,
    w.slug,
    w.name,
    authz.plan_at(w.plan_tier, w.turns_at, w.turns, statement_timestamp()) AS plan_tier,
    authz.status_at(w.status, w.turns_at, w.turns, statement_timestamp()) AS status,
    w.status_reason,
    authz.seats_at(w.seats, w.turns_at, w.turns, statement_timestamp()) AS seats,
    authz.turn_after(w.turns_at, w.turns, statement_timestamp()) AS turns_at,
    w.plan_as_of,
    w.status_as_of,
    w.subscribed_at,
    w.member_count,
    w.facts_version,
    w.created_at,
    w.deleted_at,
    w.external_id
FROM authz.workspaces AS w;
COMMENT ON COLUMN authz.workspaces_now.external_id IS 'The id that the application has for it. NULL: none.';

CREATE FUNCTION authz.without_external_ids(workspaces text[])
RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY(
        SELECT COALESCE(
            (
                SELECT w.id::text FROM authz.workspaces AS w
                WHERE w.external_id = CASE WHEN q.workspace LIKE 'ext:%' THEN substr(q.workspace, 5) END
            ),
            q.workspace
        )
        FROM unnest(workspaces) WITH ORDINALITY AS q (workspace, number)
        ORDER BY q.number
    );
END;
$$;
COMMENT ON FUNCTION authz.without_external_ids IS 'Names of workspaces, with UUIDs in the place of external ids.
- workspaces: UUIDs, slugs, or ext: and external ids.
Returns: them in their order; what names nothing stays as it is.
Called by: authz.facts_for.';
REVOKE ALL ON FUNCTION authz.without_external_ids FROM PUBLIC;

CREATE OR REPLACE FUNCTION authz.facts_for(users text[], workspaces text[], meters text[])
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- As authz.facts: one plan, by index, whatever the statistics say. Each setting costs 0.1 µs a call.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    every text;
    found json;
    has_turned boolean;
BEGIN
    IF cardinality(users) IS DISTINCT FROM cardinality(meters) THEN
        RAISE EXCEPTION 'meters: one text for each of % users expected, got %',
            cardinality(users), cardinality(meters)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF array_to_string(workspaces, ' ') LIKE '%ext:%' THEN
        workspaces := authz.without_external_ids(workspaces);
    END IF;
    -- Two queries: PostgreSQL sets up the part about meters even if no question needs it, and that takes as long as
    -- all the rest of one question.
    IF '' = ALL (meters) THEN
        SELECT
            COALESCE(json_agg(
                CASE WHEN a.role IS NOT NULL THEN (
                    SELECT json_build_array(
                        a.workspace_id, a.slug, a.name, a.role, a.plan, a.status, o.features, o.limits,
                        '{}'::json,
                        LEAST(o.until, a.turns_at), a.version, statement_timestamp()
                    )
                    FROM authz.overrides_of(a.workspace_id, '') AS o
                ) END ORDER BY a.number
            ), '[]'),
            bool_or(a.turns_at <= statement_timestamp())
        INTO found, has_turned
        FROM authz.asked(users, workspaces, meters) AS a;
        RETURN CASE WHEN has_turned THEN authz.turned(found) ELSE found END;
    END IF;
    IF array_position(meters, NULL) IS NOT NULL THEN
        every := (SELECT string_agg(t.name, ',') FROM authz.meters AS t);
    END IF;
    SELECT
        COALESCE(json_agg(
            CASE WHEN a.role IS NOT NULL THEN (
                SELECT json_build_array(
                    a.workspace_id, a.slug, a.name, a.role, a.plan, a.status, o.features, o.limits,
                    COALESCE(counter.usage, '{}'), LEAST(o.until, a.turns_at), a.version, statement_timestamp(),
                    counter.frees, CASE WHEN a.seats IS NOT NULL THEN authz.seats_of(a.seats) END
                )
                FROM authz.overrides_of(a.workspace_id, a.wanted) AS o
                CROSS JOIN LATERAL (
                    SELECT
                        json_object_agg(t.name, CASE
                            WHEN t.kind = 'owned'
                                THEN authz.owned_usage(users[a.number::integer], a.workspace_id, t.name)
                            ELSE json_build_array(
                                CASE
                                    WHEN t.kind = 'members' THEN a.member_count + (
                                        SELECT count(*)
                                        FROM authz.workspace_invitations AS i
                                        WHERE i.workspace_id = a.workspace_id AND i.expires_at > statement_timestamp()
                                    )
                                    -- A later period than ours: the clock went back. What was used is used.
                                    WHEN u.period_start >= p.starts THEN u.used
                                    ELSE 0
                                END,
                                CASE
                                    WHEN u.held_until > statement_timestamp() THEN authz.reserved_of(
                                        a.workspace_id, t.name, p.starts, statement_timestamp()
                                    )
                                    ELSE 0
                                END,
                                CASE WHEN isfinite(p.ends) THEN p.ends END,
                                p.starts
                            )
                        END) AS usage,
                        json_object_agg(
                            t.name, authz.frees_at(a.workspace_id, t.name, p.starts, statement_timestamp())
                        ) FILTER (WHERE u.held_until > statement_timestamp()) AS frees
                    FROM authz.meters AS t
                    LEFT JOIN authz.workspace_usage AS u
                        ON u.workspace_id = a.workspace_id AND u.meter = t.name
                    CROSS JOIN LATERAL authz.period_at(
                        t.per, authz.anchor_of(t.anchor, a.subscribed_at), statement_timestamp()
                    ) AS p
                    WHERE t.name = ANY (string_to_array(COALESCE(a.wanted, every), ','))
                ) AS counter
            ) END ORDER BY a.number
        ), '[]'),
        bool_or(a.turns_at <= statement_timestamp())
    INTO found, has_turned
    FROM authz.asked(users, workspaces, meters) AS a;
    RETURN CASE WHEN has_turned THEN authz.turned(found) ELSE found END;
END;
$$;

CREATE OR REPLACE FUNCTION authz.record_workspace()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    others jsonb;
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM authz.record(OLD.id, 'workspace.purged', jsonb_build_object('slug', OLD.slug));
    END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        PERFORM authz.record(NEW.id, 'workspace.created', authz.workspace_document(NEW));
        IF NEW.deleted_at IS NOT NULL THEN
            PERFORM authz.record(
                NEW.id,
                'workspace.deleted',
                jsonb_build_object('slug', NEW.slug, 'name', NEW.name, 'members', '[]'::jsonb)
            );
        END IF;
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN NULL;
    END IF;

    IF NEW.slug <> OLD.slug THEN
        PERFORM authz.record(NEW.id, 'workspace.slug_changed', jsonb_build_object('from', OLD.slug, 'to', NEW.slug));
    END IF;
    IF NEW.name <> OLD.name THEN
        PERFORM authz.record(NEW.id, 'workspace.renamed', jsonb_build_object('from', OLD.name, 'to', NEW.name));
    END IF;
    IF NEW.plan_tier <> OLD.plan_tier THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.plan_changed',
            jsonb_build_object('from', OLD.plan_tier, 'to', NEW.plan_tier, 'as_of', CASE
                -- Where a subscription speaks, its own row tells since when.
                WHEN NEW.given_plan IS NULL OR NEW.plan_as_of IS DISTINCT FROM OLD.plan_as_of THEN NEW.plan_as_of
            END)
        );
    END IF;
    IF NEW.subscribed_at <> OLD.subscribed_at THEN
        PERFORM authz.record(NEW.id, 'workspace.anchor_changed', jsonb_build_object(
            'from', OLD.subscribed_at, 'to', NEW.subscribed_at
        ));
    END IF;
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.deleted', jsonb_build_object(
            'slug', NEW.slug,
            'name', NEW.name,
            -- They go with it, and are not recorded one by one; after a deletion by hand they are.
            'members', CASE current_setting('authz.deleting', true)
                WHEN 'on' THEN NEW.members_before
                ELSE '[]'::jsonb
            END
        ));
    ELSIF NEW.deleted_at IS NULL AND OLD.deleted_at IS NOT NULL THEN
        PERFORM authz.record(NEW.id, 'workspace.restored', jsonb_build_object('slug', NEW.slug));
    END IF;
    IF NEW.status <> OLD.status THEN
        PERFORM authz.record(
            NEW.id,
            'workspace.status_changed',
            jsonb_build_object('from', OLD.status, 'to', NEW.status, 'reason', NEW.status_reason)
        );
    END IF;
    IF authz.billing_document(NEW.seats, NEW.turns) IS DISTINCT FROM authz.billing_document(OLD.seats, OLD.turns) THEN
        PERFORM authz.record(NEW.id, 'workspace.billing_changed', jsonb_build_object(
            'from', authz.billing_document(OLD.seats, OLD.turns), 'to', authz.billing_document(NEW.seats, NEW.turns)
        ));
    END IF;
    others := '{}';
    IF NEW.status = OLD.status AND NEW.status_reason IS DISTINCT FROM OLD.status_reason THEN
        others := others || jsonb_build_object('reason', jsonb_build_object(
            'from', OLD.status_reason, 'to', NEW.status_reason
        ));
    END IF;
    IF NEW.external_id IS DISTINCT FROM OLD.external_id THEN
        others := others || jsonb_build_object('external_id', jsonb_build_object(
            'from', OLD.external_id, 'to', NEW.external_id
        ));
    END IF;
    IF NEW.created_at <> OLD.created_at THEN
        others := others || jsonb_build_object('created_at', jsonb_build_object(
            'from', OLD.created_at, 'to', NEW.created_at
        ));
    END IF;
    IF others <> '{}' THEN
        PERFORM authz.record(NEW.id, 'workspace.changed', others);
    END IF;
    RETURN NULL;
END;
$$;

DROP TRIGGER record_workspace_updated ON authz.workspaces;
CREATE TRIGGER record_workspace_updated
    AFTER UPDATE OF id, slug, name, plan_tier, status, status_reason, seats, turns, subscribed_at, created_at,
        deleted_at, external_id
    ON authz.workspaces
    FOR EACH ROW EXECUTE FUNCTION authz.record_workspace();
COMMENT ON TRIGGER record_workspace_updated ON authz.workspaces IS
'Records what changes of a workspace, but for what is counted and when the plan was set.';

CREATE FUNCTION authz.workspace_known(workspace text)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known CONSTANT uuid := authz.workspace_id_of(workspace);
BEGIN
    RETURN (
        SELECT authz.workspace_state(w.id, true)::jsonb || jsonb_build_object(
            'name', w.name,
            'external_id', w.external_id,
            'created_at', w.created_at,
            'members', (
                SELECT COALESCE(json_agg(authz.member_document(m) ORDER BY m.user_id), '[]')
                FROM authz.workspace_memberships AS m
                WHERE m.workspace_id = w.id
            )
        )
        FROM authz.workspaces AS w
        WHERE w.id = known AND w.deleted_at IS NULL
    );
END;
$$;
COMMENT ON FUNCTION authz.workspace_known IS 'A workspace as administrators know it.
- workspace: its UUID, its slug, or ext: and its external_id.
Returns: authz.workspace_state, and name, external_id, created_at and members (a list of authz.member_document, by user);
NULL if there is no such workspace.
Called by: authz_sidecar, to show a workspace; authz.patch_workspace.';
REVOKE ALL ON FUNCTION authz.workspace_known FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.workspace_known TO authz_sidecar;

CREATE FUNCTION authz.patch_workspace(workspace text, external_id text)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    locked_id CONSTANT uuid := authz.workspace_locked(workspace);
BEGIN
    PERFORM authz.advance(locked_id, clock_timestamp());
    BEGIN
        UPDATE authz.workspaces AS w SET external_id = patch_workspace.external_id WHERE w.id = locked_id;
    EXCEPTION
        WHEN unique_violation THEN
            RAISE EXCEPTION 'external_id "%" is that of another workspace', external_id USING ERRCODE = 'AZ006';
        WHEN check_violation THEN
            RAISE EXCEPTION 'external_id is 1 to 200 letters, digits and . _ : @ -, not "%"', external_id
                USING ERRCODE = '22023';
    END;
    RETURN authz.workspace_known(locked_id::text);
END;
$$;
COMMENT ON FUNCTION authz.patch_workspace IS 'Sets the id that the application has for a workspace.
- workspace: its UUID, its slug, or ext: and its external_id.
- external_id: the id; NULL removes it.
Returns: as authz.workspace_known.
Raises: AZ001 if there is no such workspace; AZ006 if another one has the id, a deleted one too; 22023 if it is none.
Called by: authz_sidecar, to set an external id.';
REVOKE ALL ON FUNCTION authz.patch_workspace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.patch_workspace TO authz_sidecar;

CREATE FUNCTION authz.find_workspaces(plan text, status text, q text, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named CONSTANT uuid := authz.workspace_id_of(q);
    beginning CONSTANT text := replace(replace(replace(q, '\', '\\'), '%', '\%'), '_', '\_') || '%';
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(json_build_object(
            'id', page.id,
            'slug', page.slug,
            'name', page.name,
            'external_id', page.external_id,
            'plan', page.plan_tier,
            'status', page.status
        ) ORDER BY page.slug), '[]')
        FROM (
            SELECT w.*
            FROM authz.workspaces_now AS w
            WHERE w.deleted_at IS NULL
              AND (find_workspaces.after IS NULL OR w.slug > find_workspaces.after)
              AND (find_workspaces.plan IS NULL OR w.plan_tier = find_workspaces.plan)
              AND (find_workspaces.status IS NULL OR w.status = find_workspaces.status)
              AND (q IS NULL OR w.id IN (
                  SELECT named
                  UNION ALL
                  SELECT n.id FROM authz.workspaces AS n WHERE n.slug LIKE lower(beginning)
                  UNION ALL
                  SELECT n.id FROM authz.workspaces AS n WHERE lower(n.name) LIKE lower(beginning)
                  UNION ALL
                  SELECT m.workspace_id FROM authz.workspace_memberships AS m
                  WHERE m.user_id = q
                  UNION ALL
                  SELECT m.workspace_id
                  FROM authz.users AS u
                  JOIN authz.workspace_memberships AS m ON m.user_id = u.id
                  WHERE authz.email_key(u.email) = authz.email_key(q)
              ))
            ORDER BY w.slug
            LIMIT find_workspaces.at_most
        ) AS page
    );
END;
$$;
COMMENT ON FUNCTION authz.find_workspaces IS
'A page of workspaces that are not deleted, in the order of their slugs.
- plan: that have this plan now; NULL: any.
- status: that have this status now; NULL: any.
- q: whose UUID, slug or ext: and external_id it is, of which this user or e-mail address is a member, or whose slug or name
begins with it; NULL: all.
- after: the last slug of the page before; NULL: from the beginning.
- at_most: how many workspaces.
Returns: a list of {id, slug, name, external_id, plan, status}; empty if there are no more.
Called by: authz_sidecar, to list workspaces for administrators.';
REVOKE ALL ON FUNCTION authz.find_workspaces FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.find_workspaces TO authz_sidecar;
