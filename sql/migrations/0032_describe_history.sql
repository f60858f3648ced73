-- Comments for psql's \d+ and \df+: of the outbox, and of what writes to it.

COMMENT ON TABLE authz.outbox IS
'Who changed what, and when: one row for each change of a workspace, its members, invitations and overrides, written
in the transaction that changes it. Its rows outlive the workspace; only the owner deletes them. Rows may be
committed in another order than that of id. To read on after the last row that was read, and miss none that is
committed later:
WHERE (transaction, id) > (last transaction, last id) AND transaction < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY transaction, id';
COMMENT ON COLUMN authz.outbox.id IS 'Rises with each row.';
COMMENT ON COLUMN authz.outbox.at IS 'When it was written.';
COMMENT ON COLUMN authz.outbox.transaction IS
'The transaction that wrote it, by which a reader knows that no earlier row is to come.';
COMMENT ON COLUMN authz.outbox.workspace_id IS 'The workspace. Not a foreign key: the history outlives it.';
COMMENT ON COLUMN authz.outbox.actor IS
'Who changed it, as actor_kind says: a user id, the name of a caller''s token, or a database login or sidecar load.';
COMMENT ON COLUMN authz.outbox.actor_kind IS 'user, caller or sql.';
COMMENT ON COLUMN authz.outbox.kind IS
'What happened: workspace.created, .renamed, .plan_changed, .status_changed, .deleted, .restored, .purged;
member.joined, .left, .removed, .role_changed; invitation.created, .accepted, .revoked, .replaced, .voided;
override.set, .removed.';
COMMENT ON COLUMN authz.outbox.data IS 'Its particulars, by kind (docs/database.md). Never a token.';
COMMENT ON CONSTRAINT outbox_pkey ON authz.outbox IS
'One row for each change; its index finds a workspace''s history.';
COMMENT ON CONSTRAINT outbox_actor_kind_check ON authz.outbox IS 'The kinds of actors.';
COMMENT ON INDEX authz.outbox_transaction_id_idx IS 'Finds what is new for a reader of all workspaces.';
COMMENT ON SEQUENCE authz.outbox_id_seq IS 'The ids of outbox.';

COMMENT ON TRIGGER record_workspace_inserted ON authz.workspaces IS
'Records workspace.created and workspace.purged.';
COMMENT ON TRIGGER record_workspace_updated ON authz.workspaces IS
'Records changes of name, plan, status and deletion.';
COMMENT ON TRIGGER record_members_inserted ON authz.workspace_memberships IS 'Records member.joined.';
COMMENT ON TRIGGER record_members_updated ON authz.workspace_memberships IS 'Records member.role_changed.';
COMMENT ON TRIGGER record_members_deleted ON authz.workspace_memberships IS 'Records member.left and member.removed.';
COMMENT ON TRIGGER record_override ON authz.workspace_features IS 'Records override.set and override.removed.';

COMMENT ON FUNCTION authz.acting_as IS
'Says who makes the changes of this transaction, for the outbox. Written in FROM, it runs before what is selected.
- actor: a user id, the name of a caller''s token, or what stands for a database login.
- kind: user, caller or sql.
Returns: nothing.
Called by: authz_sidecar, in each statement that changes something; the owner, in sidecar load.';

COMMENT ON FUNCTION authz.actor IS
'Who makes the changes of this transaction, as authz.acting_as was told.
Returns: the actor; the login of the session if nobody was named.
Called by: authz.record, authz.record_members and authz.delete_workspace.';

COMMENT ON FUNCTION authz.actor_kind IS
'What kind of actor authz.actor() is.
Returns: user, caller or sql; sql if nobody was named.
Called by: authz.record and authz.record_members.';

COMMENT ON FUNCTION authz.record IS
'Writes one row to the outbox, for the actor of this transaction.
- workspace_id: the workspace.
- kind: what happened, as outbox.kind.
- data: its particulars.
Returns: nothing.
Called by: authz.record_workspace, authz.record_override, authz.invite, authz.accept_invitation,
authz.revoke_invitation and authz.void_invitations.';

COMMENT ON FUNCTION authz.record_workspace IS
'Trigger: records that a workspace was created, renamed, deleted, restored or purged, or its plan or status was
changed.
Returns: NULL.
Called by: triggers record_workspace_inserted and _updated on authz.workspaces.';

COMMENT ON FUNCTION authz.record_members IS
'Trigger: records members who joined, left (by themselves) or were removed, and changes of roles. Those who lose their
membership because the workspace is deleted or purged are not recorded one by one.
Returns: NULL.
Called by: triggers record_members_inserted, _updated and _deleted on authz.workspace_memberships.';

COMMENT ON FUNCTION authz.record_override IS
'Trigger: records an override that was set or removed.
Returns: NULL.
Called by: trigger record_override on authz.workspace_features.';
