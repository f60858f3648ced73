-- Comments for psql's \d+ and \df+: of the schema and of the tables that plans.yaml fills.

COMMENT ON SCHEMA authz IS
'Workspaces, members, plans and quota of the policy sidecar, and the functions that read and change them.
Access: the owner (runs sidecar migrate, load, recount and tidy) may do everything. The groups authz_sidecar (the
sidecar) and authz_app (an application that asks from SQL) may execute the functions granted to them and touch no
table. PUBLIC may do nothing.
Times are timestamptz; calendar months and days are those of UTC.';

COMMENT ON TABLE authz.migrations IS
'The migrations that were applied. Written by sidecar migrate alone, which refuses a file that changed afterwards.';
COMMENT ON COLUMN authz.migrations.number IS 'The number that the file''s name begins with, from 1 without a gap.';
COMMENT ON COLUMN authz.migrations.name IS 'The file''s name without .sql.';
COMMENT ON COLUMN authz.migrations.checksum IS 'SHA-256 of the file''s text, in hexadecimal.';
COMMENT ON COLUMN authz.migrations.applied_at IS 'When it was applied.';
COMMENT ON CONSTRAINT migrations_pkey ON authz.migrations IS 'A migration is applied once.';

COMMENT ON TABLE authz.roles IS
'The roles that plans.yaml declares. A membership in any other role makes no member (view authz.members).';
COMMENT ON COLUMN authz.roles.name IS
'The role, for example admin. The role owner, if declared, has one holder in each workspace.';
COMMENT ON COLUMN authz.roles.rank IS 'From 1, the least senior role, upwards.';
COMMENT ON CONSTRAINT roles_pkey ON authz.roles IS 'One row for each role.';

COMMENT ON TABLE authz.action_roles IS
'Which roles may perform which action, as plans.yaml declares. Read by authz.void_invitations; decisions are made by
the policies, not by this table.';
COMMENT ON COLUMN authz.action_roles.action IS 'The action, for example members.invite.';
COMMENT ON COLUMN authz.action_roles.role IS 'A role that may perform it, named as in authz.roles.';
COMMENT ON CONSTRAINT action_roles_pkey ON authz.action_roles IS 'One row for each action and role.';

COMMENT ON TABLE authz.features IS 'The features that plans.yaml declares.';
COMMENT ON COLUMN authz.features.name IS 'The feature, for example analytics.';
COMMENT ON CONSTRAINT features_pkey ON authz.features IS 'One row for each feature.';

COMMENT ON TABLE authz.meters IS
'What is counted, as plans.yaml declares it. A meter that a new catalog drops stays here: workers that still run the
catalog before ask for it.';
COMMENT ON COLUMN authz.meters.name IS 'The meter, for example minutes.';
COMMENT ON COLUMN authz.meters.kind IS
'counter: use within a period, which restarts at 0. level: things that exist and can be deleted. members:
memberships and open invitations, which the database counts itself.';
COMMENT ON COLUMN authz.meters.per IS
'How long a period of a counter is: month, day (both of UTC), or ever (it never restarts). NULL for the other kinds.';
COMMENT ON COLUMN authz.meters.anchor IS
'Where months begin: calendar (the first of the month, 00:00 UTC) or subscription (workspaces.subscribed_at).';
COMMENT ON CONSTRAINT meters_pkey ON authz.meters IS 'One row for each meter.';
COMMENT ON CONSTRAINT meters_kind_check ON authz.meters IS 'The kinds of meters.';
COMMENT ON CONSTRAINT meters_per_check ON authz.meters IS 'The lengths of periods.';
COMMENT ON CONSTRAINT meters_kind_per_check ON authz.meters IS 'A counter has a period, and no other kind has.';
COMMENT ON CONSTRAINT meters_anchor_check ON authz.meters IS 'The anchors of periods.';

COMMENT ON TABLE authz.plans IS 'The plans that plans.yaml declares. A plan that a workspace has cannot be removed.';
COMMENT ON COLUMN authz.plans.name IS 'The plan, for example team.';
COMMENT ON COLUMN authz.plans.rank IS 'From 1, the cheapest plan, upwards.';
COMMENT ON CONSTRAINT plans_pkey ON authz.plans IS 'One row for each plan.';

COMMENT ON TABLE authz.plan_features IS 'The features that each plan includes.';
COMMENT ON COLUMN authz.plan_features.plan IS 'The plan.';
COMMENT ON COLUMN authz.plan_features.feature IS 'A feature that it includes.';
COMMENT ON CONSTRAINT plan_features_pkey ON authz.plan_features IS 'One row for each plan and feature.';
COMMENT ON CONSTRAINT plan_features_plan_fkey ON authz.plan_features IS
'A plan that is removed takes its rows with it.';
COMMENT ON CONSTRAINT plan_features_feature_fkey ON authz.plan_features IS
'A feature that is removed takes its rows with it.';

COMMENT ON TABLE authz.plan_limits IS
'How much of each meter a plan includes. A meter without a row is not included in the plan at all.';
COMMENT ON COLUMN authz.plan_limits.plan IS 'The plan.';
COMMENT ON COLUMN authz.plan_limits.meter IS 'The meter.';
COMMENT ON COLUMN authz.plan_limits.at_most IS
'The limit in units of the meter, for each period of a counter. NULL: unlimited.';
COMMENT ON CONSTRAINT plan_limits_pkey ON authz.plan_limits IS 'One limit for each plan and meter.';
COMMENT ON CONSTRAINT plan_limits_plan_fkey ON authz.plan_limits IS
'A plan that is removed takes its limits with it.';
COMMENT ON CONSTRAINT plan_limits_meter_fkey ON authz.plan_limits IS 'A limit is of a known meter.';
COMMENT ON CONSTRAINT plan_limits_at_most_check ON authz.plan_limits IS 'A limit is not negative.';

COMMENT ON TABLE authz.catalog IS
'One row: which revision of plans.yaml and policies was published last. Empty until sidecar migrate published one.';
COMMENT ON COLUMN authz.catalog.only_row IS 'Always true, so that there is one row.';
COMMENT ON COLUMN authz.catalog.revision IS 'The policy revision, as decisions name it.';
COMMENT ON COLUMN authz.catalog.default_plan IS 'The plan of each new workspace.';
COMMENT ON COLUMN authz.catalog.published_at IS
'When this revision was published first; publishing it again does not change it.';
COMMENT ON CONSTRAINT catalog_pkey ON authz.catalog IS 'With catalog_only_row_check: at most one row.';
COMMENT ON CONSTRAINT catalog_only_row_check ON authz.catalog IS 'With catalog_pkey: at most one row.';
COMMENT ON CONSTRAINT catalog_default_plan_fkey ON authz.catalog IS 'The default plan is a plan of the catalog.';

COMMENT ON FUNCTION authz.catalog_revision IS
'The policy revision that was published last.
Returns: authz.catalog.revision; NULL until a catalog was published.
Called by: authz_sidecar, to tell which revision the plan tables have.';
