-- Comments for psql's \d+: of the tables of workspaces, users, members and invitations, and of their triggers.

COMMENT ON TABLE authz.workspaces IS
'The workspaces. A deleted one keeps its row, its slug and all that refers to its id until authz.purge_workspaces.';
COMMENT ON COLUMN authz.workspaces.id IS 'The workspace''s UUID. It never changes.';
COMMENT ON COLUMN authz.workspaces.slug IS
'Its name in URLs, unique among all workspaces, deleted ones too: 1 to 63 of a-z, 0-9 and -, never like a UUID.';
COMMENT ON COLUMN authz.workspaces.name IS 'Its name as people see it, 1 to 256 characters.';
COMMENT ON COLUMN authz.workspaces.plan_tier IS 'The plan that it has.';
COMMENT ON COLUMN authz.workspaces.plan_as_of IS
'The date of the event that set the plan: authz.set_plan ignores events that are older. NULL: no plan was set yet,
so an event of any date is applied.';
COMMENT ON COLUMN authz.workspaces.status IS 'active, or suspended: then the policies deny every action in it.';
COMMENT ON COLUMN authz.workspaces.status_reason IS
'Why it has this status, in an administrator''s words. NULL: none was given.';
COMMENT ON COLUMN authz.workspaces.subscribed_at IS
'Where the months of meters with the anchor subscription begin: on its day and at its time, in UTC.';
COMMENT ON COLUMN authz.workspaces.member_count IS
'How many memberships it has, whatever their roles. Kept by authz.count_members.';
COMMENT ON COLUMN authz.workspaces.facts_version IS
'Rises with each change of membership, plan, status or override. A decision made with an older version is stale.';
COMMENT ON COLUMN authz.workspaces.created_at IS 'When it was created.';
COMMENT ON COLUMN authz.workspaces.deleted_at IS 'When it was deleted. NULL: it is not.';
COMMENT ON COLUMN authz.workspaces.deleted_by IS
'Who deleted it, as authz.actor() names them. NULL: it is not deleted.';
COMMENT ON COLUMN authz.workspaces.members_before IS
'Its members when it was deleted, for authz.restore_workspace: a list of {user_id, role, joined_at}. NULL: it is not
deleted.';
COMMENT ON COLUMN authz.workspaces.default_of IS
'The user whom it was created for at a signup. It gives them no right: only a membership does. NULL: nobody.';
COMMENT ON CONSTRAINT workspaces_pkey ON authz.workspaces IS 'One row for each workspace.';
COMMENT ON CONSTRAINT workspaces_id_check ON authz.workspaces IS 'The nil UUID stands for no workspace.';
COMMENT ON CONSTRAINT workspaces_slug_key ON authz.workspaces IS
'A slug names one workspace. Its index finds a workspace by slug, and gives pages in the order of slugs.';
COMMENT ON CONSTRAINT workspaces_slug_check ON authz.workspaces IS 'The slug is one that authz.is_slug accepts.';
COMMENT ON CONSTRAINT workspaces_name_check ON authz.workspaces IS 'The name is not empty, and not too long.';
COMMENT ON CONSTRAINT workspaces_plan_tier_fkey ON authz.workspaces IS
'A plan that a workspace has, even a deleted one, cannot be removed from the catalog.';
COMMENT ON CONSTRAINT workspaces_status_check ON authz.workspaces IS 'The statuses of a workspace.';
COMMENT ON CONSTRAINT workspaces_member_count_check ON authz.workspaces IS 'Members are not counted below 0.';
COMMENT ON CONSTRAINT workspaces_deleted_check ON authz.workspaces IS
'deleted_at, deleted_by and members_before are all set, or none is.';
COMMENT ON CONSTRAINT workspaces_default_of_key ON authz.workspaces IS
'A user has at most one workspace from a signup: of two signups of one user at once, the second
creates nothing and looks again.';
COMMENT ON INDEX authz.workspaces_plan_tier_idx IS 'Finds the workspaces of a plan, when the catalog is to drop it.';
COMMENT ON INDEX authz.workspaces_deleted_at_idx IS 'Finds the deleted workspaces that are to be purged.';

