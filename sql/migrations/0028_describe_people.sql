-- Comments for psql's \df+: of the functions about workspaces, signups, members, invitations and administration. In
-- each: its purpose, its parameters, what it returns, the errors that it raises itself (SQLSTATE), and who calls
-- it.

COMMENT ON FUNCTION authz.is_slug IS
'Whether a text can be a slug: it fits into a host name, and cannot be mistaken for a UUID.
- candidate: the text; 1 to 63 of a-z, 0-9 and -, with a letter or digit at either end.
Returns: true or false; NULL for NULL.
Called by: authz.create_default_workspace, authz.slug_after, and the constraint workspaces_slug_check.';

COMMENT ON FUNCTION authz.count_members IS
'Trigger: keeps member_count of the workspaces whose memberships change, and raises their facts_version by 1. It locks
the workspaces in the order of their ids, so that two statements cannot deadlock.
Returns: NULL.
Called by: triggers count_members_inserted, _updated and _deleted on authz.workspace_memberships.';

COMMENT ON FUNCTION authz.raise_version_of_workspace IS
'Trigger: raises facts_version by 1, so that decisions made before are stale.
Returns: the new row.
Called by: trigger raise_version on authz.workspaces, before its plan or status changes.';

COMMENT ON FUNCTION authz.raise_version_of_override IS
'Trigger: raises facts_version of the override''s workspace by 1, so that decisions made before are stale.
Returns: NULL.
Called by: trigger raise_version on authz.workspace_features, for each row.';

COMMENT ON FUNCTION authz.workspace_id_of IS
'Finds a workspace, deleted ones too, without a lock.
- workspace: its UUID or its slug.
Returns: its id; NULL if there is none.
Called by: authz.enter, authz.refund and authz.release_resource.';

COMMENT ON FUNCTION authz.workspace_locked IS
'Finds a workspace that is not deleted and locks its row (FOR NO KEY UPDATE) until the transaction ends.
- workspace: its UUID or its slug.
Returns: its id.
Raises: AZ001 if there is none.
Called by: authz.set_plan, authz.set_overrides and authz.set_status.';

COMMENT ON FUNCTION authz.decided_by IS
'Locks a workspace''s row (FOR NO KEY UPDATE), provided that it is as a decision saw it: each change by a member
begins with this.
- workspace_id: the workspace.
- facts_version: its facts_version when the decision was made.
Returns: nothing.
Raises: AZ010 if it has changed since, is deleted or does not exist; the sidecar then decides again.
Called by: authz.rename_workspace, authz.delete_workspace, authz.change_role, authz.remove_member,
authz.transfer_ownership, authz.invite, authz.revoke_invitation and authz.accept_invitation.';

COMMENT ON FUNCTION authz.create_default_workspace IS
'Gives a user who is in no workspace one of their own: on the default plan, with them as owner (or in the most
senior role, if the catalog has no owner), with a slug after the e-mail address''s local part and a random suffix
where that is taken. It may be called again at any time, and by many sessions at once. It waits for a lock for at
most 100 ms at a time.
- user_id: the user.
- email: their e-mail address, which only names the workspace; NULL: it is named workspace.
Returns: the id of the workspace that they joined first, or of the new one.
Raises: 55000 if no catalog is published; 55P03 if other sessions kept it from ending in 10 attempts.
Called by: authz.create_default_workspace_for_user and authz.see_user; the owner, by hand and in sidecar load.';

COMMENT ON FUNCTION authz.create_default_workspace_for_user IS
'Trigger: authz.create_default_workspace for a new user. An error becomes a WARNING in the server''s log, so that
the signup itself does not fail.
Returns: NULL.
Called by: trigger on_auth_user_created on auth.users (Supabase) or, where there was none at migration, authz.users.';

COMMENT ON FUNCTION authz.see_user IS
'Notes a user who came with a token: creates their first workspace if they are in none, and keeps a proved e-mail
address.
- user_id: the user, by the token''s claim sub.
- email: the token''s e-mail address; NULL if it has none.
- verified: whether the token says that the address is verified; an address that is not is not kept.
Returns: the text seen.
Raises: as authz.create_default_workspace.
Called by: authz_sidecar, when a user comes who was not seen for a while.';

COMMENT ON FUNCTION authz.slug_after IS
'Makes a slug out of a name: lower case, runs of other characters as one -, at most 40 characters.
- name: the name.
Returns: the slug, which may be taken; workspace if nothing usable is left of the name.
Called by: authz.create_workspace.';

