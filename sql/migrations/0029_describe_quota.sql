-- Comments for psql's \d+ and \df+: of usage, its ledger, idempotency keys, resources and reservations, and of the
-- functions that change them. Each function's comment has its purpose, its parameters, what it returns, the errors
-- that it raises itself (SQLSTATE), and who calls it.
--
-- The order of locks, everywhere: counters by meter, then a reservation, then the workspace, then the key.

COMMENT ON TABLE authz.workspace_usage IS
'The counters: what a workspace has used of a meter in the last period that it used any. A row of an older period
counts as 0. A use locks its counter first, so that no two callers get the same room.';
COMMENT ON COLUMN authz.workspace_usage.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.workspace_usage.meter IS 'The meter: a counter or a level.';
COMMENT ON COLUMN authz.workspace_usage.period_start IS
'When the period that used is of began; -infinity where nothing restarts.';
COMMENT ON COLUMN authz.workspace_usage.used IS
'How much was used, in units of the meter: the sum of usage_ledger.amount of the meter and period. It may be above
the limit after a change to a smaller plan.';
COMMENT ON COLUMN authz.workspace_usage.held_until IS
'When the last reservation of the meter ends at the latest: until then usage_holds must be summed, afterwards not.
NULL: there was none.';
COMMENT ON CONSTRAINT workspace_usage_pkey ON authz.workspace_usage IS 'One counter for each meter of a workspace.';
COMMENT ON CONSTRAINT workspace_usage_workspace_id_fkey ON authz.workspace_usage IS
'A purged workspace takes its counters with it.';
COMMENT ON CONSTRAINT workspace_usage_used_check ON authz.workspace_usage IS 'Usage is not negative.';

COMMENT ON TABLE authz.usage_ledger IS
'Every change of a counter, kept for good: the counter is the sum of its lines (authz.miscounts compares them). No
foreign key: a purged workspace''s lines are deleted by authz.forget_usage.';
COMMENT ON COLUMN authz.usage_ledger.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.usage_ledger.id IS 'Rises with each line.';
COMMENT ON COLUMN authz.usage_ledger.at IS 'When it was charged or given back.';
COMMENT ON COLUMN authz.usage_ledger.meter IS 'The meter.';
COMMENT ON COLUMN authz.usage_ledger.period_start IS
'When the period that is charged began; -infinity where nothing restarts.';
COMMENT ON COLUMN authz.usage_ledger.amount IS 'How much, in units of the meter; negative: given back.';
COMMENT ON COLUMN authz.usage_ledger.kind IS
'consume, commit (of a reservation), release (given back), or adjust (by an operator or sidecar load).';
COMMENT ON COLUMN authz.usage_ledger.user_id IS 'The user who used it. NULL: given back, or adjusted.';
COMMENT ON COLUMN authz.usage_ledger.action IS 'The action that it was used for. NULL: given back, or adjusted.';
COMMENT ON COLUMN authz.usage_ledger.resource IS 'The resource that the request named. NULL: none.';
COMMENT ON COLUMN authz.usage_ledger.decision_id IS
'The decision that charged it first; a line that gives back has the id of the line that it undoes. NULL: adjusted.';
COMMENT ON CONSTRAINT usage_ledger_pkey ON authz.usage_ledger IS
'One row for each line; its index finds a workspace''s lines.';
COMMENT ON SEQUENCE authz.usage_ledger_id_seq IS 'The ids of usage_ledger.';

COMMENT ON TABLE authz.usage_keys IS
'Idempotency keys of what was taken or reserved, with the answer, so that a retry is answered the same and takes
nothing more. Kept until the period of what was taken has ended and 24 hours more. Denials are not kept. Removed by
authz.tidy.';
COMMENT ON COLUMN authz.usage_keys.workspace_id IS 'The workspace, to which the key belongs.';
COMMENT ON COLUMN authz.usage_keys.key IS 'The idempotency key of the request.';
COMMENT ON COLUMN authz.usage_keys.fingerprint IS
'Of the request (user, action, mode, amounts, resource): another request under the same key is refused.';
COMMENT ON COLUMN authz.usage_keys.decision_id IS 'The decision that took it.';
COMMENT ON COLUMN authz.usage_keys.answer IS
'What the first answer said and a retry is told again: {role, plan, message, revision}.';
COMMENT ON COLUMN authz.usage_keys.at IS 'When it was taken.';
COMMENT ON COLUMN authz.usage_keys.quota IS
'The quota in the first answer: {meter: [limit or null, used, reserved, resets at or null]}.';
COMMENT ON COLUMN authz.usage_keys.held IS
'The reservation in the first answer: {id, expires_at, amounts}. NULL: none.';
COMMENT ON COLUMN authz.usage_keys.meters IS 'The meters that were taken.';
COMMENT ON COLUMN authz.usage_keys.amounts IS
'How much of each was taken, in the order of meters. NULL: it is reserved, and not committed.';
COMMENT ON COLUMN authz.usage_keys.starts IS 'When the charged period of each began, in the order of meters.';
COMMENT ON COLUMN authz.usage_keys.resource IS 'The resource that the request named. NULL: none.';
COMMENT ON COLUMN authz.usage_keys.reservation IS 'The id of the reservation that was made. NULL: none.';
COMMENT ON COLUMN authz.usage_keys.given_back IS 'What was refunded: {meter: amount}. NULL: nothing yet.';
COMMENT ON COLUMN authz.usage_keys.expires_at IS 'When the key is forgotten; infinity where nothing restarts.';
COMMENT ON CONSTRAINT usage_keys_pkey ON authz.usage_keys IS
'A key is used once in a workspace: two requests at once under one key meet here.';