COMMENT ON TABLE authz.workspace_memberships IS
'Who is in which workspace, in which role. Changes are counted (count_members), recorded (record_members) and void the
invitations of people who may not invite any more (void_invitations).';
COMMENT ON COLUMN authz.workspace_memberships.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.workspace_memberships.user_id IS
'The user, as the identity provider''s claim sub names them.';
COMMENT ON COLUMN authz.workspace_memberships.role IS
'Their role. Not a foreign key: a role that the catalog drops makes no member, and makes one again when it is back.';
COMMENT ON COLUMN authz.workspace_memberships.joined_at IS 'When they joined.';
COMMENT ON CONSTRAINT workspace_memberships_pkey ON authz.workspace_memberships IS
'A user has one role in a workspace.';
COMMENT ON CONSTRAINT workspace_memberships_workspace_id_fkey ON authz.workspace_memberships IS
'A purged workspace takes its memberships with it.';
COMMENT ON CONSTRAINT workspace_memberships_user_id_check ON authz.workspace_memberships IS
'A user id has 1 to 256 characters.';
COMMENT ON CONSTRAINT workspace_memberships_role_check ON authz.workspace_memberships IS
'A role has 1 to 256 characters.';
COMMENT ON INDEX authz.workspace_memberships_user_id_idx IS 'Finds the workspaces of a user.';
COMMENT ON INDEX authz.workspace_memberships_owner_key IS
'A workspace has at most one owner. That it has one is kept by authz.transfer_ownership and authz.hand_over.';

COMMENT ON VIEW authz.members IS
'The memberships that make a member: those in a role that the catalog declares, as the policies see it.';
COMMENT ON COLUMN authz.members.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.members.user_id IS 'The user.';
COMMENT ON COLUMN authz.members.role IS 'Their role.';
COMMENT ON COLUMN authz.members.rank IS 'The role''s rank: a higher one is more senior.';
COMMENT ON COLUMN authz.members.joined_at IS 'When they joined.';

COMMENT ON TABLE authz.workspace_features IS
'Overrides: what a workspace has instead of what its plan says, until the override expires. An override replaces the
plan''s feature or limit, it does not add to it.';
COMMENT ON COLUMN authz.workspace_features.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.workspace_features.kind IS 'feature or limit.';
COMMENT ON COLUMN authz.workspace_features.name IS 'The feature, or the meter that is limited.';
COMMENT ON COLUMN authz.workspace_features.enabled IS 'Of a feature: whether it is on. NULL for a limit.';
COMMENT ON COLUMN authz.workspace_features.at_most IS
'Of a limit: how much, in units of the meter; NULL is unlimited. NULL for a feature.';
COMMENT ON COLUMN authz.workspace_features.expires_at IS
'When the override ends: at this instant it no longer holds. NULL: it does not end.';
COMMENT ON COLUMN authz.workspace_features.reason IS
'Why it was given, in an administrator''s words. NULL: none was given.';
COMMENT ON COLUMN authz.workspace_features.changed_at IS 'When it was set last.';
COMMENT ON CONSTRAINT workspace_features_pkey ON authz.workspace_features IS
'One override for each feature or limit of a workspace.';
COMMENT ON CONSTRAINT workspace_features_workspace_id_fkey ON authz.workspace_features IS
'A purged workspace takes its overrides with it.';
COMMENT ON CONSTRAINT workspace_features_kind_check ON authz.workspace_features IS 'The kinds of overrides.';
COMMENT ON CONSTRAINT workspace_features_enabled_check ON authz.workspace_features IS
'A feature is on or off, and a limit is neither.';
COMMENT ON CONSTRAINT workspace_features_at_most_check ON authz.workspace_features IS
'Only a limit has a number, and it is not negative.';