COMMENT ON FUNCTION authz.create_workspace IS
'Creates a workspace on the default plan, with a slug after its name (with a random suffix if that is taken) and the
user as owner, or in the most senior role if the catalog has no owner. A second call with the same id creates
nothing more.
- workspace_id: the UUID of the new workspace, chosen by the sidecar, so that a retry creates it once.
- user_id: the user who creates it.
- name: its name, 1 to 256 characters.
Returns: {id, name, slug, plan_tier, role}.
Raises: P0001 if no catalog is published.
Called by: authz_sidecar, to create a workspace.';

COMMENT ON FUNCTION authz.rename_workspace IS
'Changes a workspace''s name. Its slug stays.
- workspace_id: the workspace.
- facts_version: its facts_version when the renaming was decided.
- name: the new name, 1 to 256 characters.
Returns: the text renamed.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, to rename a workspace.';

COMMENT ON FUNCTION authz.delete_workspace IS
'Deletes a workspace until it is restored or purged: notes when, by whom and who was in it, and removes its members
and invitations. Its row and slug stay.
- workspace_id: the workspace.
- facts_version: its facts_version when the deletion was decided.
Returns: the text deleted.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, to delete a workspace.';

COMMENT ON FUNCTION authz.restore_workspace IS
'Restores a deleted workspace with its members as they were, except for users who were deleted since. Its
invitations are lost. If its owner is gone, ownership goes on as in authz.hand_over.
- workspace_id: the deleted workspace.
Returns: nothing.
Raises: AZ001 if it is not deleted, was purged or never existed.
Called by: the owner, by hand.';

COMMENT ON FUNCTION authz.purge_workspaces IS
'Deletes for good workspaces that were deleted long ago, oldest first, with all rows that refer to them, in isolated
tables too. Passes over workspaces that another session has locked, or that have members again.
- grace: how long ago they must have been deleted; 30 days unless given.
- at_most: how many to purge in this call; 100 unless given.
Returns: how many were purged.
Called by: the owner, from a scheduler or by hand.';

COMMENT ON FUNCTION authz.email_of IS
'The e-mail address of a user: that of authz.users, else that of Supabase''s auth.users where that was at migration.
- user_id: the user.
Returns: the address; NULL if none is known.
Called by: authz.member_document.';

COMMENT ON FUNCTION authz.member_document IS
'A member as the API shows them.
- membership: the row of authz.workspace_memberships.
Returns: {user, role, email (or null), joined_at}.
Called by: authz.member_of and authz.people_of.';

COMMENT ON FUNCTION authz.member_of IS
'One member of a workspace, whatever their role.
- workspace_id: the workspace.
- user_id: the user.
Returns: as authz.member_document, with times in UTC; NULL if they are not in it.
Called by: authz_sidecar, before it changes or removes a member; authz.change_role and authz.transfer_ownership.';

COMMENT ON FUNCTION authz.people_of IS
'A page of the members of a workspace in the order of their user ids, whatever their roles.
- workspace_id: the workspace.
- after: the last user id of the page before; NULL: from the beginning.
- at_most: how many members.
Returns: a list as of authz.member_document, with times in UTC; empty if there are no more.
Called by: authz_sidecar, to list members.';

COMMENT ON FUNCTION authz.change_role IS
'Changes a member''s role. The owner''s role is not changed, and nobody is made owner: that is
authz.transfer_ownership.
- workspace_id: the workspace.
- facts_version: its facts_version when the change was decided.
- user_id: the member.
- role: the new role.
Returns: the member as they are now (authz.member_of); NULL if they are not in the workspace.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, to change a role.';

COMMENT ON FUNCTION authz.remove_member IS
'Removes a member, or lets one leave. The owner is not removed, and who is not a member already has gone.
- workspace_id: the workspace.
- facts_version: its facts_version when the removal was decided.
- user_id: the member.
Returns: the text removed, whether there was anybody to remove or not.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, to remove a member or when one leaves.';

COMMENT ON FUNCTION authz.transfer_ownership IS
'Makes a member the owner, and gives the former owner another role, in one transaction.
- workspace_id: the workspace.
- facts_version: its facts_version when the transfer was decided.
- user_id: the member who becomes owner.
- former_role: the role of the former owner from now on.
Returns: [the new owner, the former owner], each as authz.member_of.
Raises: AZ010 if the workspace has changed since, or the user is not in it.
Called by: authz_sidecar, to transfer ownership.';

