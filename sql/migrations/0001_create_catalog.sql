-- What plans.yaml says, as tables: so that a plan that a workspace holds cannot vanish, and so that SQL can
-- answer what Rego answers. `sidecar migrate` replaces their contents in one transaction with the revision.

DO $$
BEGIN
    -- A role belongs to the whole server: another database of it may have made this one already.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authz_sidecar') THEN
        CREATE ROLE authz_sidecar NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- made by the migration of another database a moment ago
END;
$$;

REVOKE ALL ON SCHEMA authz FROM PUBLIC;
GRANT USAGE ON SCHEMA authz TO authz_sidecar;

CREATE TABLE authz.roles (
    name text COLLATE "C" NOT NULL,
    rank integer NOT NULL, -- least first
    CONSTRAINT roles_pkey PRIMARY KEY (name)
);

CREATE TABLE authz.features (
    name text COLLATE "C" NOT NULL,
    CONSTRAINT features_pkey PRIMARY KEY (name)
);

CREATE TABLE authz.meters (
    name text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    per text, -- of a counter alone
    anchor text NOT NULL,
    CONSTRAINT meters_pkey PRIMARY KEY (name),
    CONSTRAINT meters_kind_check CHECK (kind IN ('counter', 'level', 'members')),
    CONSTRAINT meters_per_check CHECK (per IN ('month', 'day', 'ever')),
    CONSTRAINT meters_kind_per_check CHECK ((kind = 'counter') = (per IS NOT NULL)),
    CONSTRAINT meters_anchor_check CHECK (anchor IN ('calendar', 'subscription'))
);
COMMENT ON TABLE authz.meters IS
    'A meter that the catalog no longer has stays: workers of the revision before still ask for it.';

CREATE TABLE authz.plans (
    name text COLLATE "C" NOT NULL,
    rank integer NOT NULL, -- cheapest first
    CONSTRAINT plans_pkey PRIMARY KEY (name)
);

CREATE TABLE authz.plan_features (
    plan text COLLATE "C" NOT NULL,
    feature text COLLATE "C" NOT NULL,
    CONSTRAINT plan_features_pkey PRIMARY KEY (plan, feature),
    CONSTRAINT plan_features_plan_fkey FOREIGN KEY (plan) REFERENCES authz.plans (name) ON DELETE CASCADE,
    CONSTRAINT plan_features_feature_fkey FOREIGN KEY (feature) REFERENCES authz.features (name) ON DELETE CASCADE
);

CREATE TABLE authz.plan_limits (
    plan text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    at_most bigint, -- NULL is unlimited; a missing row is no right at all
    CONSTRAINT plan_limits_pkey PRIMARY KEY (plan, meter),
    CONSTRAINT plan_limits_plan_fkey FOREIGN KEY (plan) REFERENCES authz.plans (name) ON DELETE CASCADE,
    CONSTRAINT plan_limits_meter_fkey FOREIGN KEY (meter) REFERENCES authz.meters (name),
    CONSTRAINT plan_limits_at_most_check CHECK (at_most >= 0)
);

CREATE TABLE authz.catalog (
    only_row boolean NOT NULL DEFAULT true,
    revision text NOT NULL,
    default_plan text COLLATE "C" NOT NULL, -- of a workspace that a signup makes
    published_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT catalog_pkey PRIMARY KEY (only_row),
    CONSTRAINT catalog_only_row_check CHECK (only_row),
    CONSTRAINT catalog_default_plan_fkey FOREIGN KEY (default_plan) REFERENCES authz.plans (name)
);
COMMENT ON TABLE authz.catalog IS 'One row: the policy revision that the plan tables were published with.';

CREATE FUNCTION authz.catalog_revision()
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
BEGIN ATOMIC
    SELECT revision FROM authz.catalog;
END;
COMMENT ON FUNCTION authz.catalog_revision IS 'NULL until a catalog was published.';
REVOKE ALL ON FUNCTION authz.catalog_revision FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.catalog_revision TO authz_sidecar;
