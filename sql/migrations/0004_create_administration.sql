-- What an administrator may do to a workspace: sell it another plan, agree on something beyond it, suspend it.
-- Errors that a caller must tell apart: AZ001 no such workspace, AZ002 no such plan, 22023 anything that makes no
-- sense, in words for whoever sent it.

CREATE FUNCTION authz.workspace_locked(workspace text)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
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
$$;
COMMENT ON FUNCTION authz.workspace_locked IS 'By UUID or slug; whoever changes a workspace waits here.';
REVOKE ALL ON FUNCTION authz.workspace_locked FROM PUBLIC;

CREATE FUNCTION authz.workspace_state(workspace_id uuid, applied boolean)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
AS $$
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
$$;
REVOKE ALL ON FUNCTION authz.workspace_state FROM PUBLIC;

CREATE FUNCTION authz.set_plan(workspace text, plan text, as_of timestamptz DEFAULT NULL)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
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
$$;
COMMENT ON FUNCTION authz.set_plan IS
    'Ignored, and says so, if *as_of* is older than that of the plan the workspace has; no date means now.';
REVOKE ALL ON FUNCTION authz.set_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.set_plan TO authz_sidecar;

CREATE FUNCTION authz.set_overrides(
    workspace text,
    features jsonb DEFAULT '{}',
    limits jsonb DEFAULT '{}',
    expires_at timestamptz DEFAULT NULL,
    reason text DEFAULT NULL
)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
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
$$;
COMMENT ON FUNCTION authz.set_overrides IS
    'Merges: what is not named stays, null removes, "unlimited" is a limit; *expires_at* is of what this call sets.';
REVOKE ALL ON FUNCTION authz.set_overrides FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.set_overrides TO authz_sidecar;

CREATE FUNCTION authz.set_status(workspace text, status text, reason text DEFAULT NULL)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
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
$$;
REVOKE ALL ON FUNCTION authz.set_status FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.set_status TO authz_sidecar;