COMMENT ON FUNCTION authz.hand_over IS
'Makes somebody owner in each of some workspaces that have none: the member in the most senior role, and among
equals who joined first. Roles that the catalog does not declare come last. A workspace without members stays
without an owner.
- workspace_ids: the workspaces, which have no owner.
Returns: nothing.
Called by: authz.forget_users and authz.restore_workspace.';

COMMENT ON FUNCTION authz.forget_users IS
'Removes users from every workspace, and from the members that deleted workspaces would be restored with. Where one
was the owner, ownership goes on as in authz.hand_over. A workspace that nobody is left in is deleted for good.
Locks usage first, then the workspaces in the order of their ids, so that it cannot deadlock with others.
- users: their user ids.
Returns: nothing.
Called by: authz.forget_deleted_users; the owner, by hand, for users that neither authz.users nor auth.users knows.';

COMMENT ON FUNCTION authz.forget_deleted_users IS
'Trigger: authz.forget_users for the users that a statement deleted, and removes them from authz.users. Unlike at a
signup, an error makes the deletion fail: it can be retried, while a workspace without an owner would stay.
Returns: NULL.
Called by: trigger on_user_deleted on authz.users, and on_auth_user_deleted on auth.users (Supabase).';

COMMENT ON FUNCTION authz.invitation_document IS
'An invitation as the API and the outbox show it, without its token.
- invitation: the row of authz.workspace_invitations.
Returns: {id, email, role, invited_by, created_at, expires_at}.
Called by: authz.invite, authz.invitations_of, authz.invitation_by_token, authz.accept_invitation,
authz.revoke_invitation and authz.void_invitations.';

COMMENT ON FUNCTION authz.open_invitations IS
'How many invitations of a workspace are open.
- workspace_id: the workspace.
- moment: at which time.
- but_of: an e-mail address whose invitation is not counted, since it will be replaced; NULL: all are counted.
Returns: the number.
Called by: authz.invite.';

COMMENT ON FUNCTION authz.seats_for IS
'Whether a number of people is within the limits of a workspace: its overrides where there are any, else the limits
given.
- workspace_id: the workspace.
- wanted: how many people, members and invitations.
- meters: the meters that count members.
- limits: the limit of each, in the order of meters, as the decision found it; NULL is unlimited.
- moment: at which time overrides must hold.
Returns: true if there are seats for all of them.
Called by: authz.invite and authz.accept_invitation.';

COMMENT ON FUNCTION authz.invite IS
'Makes an invitation for 7 days, if there is a seat. An open one for the same address is replaced; expired ones of the
workspace are deleted.
- workspace_id: the workspace.
- facts_version: its facts_version when the invitation was decided.
- id: the UUID of the new invitation.
- invited_by: the user who invites.
- email: the address, case-folded and in NFC.
- role: the role offered; never owner.
- token_hash: SHA-256 of the token, 64 hexadecimal digits.
- meters: the meters that count members.
- limits: the limit of each, in the order of meters; NULL is unlimited.
Returns: as authz.invitation_document, with times in UTC; NULL if there is no seat.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, to invite.';

COMMENT ON FUNCTION authz.is_invited IS
'Whether an address has an open invitation, whose seat a new one would take over.
- workspace_id: the workspace.
- email: the address, case-folded and in NFC.
Returns: true or false.
Called by: authz_sidecar, when somebody is invited and there is no other seat.';

COMMENT ON FUNCTION authz.invitations_of IS
'A page of the open invitations of a workspace, in the order of their addresses.
- workspace_id: the workspace.
- after: the last address of the page before; NULL: from the beginning.
- at_most: how many invitations.
Returns: a list as of authz.invitation_document, with times in UTC; empty if there are no more.
Called by: authz_sidecar, to list invitations.';

COMMENT ON FUNCTION authz.invitation_by_token IS
'Finds the open invitation that a token is of.
- token_hash: SHA-256 of the token, 64 hexadecimal digits.
Returns: as authz.invitation_document, with workspace_id and members (how many the workspace has), and times in UTC;
NULL if there is no open one.
Called by: authz_sidecar, before an invitation is accepted.';

COMMENT ON FUNCTION authz.accept_invitation IS
'Makes a user a member by an invitation, if there is a seat, and deletes the invitation.
- workspace_id: the workspace.
- facts_version: its facts_version when the inviter''s right was decided.
- token_hash: SHA-256 of the token, 64 hexadecimal digits.
- user_id: the user who accepts.
- email: the address that they proved, case-folded and in NFC; it must be the invitation''s.
- meters: the meters that count members.
- limits: the limit of each, in the order of meters; NULL is unlimited.
Returns: joined; full if there is no seat; invalid if the invitation is not open or not for this address, or the
user is a member already.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, when an invitation is accepted.';