COMMENT ON TABLE authz.usage_resources IS
'The resources of meters of kind level that exist by name: creating one twice takes once, deleting it twice gives
back once.';
COMMENT ON COLUMN authz.usage_resources.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.usage_resources.meter IS 'The meter, a level.';
COMMENT ON COLUMN authz.usage_resources.resource IS 'The name that the request gave it.';
COMMENT ON COLUMN authz.usage_resources.amount IS 'How much of the meter it takes.';
COMMENT ON COLUMN authz.usage_resources.decision_id IS 'The decision that allowed it.';
COMMENT ON COLUMN authz.usage_resources.revision IS 'The policy revision of that decision.';
COMMENT ON CONSTRAINT usage_resources_pkey ON authz.usage_resources IS 'A resource exists once on each meter.';
COMMENT ON CONSTRAINT usage_resources_amount_check ON authz.usage_resources IS 'What exists takes something.';

COMMENT ON TABLE authz.usage_reservations IS
'Reservations. One expires by itself at expires_at, whatever its state says. Removed by authz.tidy 30 days after
that.';
COMMENT ON COLUMN authz.usage_reservations.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.usage_reservations.id IS 'The reservation''s id, which the caller commits or releases it by.';
COMMENT ON COLUMN authz.usage_reservations.user_id IS 'The user whom it was made for.';
COMMENT ON COLUMN authz.usage_reservations.action IS 'The action that it was made for.';
COMMENT ON COLUMN authz.usage_reservations.resource IS 'The resource that the request named. NULL: none.';
COMMENT ON COLUMN authz.usage_reservations.amounts IS 'What was reserved: {meter: amount}. It never changes.';
COMMENT ON COLUMN authz.usage_reservations.committed IS
'What was committed: {meter: amount}. NULL: it is not committed.';
COMMENT ON COLUMN authz.usage_reservations.state IS 'held, committed or released. One that has expired stays held.';
COMMENT ON COLUMN authz.usage_reservations.expires_at IS 'When it ends: at this instant it holds nothing any more.';
COMMENT ON COLUMN authz.usage_reservations.key IS 'The idempotency key of the request. NULL: none.';
COMMENT ON COLUMN authz.usage_reservations.decision_id IS 'The decision that allowed it.';
COMMENT ON COLUMN authz.usage_reservations.revision IS 'The policy revision of that decision.';
COMMENT ON CONSTRAINT usage_reservations_pkey ON authz.usage_reservations IS 'One row for each reservation.';
COMMENT ON CONSTRAINT usage_reservations_id_key ON authz.usage_reservations IS
'Finds the reservation of a commit or release, which knows nothing but the id.';
COMMENT ON CONSTRAINT usage_reservations_state_check ON authz.usage_reservations IS 'The states of a reservation.';
COMMENT ON CONSTRAINT usage_reservations_committed_check ON authz.usage_reservations IS
'What was committed stands there if, and only if, it is committed.';

COMMENT ON TABLE authz.usage_holds IS
'What each open reservation holds of each meter, so that others do not get it. One that has expired counts as
nothing.';
COMMENT ON COLUMN authz.usage_holds.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.usage_holds.meter IS 'The meter.';
COMMENT ON COLUMN authz.usage_holds.reservation IS 'The id of the reservation.';
COMMENT ON COLUMN authz.usage_holds.amount IS 'How much it holds, in units of the meter.';
COMMENT ON COLUMN authz.usage_holds.period_start IS
'When the period began in which it was made: a commit is charged to that one.';
COMMENT ON COLUMN authz.usage_holds.expires_at IS 'When the reservation ends.';
COMMENT ON CONSTRAINT usage_holds_pkey ON authz.usage_holds IS 'A reservation holds each meter once.';
COMMENT ON CONSTRAINT usage_holds_amount_check ON authz.usage_holds IS 'A hold holds something.';

