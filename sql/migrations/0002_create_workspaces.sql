-- Who is where: workspaces, their members, what sales agreed with them beyond their plan, what they have used.

CREATE FUNCTION authz.is_slug(candidate text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN candidate ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
    AND candidate !~ '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$';
COMMENT ON FUNCTION authz.is_slug IS 'A slug fits into a host name and is never to be mistaken for a UUID.';
REVOKE ALL ON FUNCTION authz.is_slug FROM PUBLIC;

CREATE TABLE authz.workspaces (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    slug text COLLATE "C" NOT NULL,
    name text NOT NULL,
    plan_tier text COLLATE "C" NOT NULL,
    plan_as_of timestamptz, -- of the last set_plan; NULL: none yet, so that any date is new
    status text NOT NULL DEFAULT 'active',
    status_reason text,
    subscribed_at timestamptz NOT NULL DEFAULT now(), -- anniversary periods are counted from here
    member_count bigint NOT NULL DEFAULT 0, -- kept by the triggers on memberships
    facts_version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspaces_pkey PRIMARY KEY (id),
    CONSTRAINT workspaces_id_check CHECK (id <> '00000000-0000-0000-0000-000000000000'), -- stands for none
    CONSTRAINT workspaces_slug_key UNIQUE (slug), -- for facts by slug, and for pages in its order
    CONSTRAINT workspaces_slug_check CHECK (authz.is_slug(slug)),
    CONSTRAINT workspaces_name_check CHECK (length(name) BETWEEN 1 AND 256),
    CONSTRAINT workspaces_plan_tier_fkey FOREIGN KEY (plan_tier) REFERENCES authz.plans (name),
    CONSTRAINT workspaces_status_check CHECK (status IN ('active', 'suspended')),
    CONSTRAINT workspaces_member_count_check CHECK (member_count >= 0)
);
CREATE INDEX workspaces_plan_tier_idx ON authz.workspaces (plan_tier); -- for a plan that is to vanish
COMMENT ON COLUMN authz.workspaces.facts_version IS
    'Rises with every change of membership, plan, status or override: what was decided by an older one is stale.';

CREATE TABLE authz.workspace_memberships (
    workspace_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL, -- the identity provider's `sub`
    role text COLLATE "C" NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspace_memberships_pkey PRIMARY KEY (workspace_id, user_id),
    CONSTRAINT workspace_memberships_workspace_id_fkey
        FOREIGN KEY (workspace_id) REFERENCES authz.workspaces (id) ON DELETE CASCADE,
    CONSTRAINT workspace_memberships_user_id_check CHECK (length(user_id) BETWEEN 1 AND 256),
    CONSTRAINT workspace_memberships_role_check CHECK (length(role) BETWEEN 1 AND 256)
);
-- for the workspaces of a user
CREATE INDEX workspace_memberships_user_id_idx ON authz.workspace_memberships (user_id, workspace_id);
-- at most one owner; that there is one is the business of those who move ownership
CREATE UNIQUE INDEX workspace_memberships_owner_key ON authz.workspace_memberships (workspace_id)
    WHERE role = 'owner';
COMMENT ON COLUMN authz.workspace_memberships.role IS
    'Not a foreign key: a role that the catalog no longer declares makes no member, and comes back with it.';

CREATE TABLE authz.workspace_features (
    workspace_id uuid NOT NULL,
    kind text NOT NULL,
    name text COLLATE "C" NOT NULL, -- of the feature, or of the meter
    enabled boolean, -- of a feature
    at_most bigint, -- of a limit; NULL is unlimited
    expires_at timestamptz,
    reason text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspace_features_pkey PRIMARY KEY (workspace_id, kind, name),
    CONSTRAINT workspace_features_workspace_id_fkey
        FOREIGN KEY (workspace_id) REFERENCES authz.workspaces (id) ON DELETE CASCADE,
    CONSTRAINT workspace_features_kind_check CHECK (kind IN ('feature', 'limit')),
    CONSTRAINT workspace_features_enabled_check CHECK ((kind = 'feature') = (enabled IS NOT NULL)),
    CONSTRAINT workspace_features_at_most_check CHECK (at_most >= 0 AND kind = 'limit' OR at_most IS NULL)
);
COMMENT ON TABLE authz.workspace_features IS
    'What a workspace has instead of what its plan says, until it expires. An override replaces, it never adds.';

CREATE TABLE authz.workspace_usage (
    workspace_id uuid NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL, -- '-infinity' where nothing resets
    used bigint NOT NULL,
    CONSTRAINT workspace_usage_pkey PRIMARY KEY (workspace_id, meter),
    CONSTRAINT workspace_usage_workspace_id_fkey
        FOREIGN KEY (workspace_id) REFERENCES authz.workspaces (id) ON DELETE CASCADE,
    CONSTRAINT workspace_usage_used_check CHECK (used >= 0) -- above the limit is legal after a downgrade
) WITH (fillfactor = 70); -- room for updates in place
COMMENT ON TABLE authz.workspace_usage IS 'One row a meter, of its last period: a row of an older one counts 0.';

CREATE FUNCTION authz.count_members()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
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
$$;
REVOKE ALL ON FUNCTION authz.count_members FROM PUBLIC;

CREATE TRIGGER count_members_inserted AFTER INSERT ON authz.workspace_memberships
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();
CREATE TRIGGER count_members_updated AFTER UPDATE ON authz.workspace_memberships
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();
CREATE TRIGGER count_members_deleted AFTER DELETE ON authz.workspace_memberships
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.count_members();

CREATE FUNCTION authz.raise_version_of_workspace()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    NEW.facts_version := OLD.facts_version + 1;
    RETURN NEW;
END;
$$;
REVOKE ALL ON FUNCTION authz.raise_version_of_workspace FROM PUBLIC;

CREATE TRIGGER raise_version BEFORE UPDATE OF plan_tier, status ON authz.workspaces
    FOR EACH ROW
    WHEN ((OLD.plan_tier, OLD.status) IS DISTINCT FROM (NEW.plan_tier, NEW.status))
    EXECUTE FUNCTION authz.raise_version_of_workspace();

CREATE FUNCTION authz.raise_version_of_override()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    UPDATE authz.workspaces AS w SET facts_version = w.facts_version + 1
    WHERE w.id = COALESCE(NEW.workspace_id, OLD.workspace_id);
    RETURN NULL;
END;
$$;
REVOKE ALL ON FUNCTION authz.raise_version_of_override FROM PUBLIC;

CREATE TRIGGER raise_version AFTER INSERT OR UPDATE OR DELETE ON authz.workspace_features
    FOR EACH ROW EXECUTE FUNCTION authz.raise_version_of_override();