COMMENT ON FUNCTION authz.revoke_invitation IS
'Deletes an open invitation.
- workspace_id: the workspace.
- facts_version: its facts_version when the revocation was decided.
- id: the invitation.
Returns: true; false if there is no such open invitation.
Raises: AZ010 if the workspace has changed since.
Called by: authz_sidecar, to revoke an invitation.';

COMMENT ON FUNCTION authz.void_invitations IS
'Trigger: deletes the invitations of members who have gone, or whose new role may not perform members.invite or is
below the role that they offered, and records each in the outbox. They do not come back with the right.
Returns: NULL.
Called by: triggers void_invitations_updated and _deleted on authz.workspace_memberships.';

COMMENT ON FUNCTION authz.workspace_state IS
'A workspace as an administrator sees it after a change.
- workspace_id: the workspace.
- applied: whether the change was applied; passed through into the answer.
Returns: {workspace_id, slug, plan, as_of, status, reason, overrides, applied}, with times in UTC. as_of is the date
of the plan, or of the workspace''s creation; overrides is a list of {kind, name, enabled, at_most, expires_at,
reason} of those that have not expired. NULL if there is no such workspace.
Called by: authz.set_plan, authz.set_overrides and authz.set_status.';

COMMENT ON FUNCTION authz.set_plan IS
'Gives a workspace another plan, unless a newer event has set it already.
- workspace: its UUID or its slug.
- plan: the plan.
- as_of: the date of the event that says so, for example of the billing provider; NULL: now.
Returns: as authz.workspace_state; applied is false if the workspace''s plan is of a later date.
Raises: AZ001 if there is no such workspace; AZ002 if there is no such plan; 22023 if as_of is infinite.
Called by: authz_sidecar, to set a plan.';

COMMENT ON FUNCTION authz.set_overrides IS
'Sets or removes overrides of a workspace. Those that are not named stay as they are.
- workspace: its UUID or its slug.
- features: an object of feature to true, false, or null, which removes the override.
- limits: an object of meter to a whole number of at most 15 digits, "unlimited", or null, which removes the override.
- expires_at: when the overrides that this call sets end; NULL: never.
- reason: why, in an administrator''s words; NULL: none.
Returns: as authz.workspace_state; applied is true.
Raises: AZ001 if there is no such workspace; 22023 if a name is not declared or a value is of the wrong kind.
Called by: authz_sidecar, to set overrides.';

COMMENT ON FUNCTION authz.set_status IS
'Suspends a workspace, or makes it active again.
- workspace: its UUID or its slug.
- status: active or suspended.
- reason: why, in an administrator''s words; NULL: none.
Returns: as authz.workspace_state; applied is true.
Raises: AZ001 if there is no such workspace; 22023 if the status is another.
Called by: authz_sidecar, to set a status.';

COMMENT ON FUNCTION authz.get_user_workspaces IS
'The workspaces in which a user is a member, in the order of their slugs. It believes the user id that it is given.
- user_id: the user.
- workspace_id: (result) the workspace.
- slug: (result) its slug.
- name: (result) its name.
- plan_tier: (result) its plan.
- role: (result) the user''s role in it.
- status: (result) active or suspended.
- joined_at: (result) when the user joined.
Returns: a row for each workspace; none for an unknown user or NULL.
Called by: authz_app, from the application''s SQL; authz_sidecar may.';

COMMENT ON FUNCTION authz.is_workspace_member IS
'Whether a user is a member of a workspace, as the policies see it. It believes the user id that it is given.
- user_id: the user.
- workspace_id: the workspace.
Returns: true or false; false too for what does not exist, or is NULL.
Called by: authz_app, from the application''s SQL; authz_sidecar may.';

COMMENT ON FUNCTION authz.get_workspace_role IS
'The role of a user in a workspace, suspended ones too. It believes the user id that it is given.
- user_id: the user.
- workspace_id: the workspace.
Returns: the role; NULL if they are no member.
Called by: authz_app, from the application''s SQL; authz_sidecar may.';

COMMENT ON FUNCTION authz.has_feature_access IS
'Whether a workspace has a feature, by its plan or an override: whether the policies that we ship grant
feature:<feature> to its members.
- workspace_id: the workspace.
- feature: the feature.
Returns: true or false; false too if the workspace is suspended or deleted, or the feature is not declared.
Called by: authz_app, from the application''s SQL; authz_sidecar may.';