COMMENT ON TRIGGER forget_usage ON authz.workspaces IS
'Deletes the usage of purged workspaces, once for each statement.';

COMMENT ON FUNCTION authz.anchor_of IS
'The time from which a meter''s months are counted in a workspace.
- anchor: the meter''s: calendar or subscription.
- subscribed_at: the workspace''s.
Returns: subscribed_at for subscription, else a first of a month, 00:00 UTC.
Called by: view authz.member_facts, authz.quota_now, authz.take and authz.set_usage.';

COMMENT ON FUNCTION authz.period_at IS
'The period of a meter that a time falls in: from starts, up to and without ends. Months are counted from the anchor
and end on the last day of a month that is too short for the anchor''s day.
- per: month, day, or anything else (ever, NULL) for one period without end.
- anchored_at: where months begin (authz.anchor_of); its day and time of day in UTC count. Days begin at 00:00 UTC.
- at: the time.
- starts: (result) when the period began; -infinity where nothing restarts.
- ends: (result) when it ends; infinity where nothing restarts.
Returns: one row.
Called by: view authz.member_facts and authz.period_of.';

COMMENT ON FUNCTION authz.period_of IS
'As authz.period_at, as one value.
- per: month, day, or anything else for one period without end.
- anchored_at: where months begin.
- at: the time.
Returns: the period as a range.
Called by: authz.quota_now, authz.take and authz.set_usage.';

COMMENT ON FUNCTION authz.amounts_of IS
'Puts meters and amounts together.
- meters: the meters.
- amounts: how much of each, in the order of meters.
Returns: {meter: amount}.
Called by: authz.take and authz.refund.';

COMMENT ON FUNCTION authz.reserved_of IS
'How much open reservations hold of a meter.
- workspace_id: the workspace.
- meter: the meter.
- since: when the current period began; holds of older periods are not counted.
- moment: at which time; a hold that ends at it is not counted.
Returns: the sum, in units of the meter; 0 if there are none.
Called by: view authz.member_facts, authz.quota_now and authz.take.';

COMMENT ON FUNCTION authz.quota_now IS
'The plan, overridden limits and usage of a workspace after a change of usage, by the clock of this moment.
- workspace_id: the workspace.
- meters: the meters.
Returns: {plan, at, limits, usage}: limits is {meter: limit or null} of overrides that hold, usage is {meter: [used,
reserved, resets at or null]}. NULL if there is no such workspace.
Called by: authz.repeat_of, authz.reservation_now, authz.refund and authz.release_resource.';

COMMENT ON FUNCTION authz.counters_locked IS
'Locks counters that exist, in the order of their meters, until the transaction ends.
- workspace_id: the workspace.
- meters: the meters.
Returns: nothing.
Called by: authz.usage_locked, authz.reservation_locked, authz.refund and authz.release_resource.';

COMMENT ON FUNCTION authz.usage_locked IS
'Locks every counter of a workspace, creating those that are missing. For a transaction that is going to change or
delete the workspace itself and its usage: counters are locked before the workspace, or it could deadlock with who
takes quota.
- of_workspace: the workspace.
Returns: nothing.
Called by: authz.recount and authz.set_usage; the owner, in sidecar load.';

COMMENT ON FUNCTION authz.move_usage IS
'Changes a counter and writes the line in the ledger. The caller holds the counter''s lock. A period that is over is
changed in the ledger alone.
- workspace_id: the workspace.
- meter: the meter.
- period_start: when the period that is charged began.
- amount: how much; negative to give back.
- kind: commit or release, as usage_ledger.kind.
- decision_id: the decision that charged it.
- user_id: the user; NULL when it is given back.
- action: the action; NULL when it is given back.
- resource: the resource; NULL: none.
Returns: nothing.
Called by: authz.commit_reservation, authz.refund and authz.release_resource.';