COMMENT ON TABLE authz.workspace_invitations IS
'The open invitations. One that was accepted, revoked, replaced or voided is deleted, and the outbox says which. An
open one holds a seat until it expires; one that has expired counts nothing, and is deleted at the next invitation.';
COMMENT ON COLUMN authz.workspace_invitations.workspace_id IS 'The workspace that somebody is invited to.';
COMMENT ON COLUMN authz.workspace_invitations.id IS 'The invitation''s UUID, by which it is revoked.';
COMMENT ON COLUMN authz.workspace_invitations.email IS
'The address that it is for, case-folded and in NFC: only who proves this address can accept.';
COMMENT ON COLUMN authz.workspace_invitations.role IS 'The role that they will have.';
COMMENT ON COLUMN authz.workspace_invitations.invited_by IS 'The user who invited them.';
COMMENT ON COLUMN authz.workspace_invitations.token_hash IS
'SHA-256 of the token in the invitation''s link. The token itself is stored nowhere.';
COMMENT ON COLUMN authz.workspace_invitations.created_at IS 'When it was made.';
COMMENT ON COLUMN authz.workspace_invitations.expires_at IS 'When it ends: at this instant it has expired.';
COMMENT ON CONSTRAINT workspace_invitations_pkey ON authz.workspace_invitations IS 'One row for each invitation.';
COMMENT ON CONSTRAINT workspace_invitations_email_key ON authz.workspace_invitations IS
'One invitation for each address in a workspace. Its index gives pages in the order of addresses.';
COMMENT ON CONSTRAINT workspace_invitations_token_hash_key ON authz.workspace_invitations IS
'A token is of one invitation. Its index finds the invitation of who accepts, who knows nothing but the token.';
COMMENT ON CONSTRAINT workspace_invitations_workspace_id_fkey ON authz.workspace_invitations IS
'A purged workspace takes its invitations with it.';
COMMENT ON CONSTRAINT workspace_invitations_email_check ON authz.workspace_invitations IS
'An address has 3 to 320 characters.';
COMMENT ON CONSTRAINT workspace_invitations_role_check ON authz.workspace_invitations IS
'Nobody is invited as owner: ownership is transferred.';
COMMENT ON CONSTRAINT workspace_invitations_token_hash_check ON authz.workspace_invitations IS
'A SHA-256 has 32 bytes.';
COMMENT ON CONSTRAINT workspace_invitations_expires_at_check ON authz.workspace_invitations IS
'An invitation is open for 7 days at most.';

COMMENT ON TABLE authz.users IS
'The users that the sidecar knows of: those who signed up here, where there is no table auth.users of Supabase when
the database is migrated, and those who came with a token, with the e-mail address that it proved last.';
COMMENT ON COLUMN authz.users.id IS 'The user, as the identity provider''s claim sub names them.';
COMMENT ON COLUMN authz.users.email IS 'Their e-mail address. NULL: none was given or proved.';
COMMENT ON COLUMN authz.users.created_at IS 'When they were first seen here.';
COMMENT ON CONSTRAINT users_pkey ON authz.users IS 'One row for each user.';
COMMENT ON CONSTRAINT users_id_check ON authz.users IS 'A user id has 1 to 256 characters.';

COMMENT ON TRIGGER count_members_inserted ON authz.workspace_memberships IS
'Counts new memberships, once for each statement.';
COMMENT ON TRIGGER count_members_updated ON authz.workspace_memberships IS
'Raises facts_version when roles change, once for each statement.';
COMMENT ON TRIGGER count_members_deleted ON authz.workspace_memberships IS
'Counts memberships that ended, once for each statement.';
COMMENT ON TRIGGER raise_version ON authz.workspaces IS 'Raises facts_version when the plan or the status changes.';
COMMENT ON TRIGGER raise_version ON authz.workspace_features IS
'Raises facts_version of the workspace with each change of an override.';
COMMENT ON TRIGGER void_invitations_updated ON authz.workspace_memberships IS
'Deletes the invitations of members who may not invite any more in their new role.';
COMMENT ON TRIGGER void_invitations_deleted ON authz.workspace_memberships IS
'Deletes the invitations of members who have gone.';
COMMENT ON TRIGGER on_user_deleted ON authz.users IS
'Takes deleted users out of every workspace, once for each statement.';
DO $$
BEGIN
    -- Where there is Supabase's auth.users the trigger is there, and that table is not ours to comment on.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = 'authz.users'::regclass AND t.tgname = 'on_auth_user_created'
    ) THEN
        COMMENT ON TRIGGER on_auth_user_created ON authz.users IS 'Gives each new user a workspace of their own.';
    END IF;
END;
$$;
