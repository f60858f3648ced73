-- Comments for psql's \d+ and \df+: of what the sidecar reads to decide.

COMMENT ON VIEW authz.member_facts IS
'For each membership the facts that a decision is made from, as the database knows them at the beginning of the
statement.';
COMMENT ON COLUMN authz.member_facts.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.member_facts.user_id IS 'The user.';
COMMENT ON COLUMN authz.member_facts.slug IS 'The workspace''s slug.';
COMMENT ON COLUMN authz.member_facts.facts IS
'An object:
workspace_id, slug, name, plan, status: of the workspace;
role: of the member, whether the catalog declares it or not;
features: {feature: true or false} of the overrides that hold;
limits: {meter: limit, or null for unlimited} of the overrides that hold;
usage: {meter: [used, reserved, resets at or null]} of every meter, in its current period;
periods: {meter: when the current period began};
until: when the first of the overrides ends, or null;
version: the workspace''s facts_version;
at: the time that all of this is true of.';

COMMENT ON FUNCTION authz.facts IS
'The facts about members, for as many questions as are asked. Its settings make PostgreSQL go by index, whatever its
statistics say, so that the time that it takes tells nobody whether a workspace exists.
- users: the user of each question.
- workspaces: the workspace of each question, a UUID or a slug, in the order of users.
Returns: a list in the order of the questions: the object of authz.member_facts, or null for whoever is not in the
workspace and for a workspace that does not exist. Times are in UTC.
Called by: authz_sidecar, for each decision.';

COMMENT ON FUNCTION authz.workspaces_of IS
'A page of the workspaces of a user, in the order of their slugs, with the facts about the user in each.
- user_id: the user.
- after: the last slug of the page before; NULL: from the beginning.
- at_most: how many workspaces.
Returns: a list of the objects of authz.member_facts; empty if there are no more. Times are in UTC.
Called by: authz_sidecar, to list a user''s workspaces.';

COMMENT ON FUNCTION authz.members_of IS
'A page of the members of a workspace, in the order of their user ids, with the facts about the first: those about
the others differ in the role alone. Its settings make PostgreSQL go by index, whatever its statistics say.
- workspace: its UUID or its slug.
- after: the last user id of the page before; NULL: from the beginning.
- at_most: how many members.
Returns: {facts: the object of authz.member_facts or null, members: a list of [user, role]}. Times are in UTC.
Called by: authz_sidecar, to find out who may do something in a workspace.';

COMMENT ON FUNCTION authz.catalog_in_use IS
'What a catalog must declare to fit this database. It looks into the index of workspaces by plan once for each plan,
however many workspaces there are.
Returns: {meters: {meter: [kind, per, anchor]}, plans: a list of the plans that workspaces have, deleted ones too,
default_plan: the plan of new workspaces or null}.
Called by: authz_sidecar, before it decides by a catalog.';