COMMENT ON FUNCTION authz.consume IS
'Takes from one counter in the fast way: if the workspace, the period and the overrides are as the decision saw
them, there is room, nothing is reserved and the key is new. Else it does nothing, and authz.take is to be called.
Waits for the counter''s lock.
- workspace_id: the workspace.
- facts_version: its facts_version when the decision was made.
- ceiling: the limit that holds, an override included; NULL is unlimited.
- starts: when the period that the decision saw began.
- ends: when it ends; NULL: never.
- until: when the first override that the decision saw ends; NULL: none ends.
- user_id: the user.
- action: the action.
- meter: the meter: a counter, or a level without a resource.
- amount: how much, more than 0.
- resource: the resource, which is only noted in the ledger; NULL: none.
- key: the idempotency key; NULL: none.
- fingerprint: of the request; see usage_keys.fingerprint.
- decision_id: the decision.
- answer: what a retry is told again; see usage_keys.answer.
Returns: [when, used by then]; NULL if nothing was done.
Called by: authz_sidecar, to consume where one counter is taken and nothing speaks against it.';

COMMENT ON FUNCTION authz.repeat_of IS
'Whether a request was carried out before: under its key, or because its resource exists.
- workspace_id: the workspace.
- meters: the meters that it takes.
- resource: the resource that it names; NULL: none.
- key: its idempotency key; NULL: none.
- fingerprint: of the request.
- moment: at which time the key must not have expired.
Returns: NULL if this is the first time; else an object with outcome:
key_reused (another request had the key);
repeated, with decision_id, answer, at, quota, reservation as in usage_keys;
repeated, with decision_id, revision, now (authz.quota_now), if the resource exists on every level among the meters.
Called by: authz.repeated and authz.take.';

COMMENT ON FUNCTION authz.repeated IS
'As authz.repeat_of at this moment: a request that would be denied now is answered as before if it was carried out
before.
- workspace_id: the workspace.
- meters: the meters that it takes.
- resource: the resource that it names; NULL: none.
- key: its idempotency key; NULL: none.
- fingerprint: of the request.
Returns: as authz.repeat_of.
Called by: authz_sidecar, when a request with a key or a resource is denied.';

COMMENT ON FUNCTION authz.take IS
'Consumes or reserves: all meters or none. Under the locks of the counters it looks again at the workspace''s
version, the period, the limits and the key or resource, since others may have changed them after the decision.
- workspace_id: the workspace.
- facts_version: its facts_version when the decision was made.
- user_id: the user.
- action: the action.
- meters: the meters, in the order of their names, in which they are locked.
- amounts: how much of each, in the order of meters.
- limits: the plan''s limit of each, in the order of meters; NULL is unlimited. An override replaces it.
- resource: the resource; on a level it is created, and only once. NULL: none.
- key: the idempotency key; NULL: none.
- fingerprint: of the request; see usage_keys.fingerprint.
- ttl_s: for how many seconds to reserve; NULL: consume.
- reservation: the id of the reservation to make; without ttl_s: of an expired one that is committed late; else NULL.
- decision_id: the decision.
- revision: its policy revision.
- answer: what a retry is told again; see usage_keys.answer.
Returns: an object with outcome:
taken, with at, quota ({meter: [limit or null, used, reserved, resets at or null]}) and reservation ({id,
expires_at, amounts} or null);
repeated or key_reused, as authz.repeat_of;
refused (no room), with facts, as authz.facts;
stale (the workspace or the period has changed: decide again);
settled (the reservation to be committed late is committed or released).
Raises: 22023 for a meter that counts members; P0002 for one that is not in authz.meters.
Called by: authz_sidecar, to consume or reserve, and to commit a reservation that has expired.';

COMMENT ON FUNCTION authz.settle IS
'Marks a reservation as committed, removes its holds, and notes in its key what was taken, so that it can be refunded.
- workspace_id: the workspace.
- reservation: the reservation''s id.
- committed: what is committed: {meter: amount}.
- meters: the meters that were charged.
- amounts: how much of each, in the order of meters.
- starts: when the charged period of each began, in the order of meters.
Returns: nothing.
Called by: authz.commit_reservation and authz.take.';

COMMENT ON FUNCTION authz.reservation_locked IS
'Finds a reservation and locks it, its counters first.
- reservation: its id.
Returns: the row of authz.usage_reservations; all NULL if there is none.
Called by: authz.commit_reservation and authz.release_reservation.';

COMMENT ON FUNCTION authz.reservation_now IS
'What is answered after a commit or release.
- reservation: the row of authz.usage_reservations.
- replayed: whether it had been settled so before.
Returns: {outcome: settled, replayed, id, workspace_id, state, expires_at, amounts, committed, now (authz.quota_now)}.
Called by: authz.commit_reservation and authz.release_reservation.';

COMMENT ON FUNCTION authz.commit_reservation IS
'Charges what was reserved, or less, to the period in which it was reserved. Limits and rights are not looked at
again.
- reservation: its id.
- amounts: how much of each meter: {meter: amount}; a meter that is not named is committed whole. NULL: all of them.
Returns: an object with outcome:
settled, as authz.reservation_now; also when the same was committed before;
unknown (no such reservation);
not_held, with meters (those that were never reserved) and amounts (what is reserved);
exceeds, with meters (those with more than is reserved) and amounts (what is reserved);
expired, with workspace_id, user, action, resource and amounts, for a new decision;
committed or released (it was settled in another way before).
Called by: authz_sidecar, to commit a reservation.';

COMMENT ON FUNCTION authz.release_reservation IS
'Gives back all that a reservation holds.
- reservation: its id.
Returns: an object with outcome: settled, as authz.reservation_now, also when it was released before; unknown (no such
reservation); committed (it is too late).
Called by: authz_sidecar, to release a reservation.';

COMMENT ON FUNCTION authz.let_go IS
'Lets a resource go, whole or in part, whose amount is refunded, so that it is not given back twice.
- of_workspace: the workspace.
- of_meter: the meter.
- of_resource: the resource; NULL: none.
- by_decision: the decision that created it: one that was created again since is another.
- amount: how much of it is refunded.
Returns: whether the amount is to be given back: true without a resource or on a meter that is no level; false if
the resource is gone.
Called by: authz.refund.';

COMMENT ON FUNCTION authz.refund IS
'Gives back what was taken under an idempotency key, or committed of its reservation: once, whole or in part, in the
period in which it was taken. The key stays used.
- workspace: the workspace''s UUID or slug.
- key: the idempotency key.
- amounts: how much of each meter: {meter: amount}; a meter that is not named is not refunded. NULL: all of it.
Returns: an object with outcome:
given_back, with replayed (nothing was given back now), released ({meter: amount}) and now (authz.quota_now);
unknown_workspace; unknown (no such key, or it has expired);
exceeds (more than was taken, or another amount than before), with taken and given_back ({meter: amount} or null).
Called by: authz_sidecar, to refund what a key has taken.';

COMMENT ON FUNCTION authz.release_resource IS
'Gives back what a resource that was deleted takes of a level.
- workspace: the workspace''s UUID or slug.
- meter: the meter.
- resource: the resource.
Returns: an object with outcome: given_back, with replayed (it was not there), released ({meter: amount}) and now
(authz.quota_now); or unknown_workspace.
Called by: authz_sidecar, when a resource was deleted.';

COMMENT ON FUNCTION authz.forget_usage IS
'Trigger: deletes the reservations, holds, keys, resources and ledger of purged workspaces, which have no foreign
keys.
Returns: NULL.
Called by: trigger forget_usage on authz.workspaces.';

COMMENT ON FUNCTION authz.miscounts IS
'What of a workspace does not add up: counters and resources that are not the sum of their ledger, and a
member_count that is not the number of memberships. It locks nothing.
- of_workspace: the workspace.
- kind: (result) counter, resource or members.
- meter: (result) the meter; NULL for members.
- resource: (result) the resource; NULL for the other kinds.
- counted: (result) what the database goes by.
- expected: (result) what the ledger or the memberships add up to.
- period_start: (result) when the counter''s period began; -infinity for a resource, NULL for members.
Returns: a row for each difference; none if all is well.
Called by: authz.recount; the owner, in sidecar recount.';

COMMENT ON FUNCTION authz.recount IS
'Puts right what authz.miscounts finds in a workspace: counters and resources become the sum of their ledger,
member_count the number of memberships. Locks the counters and the workspace.
- of_workspace: the workspace.
Returns: nothing.
Called by: the owner, in sidecar recount --fix.';

COMMENT ON FUNCTION authz.tidy IS
'Deletes what no answer depends on any more, in a part of each table: keys and holds that have expired, and
reservations that ended 30 days ago. Passes over rows that another session has locked.
- from_page: the first page (of 8 kB, unless the server was built otherwise) of each table to look at.
- pages: how many pages.
Returns: how many rows were deleted; NULL if no table is as long.
Called by: the owner, in sidecar tidy.';

COMMENT ON FUNCTION authz.set_usage IS
'Makes usage of the current periods what is stated, with lines of kind adjust in the ledger. Forgets the workspace''s
reservations, keys and resources.
- workspace_id: the workspace.
- meters: the meters; one that is not named has used nothing.
- used: how much of each was used, in the order of meters.
Returns: nothing.
Called by: the owner, by hand and in sidecar load.';
