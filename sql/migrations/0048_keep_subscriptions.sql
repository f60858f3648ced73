-- What a biller says of a workspace is kept event by event, and folded in an order of its own, so that events may come
-- late, twice and out of order. What follows from it stands in authz.workspaces: plan_tier, status and seats as they are
-- at the last write, and in turns what will change by time alone, so that no job has to run.

ALTER TABLE authz.catalog ADD COLUMN billing jsonb;
COMMENT ON COLUMN authz.catalog.billing IS
'What the statuses of a subscription mean: {grace_days, past_due, unpaid, paused, canceled, trial}, each but the first
a plan, or null for suspended. NULL: the defaults (authz.billing_of).';

ALTER TABLE authz.workspaces
    ADD COLUMN given_plan text COLLATE "C",
    ADD COLUMN given_status text,
    ADD COLUMN status_as_of timestamptz,
    ADD COLUMN seats bigint,
    ADD COLUMN turns jsonb,
    ADD COLUMN turns_at timestamptz,
    ADD CONSTRAINT workspaces_given_check CHECK ((given_plan IS NULL) = (given_status IS NULL)),
    ADD CONSTRAINT workspaces_given_status_check CHECK (given_status IN ('active', 'suspended')),
    ADD CONSTRAINT workspaces_seats_check CHECK (seats >= 0),
    ADD CONSTRAINT workspaces_turns_check CHECK ((turns IS NULL) = (turns_at IS NULL));
COMMENT ON COLUMN authz.workspaces.plan_tier IS
'The plan that it has, as of the last write: authz.workspaces_now has it as of now.';
COMMENT ON COLUMN authz.workspaces.status IS
'active, or suspended: then the policies deny every action in it. As of the last write: authz.workspaces_now has it as
of now.';
COMMENT ON COLUMN authz.workspaces.plan_as_of IS
'The date of the event that set the plan: authz.set_plan ignores events that are older, and a later event of a
subscription wins over it. NULL: no plan was set yet, so an event of any date is applied.';
COMMENT ON COLUMN authz.workspaces.given_plan IS
'The plan by authz.set_plan, where a subscription speaks too. NULL: there is no subscription, and plan_tier is it.';
COMMENT ON COLUMN authz.workspaces.given_status IS
'The status by authz.set_status, where a subscription speaks too. NULL: there is no subscription, and status is it.';
COMMENT ON COLUMN authz.workspaces.status_as_of IS
'The date of the event that set the status: authz.set_status ignores events that are older. NULL: none was set yet.';
COMMENT ON COLUMN authz.workspaces.seats IS
'How many members its subscription allows, while it gives plan_tier. NULL: it does not say.';
COMMENT ON COLUMN authz.workspaces.turns IS
'What changes by time alone, if nothing is written: a list of {at, plan, status, seats}, by at. NULL: nothing.';
COMMENT ON COLUMN authz.workspaces.turns_at IS 'When the first of turns comes. NULL: there are none.';
COMMENT ON CONSTRAINT workspaces_given_check ON authz.workspaces IS 'Both are there with a subscription, or neither.';
COMMENT ON CONSTRAINT workspaces_given_status_check ON authz.workspaces IS 'The statuses of a workspace.';
COMMENT ON CONSTRAINT workspaces_seats_check ON authz.workspaces IS 'Seats are not negative.';
COMMENT ON CONSTRAINT workspaces_turns_check ON authz.workspaces IS 'turns_at is the first of turns.';
CREATE INDEX workspaces_given_plan_idx ON authz.workspaces (given_plan) WHERE given_plan IS NOT NULL;
COMMENT ON INDEX authz.workspaces_given_plan_idx IS
'Finds the workspaces that were given a plan, when the catalog is to drop it.';

DROP TRIGGER raise_version ON authz.workspaces;
CREATE TRIGGER raise_version
    BEFORE UPDATE OF plan_tier, status, seats, turns, subscribed_at ON authz.workspaces
    FOR EACH ROW
    WHEN (
        OLD.plan_tier IS DISTINCT FROM NEW.plan_tier
        OR OLD.status IS DISTINCT FROM NEW.status
        OR OLD.seats IS DISTINCT FROM NEW.seats
        OR OLD.turns IS DISTINCT FROM NEW.turns
        OR OLD.subscribed_at IS DISTINCT FROM NEW.subscribed_at
    )
    EXECUTE FUNCTION authz.raise_version_of_workspace();
COMMENT ON TRIGGER raise_version ON authz.workspaces IS
'Raises facts_version when the plan, the status, or what follows from a subscription changes.';
COMMENT ON FUNCTION authz.raise_version_of_workspace IS
'Trigger: raises facts_version by 1, so that decisions made before are stale.
Returns: the new row.
Called by: trigger raise_version on authz.workspaces, before what decisions are made of changes.';

ALTER TABLE authz.workspace_features
    ADD COLUMN while_plan text COLLATE "C",
    ADD COLUMN stated_expires_at timestamptz,
    ADD CONSTRAINT workspace_features_while_plan_check CHECK (while_plan IS NOT NULL OR stated_expires_at IS NULL);
COMMENT ON COLUMN authz.workspace_features.while_plan IS
'The plan with which the override ends: it holds while the workspace has it. NULL: whatever the plan.';
COMMENT ON COLUMN authz.workspace_features.stated_expires_at IS
'With while_plan: when it ends at the latest, as it was given; expires_at is when the plan turns by time, if that is
earlier. NULL: it was given without an end, or without while_plan.';
COMMENT ON CONSTRAINT workspace_features_while_plan_check ON authz.workspace_features IS
'What was stated is kept apart where expires_at may be another.';

CREATE TABLE authz.subscription_events (
    workspace_id uuid NOT NULL,
    source text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    subscription text COLLATE "C" NOT NULL,
    as_of timestamptz NOT NULL,
    status text NOT NULL,
    rank smallint NOT NULL,
    plan text COLLATE "C" NOT NULL,
    seats bigint,
    trial_ends_at timestamptz,
    billing_anchor timestamptz,
    fingerprint text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT subscription_events_pkey PRIMARY KEY (workspace_id, source, event),
    CONSTRAINT subscription_events_workspace_id_fkey
        FOREIGN KEY (workspace_id) REFERENCES authz.workspaces (id) ON DELETE CASCADE,
    CONSTRAINT subscription_events_seats_check CHECK (seats >= 0),
    CONSTRAINT subscription_events_trial_ends_at_check CHECK (status <> 'trialing' OR trial_ends_at IS NOT NULL)
);
COMMENT ON TABLE authz.subscription_events IS
'What a biller has said, each event once and never changed. The state of a subscription is a fold over its events in the
order of (as_of, rank, event, source), whenever they came.';
COMMENT ON COLUMN authz.subscription_events.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.subscription_events.source IS 'Who said it: api, stripe, or as the caller names itself.';
COMMENT ON COLUMN authz.subscription_events.event IS 'The event''s name, unique within its source.';
COMMENT ON COLUMN authz.subscription_events.subscription IS 'The subscription that it is of.';
COMMENT ON COLUMN authz.subscription_events.as_of IS 'When it happened, by the biller''s clock.';
COMMENT ON COLUMN authz.subscription_events.status IS
'trialing, active, past_due, paused, unpaid or canceled from then on.';
COMMENT ON COLUMN authz.subscription_events.rank IS 'Which of two events of one date is the later one, by status.';
COMMENT ON COLUMN authz.subscription_events.plan IS 'The plan from then on.';
COMMENT ON COLUMN authz.subscription_events.seats IS 'How many members it allows. NULL: it does not say.';
COMMENT ON COLUMN authz.subscription_events.trial_ends_at IS 'When the trial ends. NULL: there is none.';
COMMENT ON COLUMN authz.subscription_events.billing_anchor IS
'Where the workspace''s months begin. NULL: it does not say.';
COMMENT ON COLUMN authz.subscription_events.fingerprint IS
'SHA-256 of what it said, so that another body under its name is refused.';
COMMENT ON COLUMN authz.subscription_events.received_at IS 'When it came.';
COMMENT ON CONSTRAINT subscription_events_pkey ON authz.subscription_events IS
'An event counts once: a biller may send it as often as it likes.';
COMMENT ON CONSTRAINT subscription_events_workspace_id_fkey ON authz.subscription_events IS
'A purged workspace takes its events with it.';
COMMENT ON CONSTRAINT subscription_events_seats_check ON authz.subscription_events IS 'Seats are not negative.';
COMMENT ON CONSTRAINT subscription_events_trial_ends_at_check ON authz.subscription_events IS
'A trial has an end.';
CREATE INDEX subscription_events_order_idx
    ON authz.subscription_events (workspace_id, subscription, as_of, rank, event, source);
COMMENT ON INDEX authz.subscription_events_order_idx IS 'Gives the events of a subscription in the order of the fold.';

CREATE TABLE authz.workspace_subscriptions (
    workspace_id uuid NOT NULL,
    subscription text COLLATE "C" NOT NULL,
    plan text COLLATE "C" NOT NULL,
    status text NOT NULL,
    seats bigint,
    trial_ends_at timestamptz,
    past_due_since timestamptz,
    billing_anchor timestamptz,
    as_of timestamptz NOT NULL,
    event text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    CONSTRAINT workspace_subscriptions_pkey PRIMARY KEY (workspace_id, subscription),
    CONSTRAINT workspace_subscriptions_workspace_id_fkey
        FOREIGN KEY (workspace_id) REFERENCES authz.workspaces (id) ON DELETE CASCADE
);
COMMENT ON TABLE authz.workspace_subscriptions IS
'The subscriptions of workspaces, as authz.subscription_events say: the fold, kept by authz.fold_subscription.';
COMMENT ON COLUMN authz.workspace_subscriptions.workspace_id IS 'The workspace.';
COMMENT ON COLUMN authz.workspace_subscriptions.subscription IS 'Its name, whoever speaks of it.';
COMMENT ON COLUMN authz.workspace_subscriptions.plan IS
'The plan of its last event. Not a foreign key: a canceled one outlives its plan.';
COMMENT ON COLUMN authz.workspace_subscriptions.status IS 'The status of its last event.';
COMMENT ON COLUMN authz.workspace_subscriptions.seats IS 'The seats of its last event. NULL: it does not say.';
COMMENT ON COLUMN authz.workspace_subscriptions.trial_ends_at IS 'The end of the trial by its last event. NULL: none.';
COMMENT ON COLUMN authz.workspace_subscriptions.past_due_since IS
'The date of the first of consecutive events of status past_due, from which the grace counts. NULL: it is not past due.';
COMMENT ON COLUMN authz.workspace_subscriptions.billing_anchor IS
'The last that any of its events names. NULL: none does.';
COMMENT ON COLUMN authz.workspace_subscriptions.as_of IS 'The date of its last event.';
COMMENT ON COLUMN authz.workspace_subscriptions.event IS 'Its last event.';
COMMENT ON COLUMN authz.workspace_subscriptions.source IS 'Who said its last event.';
COMMENT ON CONSTRAINT workspace_subscriptions_pkey ON authz.workspace_subscriptions IS
'One row for each subscription of a workspace.';
COMMENT ON CONSTRAINT workspace_subscriptions_workspace_id_fkey ON authz.workspace_subscriptions IS
'A purged workspace takes its subscriptions with it.';
CREATE INDEX workspace_subscriptions_plan_idx ON authz.workspace_subscriptions (plan) WHERE status <> 'canceled';
COMMENT ON INDEX authz.workspace_subscriptions_plan_idx IS
'Finds the subscriptions of a plan, when the catalog is to drop it.';

CREATE FUNCTION authz.turn_at(turns jsonb, moment timestamptz)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT t.turn
    FROM jsonb_array_elements(turns) WITH ORDINALITY AS t (turn, number)
    WHERE (t.turn ->> 'at')::timestamptz <= moment
    ORDER BY t.number DESC
    LIMIT 1
);
COMMENT ON FUNCTION authz.turn_at IS 'The last of what has changed by time at a moment.
- turns: as workspaces.turns.
- moment: the moment.
Returns: {at, plan, status, seats}; NULL if none has come.
Called by: authz.plan_at, authz.status_at, authz.seats_at and authz.workspaces_at.';
REVOKE ALL ON FUNCTION authz.turn_at FROM PUBLIC;

-- These are inlined into the queries that call them: without a turn that has come they cost one comparison.
CREATE FUNCTION authz.plan_at(plan text, turns_at timestamptz, turns jsonb, moment timestamptz)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN turns_at <= moment THEN authz.turn_at(turns, moment) ->> 'plan' ELSE plan END;
COMMENT ON FUNCTION authz.plan_at IS 'The plan of a workspace at a moment from its last write on.
- plan: its plan_tier.
- turns_at: its turns_at.
- turns: its turns.
- moment: the moment.
Returns: the plan.
Called by: authz.workspaces_now, authz.quota_now, authz.advance, authz.set_overrides and authz.workspace_state.';
REVOKE ALL ON FUNCTION authz.plan_at FROM PUBLIC;

CREATE FUNCTION authz.status_at(status text, turns_at timestamptz, turns jsonb, moment timestamptz)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN turns_at <= moment THEN authz.turn_at(turns, moment) ->> 'status' ELSE status END;
COMMENT ON FUNCTION authz.status_at IS 'The status of a workspace at a moment from its last write on.
- status: its status.
- turns_at: its turns_at.
- turns: its turns.
- moment: the moment.
Returns: active or suspended.
Called by: authz.workspaces_now and authz.workspace_state.';
REVOKE ALL ON FUNCTION authz.status_at FROM PUBLIC;

CREATE FUNCTION authz.seats_at(seats bigint, turns_at timestamptz, turns jsonb, moment timestamptz)
RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN turns_at <= moment THEN (authz.turn_at(turns, moment) ->> 'seats')::bigint ELSE seats END;
COMMENT ON FUNCTION authz.seats_at IS 'The seats of a workspace by its subscription at a moment from its last write on.
- seats: its seats.
- turns_at: its turns_at.
- turns: its turns.
- moment: the moment.
Returns: how many; NULL: its subscription does not say.
Called by: authz.workspaces_now and authz.seats_for.';
REVOKE ALL ON FUNCTION authz.seats_at FROM PUBLIC;

CREATE FUNCTION authz.later_turn(turns jsonb, moment timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT min((t.turn ->> 'at')::timestamptz)
    FROM jsonb_array_elements(turns) AS t (turn)
    WHERE (t.turn ->> 'at')::timestamptz > moment
);
COMMENT ON FUNCTION authz.later_turn IS 'The first of what changes by time after a moment.
- turns: as workspaces.turns.
- moment: the moment.
Returns: when; NULL if nothing does.
Called by: authz.turn_after.';
REVOKE ALL ON FUNCTION authz.later_turn FROM PUBLIC;

CREATE FUNCTION authz.turn_after(turns_at timestamptz, turns jsonb, moment timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN turns_at <= moment THEN authz.later_turn(turns, moment) ELSE turns_at END;
COMMENT ON FUNCTION authz.turn_after IS 'When a workspace changes next by time alone.
- turns_at: its turns_at.
- turns: its turns.
- moment: from which moment on.
Returns: the time; NULL: never.
Called by: authz.workspaces_now and authz.take.';
REVOKE ALL ON FUNCTION authz.turn_after FROM PUBLIC;

CREATE VIEW authz.workspaces_now AS
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
    w.deleted_at
FROM authz.workspaces AS w;
COMMENT ON VIEW authz.workspaces_now IS
'The workspaces as they are at the beginning of the statement: what ends by time has ended.';
COMMENT ON COLUMN authz.workspaces_now.id IS 'The workspace''s UUID.';
COMMENT ON COLUMN authz.workspaces_now.slug IS 'Its slug.';
COMMENT ON COLUMN authz.workspaces_now.name IS 'Its name.';
COMMENT ON COLUMN authz.workspaces_now.plan_tier IS 'The plan that it has.';
COMMENT ON COLUMN authz.workspaces_now.status IS 'active or suspended.';
COMMENT ON COLUMN authz.workspaces_now.status_reason IS 'Why an administrator gave it a status. NULL: nobody said.';
COMMENT ON COLUMN authz.workspaces_now.seats IS
'How many members its subscription allows in this plan. NULL: it does not say.';
COMMENT ON COLUMN authz.workspaces_now.turns_at IS 'When plan, status or seats change next by time. NULL: never.';
COMMENT ON COLUMN authz.workspaces_now.plan_as_of IS 'The date of the plan that it was given. NULL: none was.';
COMMENT ON COLUMN authz.workspaces_now.status_as_of IS 'The date of the status that it was given. NULL: none was.';
COMMENT ON COLUMN authz.workspaces_now.subscribed_at IS 'Where its months begin.';
COMMENT ON COLUMN authz.workspaces_now.member_count IS 'How many memberships it has.';
COMMENT ON COLUMN authz.workspaces_now.facts_version IS 'Rises with each change.';
COMMENT ON COLUMN authz.workspaces_now.created_at IS 'When it was created.';
COMMENT ON COLUMN authz.workspaces_now.deleted_at IS 'When it was deleted. NULL: it is not.';

CREATE FUNCTION authz.billing_of(catalog authz.catalog)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN COALESCE((catalog).billing, jsonb_build_object(
    'grace_days', 7,
    'past_due', NULL,
    'unpaid', NULL,
    'paused', NULL,
    'canceled', (catalog).default_plan,
    'trial', (catalog).default_plan
));
COMMENT ON FUNCTION authz.billing_of IS 'What the statuses of a subscription mean.
- catalog: the row of authz.catalog.
Returns: as catalog.billing, or the defaults.
Called by: authz.subscribed, authz.ends_of and authz.refold_all.';
REVOKE ALL ON FUNCTION authz.billing_of FROM PUBLIC;

CREATE FUNCTION authz.subscribed(
    of_workspace uuid,
    moment timestamptz,
    OUT subscription text,
    OUT plan text,
    OUT suspends boolean,
    OUT seats bigint,
    OUT as_of timestamptz
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT
        s.subscription,
        CASE WHEN p.ended IS NULL THEN s.plan ELSE COALESCE(b.billing ->> p.ended, s.plan) END,
        p.ended IS NOT NULL AND b.billing ->> p.ended IS NULL,
        CASE WHEN p.ended IS NULL THEN s.seats END,
        s.as_of
    INTO subscription, plan, suspends, seats, as_of
    FROM authz.workspace_subscriptions AS s
    CROSS JOIN (SELECT authz.billing_of(c) AS billing FROM authz.catalog AS c) AS b
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN s.status = 'trialing' AND s.trial_ends_at <= moment THEN 'trial'
            WHEN s.status = 'past_due'
                AND s.past_due_since + make_interval(hours => 24 * (b.billing ->> 'grace_days')::integer) <= moment
                THEN 'past_due'
            WHEN s.status IN ('paused', 'unpaid', 'canceled') THEN s.status
        END AS ended
    ) AS p
    WHERE s.workspace_id = of_workspace
    ORDER BY
        array_position(
            ARRAY['active', 'trialing', 'past_due', 'paused', 'unpaid', 'canceled'],
            CASE p.ended WHEN 'trial' THEN 'canceled' ELSE s.status END
        ),
        s.as_of DESC,
        s.event DESC,
        s.subscription DESC
    LIMIT 1;
END;
$$;
COMMENT ON FUNCTION authz.subscribed IS 'What the subscriptions of a workspace give at a moment: what the best of them does.
- of_workspace: the workspace.
- moment: the moment.
- subscription: (result) the effective subscription. NULL, as the rest: there is none.
- plan: (result) the plan that it gives.
- suspends: (result) whether it suspends the workspace.
- seats: (result) how many members it allows, while it gives the plan that it names. NULL: it does not say.
- as_of: (result) the date of its last event.
Returns: one row.
Called by: authz.state_at.';
REVOKE ALL ON FUNCTION authz.subscribed FROM PUBLIC;

CREATE FUNCTION authz.state_at(workspace authz.workspaces, moment timestamptz)
RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    best CONSTANT record := authz.subscribed(workspace.id, moment);
    -- The plan that a workspace was made with has no date, and wins over nothing.
    given CONSTANT boolean := best.subscription IS NULL OR COALESCE(workspace.plan_as_of > best.as_of, false);
    plan CONSTANT text := CASE WHEN given THEN workspace.given_plan ELSE best.plan END;
BEGIN
    RETURN jsonb_build_object(
        'at', moment,
        -- A plan that the catalog has dropped since: that of a subscription that is canceled.
        'plan', COALESCE(
            (SELECT p.name FROM authz.plans AS p WHERE p.name = plan),
            (SELECT c.default_plan FROM authz.catalog AS c)
        ),
        'status', CASE
            WHEN workspace.given_status = 'suspended' OR COALESCE(best.suspends, false) THEN 'suspended'
            ELSE 'active'
        END,
        'seats', CASE WHEN NOT given THEN best.seats END
    );
END;
$$;
COMMENT ON FUNCTION authz.state_at IS
'What a workspace is at a moment by its three clocks: the plan and the status that it was given, and its subscriptions.
- workspace: the row of authz.workspaces, with given_plan and given_status.
- moment: the moment.
Returns: {at, plan, status, seats}.
Called by: authz.fold.';
REVOKE ALL ON FUNCTION authz.state_at FROM PUBLIC;

CREATE FUNCTION authz.ends_of(of_workspace uuid, moment timestamptz)
RETURNS SETOF timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT DISTINCT e.ends
    FROM authz.workspace_subscriptions AS s
    CROSS JOIN authz.catalog AS c
    CROSS JOIN LATERAL (
        SELECT CASE s.status
            WHEN 'trialing' THEN s.trial_ends_at
            WHEN 'past_due' THEN s.past_due_since
                + make_interval(hours => 24 * (authz.billing_of(c) ->> 'grace_days')::integer)
        END AS ends
    ) AS e
    WHERE s.workspace_id = of_workspace AND e.ends > moment
    ORDER BY e.ends;
END;
$$;
COMMENT ON FUNCTION authz.ends_of IS 'When trials and graces of a workspace end.
- of_workspace: the workspace.
- moment: from which moment on.
Returns: the times, in order.
Called by: authz.fold.';
REVOKE ALL ON FUNCTION authz.ends_of FROM PUBLIC;

CREATE FUNCTION authz.drop_ended_overrides(of_workspace uuid, plan text, moment timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM authz.workspace_features AS f
    WHERE f.workspace_id = of_workspace AND (f.while_plan <> drop_ended_overrides.plan OR f.expires_at <= moment)
      AND f.while_plan IS NOT NULL;
END;
$$;
COMMENT ON FUNCTION authz.drop_ended_overrides IS
'Removes the overrides that were to hold until the plan changes, and hold no more.
- of_workspace: the workspace, locked.
- plan: the plan that it has.
- moment: now.
Returns: nothing.
Called by: authz.advance and authz.fold.';
REVOKE ALL ON FUNCTION authz.drop_ended_overrides FROM PUBLIC;

CREATE FUNCTION authz.advance(of_workspace uuid, moment timestamptz)
RETURNS authz.workspaces
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    workspace authz.workspaces;
BEGIN
    SELECT w.* INTO workspace FROM authz.workspaces AS w WHERE w.id = of_workspace;
    PERFORM authz.drop_ended_overrides(
        of_workspace,
        authz.plan_at(workspace.plan_tier, workspace.turns_at, workspace.turns, moment),
        moment
    );
    IF workspace.given_plan IS NULL THEN
        workspace.given_plan := workspace.plan_tier;
        workspace.given_status := workspace.status;
    END IF;
    RETURN workspace;
END;
$$;
COMMENT ON FUNCTION authz.advance IS
'Begins a write of a workspace: removes the overrides that no longer hold.
- of_workspace: the workspace, locked.
- moment: now.
Returns: the row of authz.workspaces, with given_plan and given_status in any case.
Called by: authz.set_plan, authz.set_status, authz.set_overrides, authz.put_subscription and authz.refold_all.';
REVOKE ALL ON FUNCTION authz.advance FROM PUBLIC;

CREATE FUNCTION authz.fold(workspace authz.workspaces, moment timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    has_subscription CONSTANT boolean := EXISTS (
        SELECT FROM authz.workspace_subscriptions AS s WHERE s.workspace_id = workspace.id
    );
    now CONSTANT jsonb := authz.state_at(workspace, moment);
    last jsonb := now;
    turn jsonb;
    ends timestamptz;
    to_come jsonb := '[]';
BEGIN
    IF has_subscription THEN
        FOR ends IN SELECT e FROM authz.ends_of(workspace.id, moment) AS e LOOP
            turn := authz.state_at(workspace, ends);
            IF turn - 'at' <> last - 'at' THEN
                to_come := to_come || turn;
                last := turn;
            END IF;
        END LOOP;
    END IF;
    UPDATE authz.workspaces AS w
    SET plan_tier = now ->> 'plan',
        status = now ->> 'status',
        seats = (now ->> 'seats')::bigint,
        turns = NULLIF(to_come, '[]'),
        turns_at = (to_come -> 0 ->> 'at')::timestamptz,
        given_plan = CASE WHEN has_subscription THEN workspace.given_plan END,
        given_status = CASE WHEN has_subscription THEN workspace.given_status END,
        plan_as_of = workspace.plan_as_of,
        status_as_of = workspace.status_as_of,
        status_reason = workspace.status_reason
    WHERE w.id = workspace.id;
    PERFORM authz.drop_ended_overrides(workspace.id, now ->> 'plan', moment);
    UPDATE authz.workspace_features AS f
    SET expires_at = e.ends
    FROM authz.workspace_features AS o
    CROSS JOIN LATERAL (
        SELECT LEAST(o.stated_expires_at, min((t.turn ->> 'at')::timestamptz)) AS ends
        FROM jsonb_array_elements(to_come) AS t (turn)
        WHERE t.turn ->> 'plan' <> o.while_plan
    ) AS e
    WHERE o.workspace_id = workspace.id
      AND o.while_plan IS NOT NULL
      AND (f.workspace_id, f.kind, f.name) = (o.workspace_id, o.kind, o.name)
      AND f.expires_at IS DISTINCT FROM e.ends;
END;
$$;
COMMENT ON FUNCTION authz.fold IS
'Ends a write of a workspace: plan, status, seats and what will change by time become what follows from the plan and the
status that it was given, and from its subscriptions.
- workspace: the row that authz.advance gave, with what is written; its workspace is locked.
- moment: now.
Returns: nothing.
Called by: authz.set_plan, authz.set_status, authz.set_overrides, authz.put_subscription and authz.refold_all.';
REVOKE ALL ON FUNCTION authz.fold FROM PUBLIC;

CREATE FUNCTION authz.fold_subscription(of_workspace uuid, of_subscription text)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last record;
    past_due_since timestamptz;
    anchor timestamptz;
BEGIN
    SELECT e.* INTO STRICT last
    FROM authz.subscription_events AS e
    WHERE e.workspace_id = of_workspace AND e.subscription = of_subscription
    ORDER BY e.as_of DESC, e.rank DESC, e.event DESC, e.source DESC
    LIMIT 1;
    IF last.status = 'past_due' THEN
        SELECT min(e.as_of) INTO past_due_since
        FROM authz.subscription_events AS e
        WHERE e.workspace_id = of_workspace AND e.subscription = of_subscription AND NOT EXISTS (
            SELECT FROM authz.subscription_events AS o
            WHERE o.workspace_id = of_workspace
              AND o.subscription = of_subscription
              AND o.status <> 'past_due'
              AND (o.as_of, o.rank, o.event, o.source) > (e.as_of, e.rank, e.event, e.source)
        ) AND e.status = 'past_due';
    END IF;
    SELECT e.billing_anchor INTO anchor
    FROM authz.subscription_events AS e
    WHERE e.workspace_id = of_workspace AND e.subscription = of_subscription AND e.billing_anchor IS NOT NULL
    ORDER BY e.as_of DESC, e.rank DESC, e.event DESC, e.source DESC
    LIMIT 1;
    INSERT INTO authz.workspace_subscriptions AS s (
        workspace_id, subscription, plan, status, seats, trial_ends_at, past_due_since, billing_anchor,
        as_of, event, source
    )
    VALUES (
        of_workspace, of_subscription, last.plan, last.status, last.seats, last.trial_ends_at, past_due_since,
        anchor, last.as_of, last.event, last.source
    )
    ON CONFLICT ON CONSTRAINT workspace_subscriptions_pkey DO UPDATE
    SET plan = excluded.plan,
        status = excluded.status,
        seats = excluded.seats,
        trial_ends_at = excluded.trial_ends_at,
        past_due_since = excluded.past_due_since,
        billing_anchor = excluded.billing_anchor,
        as_of = excluded.as_of,
        event = excluded.event,
        source = excluded.source
    WHERE s IS DISTINCT FROM excluded;
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION authz.fold_subscription IS
'Makes a subscription what its events say. The grace of one that is past due counts from the first of the events of that
status that nothing else follows.
- of_workspace: the workspace, locked.
- of_subscription: the subscription, which has events.
Returns: whether it has changed.
Called by: authz.put_subscription.';
REVOKE ALL ON FUNCTION authz.fold_subscription FROM PUBLIC;

CREATE FUNCTION authz.carry_usage(of_workspace uuid, anchor_before timestamptz, anchor_now timestamptz, moment timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    meter record;
    at_its_start bigint;
BEGIN
    FOR meter IN
        SELECT
            t.name, before.starts AS began, now.starts, now.ends, u.period_start, u.used,
            COALESCE(u.period_start >= before.starts, false) AS runs,
            now.starts - interval '1 microsecond' AS apart
        FROM authz.meters AS t
        CROSS JOIN LATERAL authz.period_at(t.per, anchor_before, moment) AS before
        CROSS JOIN LATERAL authz.period_at(t.per, anchor_now, moment) AS now
        LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = of_workspace AND u.meter = t.name
        WHERE t.anchor = 'subscription' AND t.per = 'month' AND before.starts <> now.starts
        ORDER BY t.name
    LOOP
        CONTINUE WHEN meter.runs AND meter.period_start = meter.starts;
        -- A period that is over may have begun at the same instant, by months of different length: it is put apart, or
        -- it would count again.
        SELECT COALESCE(sum(l.amount), 0) INTO at_its_start
        FROM authz.usage_ledger AS l
        WHERE l.workspace_id = of_workspace AND l.meter = meter.name AND l.period_start = meter.starts;
        INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
        SELECT of_workspace, moment, meter.name, a.period_start, a.amount, 'adjust'
        FROM (VALUES
            (1, meter.starts, -at_its_start),
            (2, meter.apart, at_its_start),
            (3, meter.period_start, -meter.used),
            (4, meter.starts, meter.used)
        ) AS a (number, period_start, amount)
        WHERE a.amount <> 0 AND (a.number < 3 OR meter.runs)
        ORDER BY a.number;
        UPDATE authz.usage_holds AS h
        SET period_start = CASE WHEN h.period_start >= meter.began THEN meter.starts ELSE meter.apart END
        WHERE h.workspace_id = of_workspace AND h.meter = meter.name
          AND h.period_start >= LEAST(meter.starts, meter.began);
        UPDATE authz.usage_keys AS k
        SET starts[array_position(k.meters, meter.name)] = CASE
                WHEN k.starts[array_position(k.meters, meter.name)] >= meter.began THEN meter.starts
                ELSE meter.apart
            END,
            expires_at = CASE
                WHEN k.starts[array_position(k.meters, meter.name)] >= meter.began
                    THEN greatest(k.expires_at, meter.ends + interval '24 hours')
                ELSE k.expires_at
            END
        WHERE k.workspace_id = of_workspace
          AND (
              k.starts[array_position(k.meters, meter.name)] >= meter.began
              OR k.starts[array_position(k.meters, meter.name)] = meter.starts
          );
        UPDATE authz.workspace_usage AS u
        SET period_start = meter.starts, used = CASE WHEN meter.runs THEN u.used ELSE 0 END
        WHERE u.workspace_id = of_workspace AND u.meter = meter.name
          AND (meter.runs OR u.period_start >= meter.starts);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION authz.carry_usage IS
'Moves what is used, held and refundable in the running period into the period that runs by another anchor, with lines of
kind adjust in the ledger. What is of a period that is over stays over.
- of_workspace: the workspace; its counters are locked (authz.usage_locked).
- anchor_before: its subscribed_at until now.
- anchor_now: its subscribed_at from now on.
- moment: now.
Returns: nothing.
Called by: authz.put_subscription.';
REVOKE ALL ON FUNCTION authz.carry_usage FROM PUBLIC;
COMMENT ON COLUMN authz.usage_ledger.kind IS
'consume, commit (of a reservation), release (given back), or adjust (by an operator or sidecar load, or because the
billing day has moved).';

CREATE FUNCTION authz.dated(as_of timestamptz, moment timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT isfinite(as_of) THEN
        RAISE EXCEPTION 'as_of is not a date: %', as_of USING ERRCODE = '22023';
    ELSIF as_of > moment + interval '5 minutes' THEN
        RAISE EXCEPTION 'as_of % is more than five minutes ahead of the clock of the database, %', as_of, moment
            USING ERRCODE = 'AZ004';
    END IF;
    RETURN COALESCE(as_of, moment);
END;
$$;
COMMENT ON FUNCTION authz.dated IS 'The date of an event that an administrator or a biller tells of.
- as_of: the date; NULL: now.
- moment: now.
Returns: the date.
Raises: 22023 if it is infinite; AZ004 if it is more than five minutes ahead.
Called by: authz.set_plan, authz.set_status and authz.put_subscription.';
REVOKE ALL ON FUNCTION authz.dated FROM PUBLIC;

CREATE FUNCTION authz.subscription_document(subscription authz.workspace_subscriptions)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN to_jsonb(subscription) - 'workspace_id';
COMMENT ON FUNCTION authz.subscription_document IS 'A subscription as it is stored.
- subscription: the row of authz.workspace_subscriptions.
Returns: {subscription, plan, status, seats, trial_ends_at, past_due_since, billing_anchor, as_of, event, source}.
Called by: authz.record_subscription and authz.workspace_state.';
REVOKE ALL ON FUNCTION authz.subscription_document FROM PUBLIC;

CREATE FUNCTION authz.record_subscription()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
BEGIN
    PERFORM authz.record(NEW.workspace_id, 'subscription.set', authz.subscription_document(NEW));
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.record_subscription IS 'Trigger: records what a subscription has become.
Returns: NULL.
Called by: trigger record_subscription on authz.workspace_subscriptions.';
REVOKE ALL ON FUNCTION authz.record_subscription FROM PUBLIC;
CREATE TRIGGER record_subscription
    AFTER INSERT OR UPDATE ON authz.workspace_subscriptions
    FOR EACH ROW EXECUTE FUNCTION authz.record_subscription();
COMMENT ON TRIGGER record_subscription ON authz.workspace_subscriptions IS 'Records subscription.set.';
CREATE TRIGGER refuse_truncate
    BEFORE TRUNCATE ON authz.workspace_subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION authz.refuse_unrecorded();
COMMENT ON TRIGGER refuse_truncate ON authz.workspace_subscriptions IS
'Refuses TRUNCATE, which fires no other trigger.';

DROP FUNCTION authz.workspace_state(uuid, boolean);
CREATE FUNCTION authz.workspace_state(workspace_id uuid, applied boolean)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    RETURN (
        SELECT json_build_object(
            'workspace_id', w.id,
            'slug', w.slug,
            'plan', authz.plan_at(w.plan_tier, w.turns_at, w.turns, moment),
            'as_of', COALESCE(w.plan_as_of, w.created_at),
            'status', authz.status_at(w.status, w.turns_at, w.turns, moment),
            'reason', w.status_reason,
            'status_as_of', w.status_as_of,
            'overrides', (
                SELECT COALESCE(json_agg(json_build_object(
                    'kind', f.kind,
                    'name', f.name,
                    'enabled', f.enabled,
                    'at_most', f.at_most,
                    'expires_at', CASE WHEN f.while_plan IS NULL THEN f.expires_at ELSE f.stated_expires_at END,
                    'until_plan_change', f.while_plan IS NOT NULL,
                    'reason', f.reason
                ) ORDER BY f.kind, f.name), '[]')
                FROM authz.workspace_features AS f
                WHERE f.workspace_id = w.id
                  AND (f.expires_at IS NULL OR f.expires_at > moment)
            ),
            'subscriptions', (
                SELECT COALESCE(json_agg(authz.subscription_document(s) ORDER BY s.subscription), '[]')
                FROM authz.workspace_subscriptions AS s
                WHERE s.workspace_id = w.id
            ),
            'applied', workspace_state.applied
        )
        FROM authz.workspaces AS w
        WHERE w.id = workspace_state.workspace_id
    );
END;
$$;
COMMENT ON FUNCTION authz.workspace_state IS 'A workspace as an administrator sees it after a change.
- workspace_id: the workspace.
- applied: whether the change was applied; passed through into the answer.
Returns: {workspace_id, slug, plan, as_of, status, reason, status_as_of, overrides, subscriptions, applied}, with times in
UTC. plan and status are those of now. as_of is the date of the plan that it was given, or of the workspace''s creation;
overrides is a list of {kind, name, enabled, at_most, expires_at, until_plan_change, reason} of those that hold;
subscriptions is a list of authz.subscription_document. NULL if there is no such workspace.
Called by: authz.set_plan, authz.set_overrides, authz.set_status and authz.put_subscription.';
REVOKE ALL ON FUNCTION authz.workspace_state FROM PUBLIC;

DROP FUNCTION authz.set_plan(text, text, timestamptz);
CREATE FUNCTION authz.set_plan(
    workspace text, plan text, as_of timestamptz DEFAULT NULL, overrule boolean DEFAULT false
)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    locked_id CONSTANT uuid := authz.workspace_locked(workspace);
    now CONSTANT timestamptz := clock_timestamp(); -- after the lock
    moment CONSTANT timestamptz := authz.dated(as_of, now);
    changed authz.workspaces;
    applied boolean;
BEGIN
    -- FOR KEY SHARE: a catalog that drops the plan meanwhile waits, and then sees the workspace.
    PERFORM FROM authz.plans AS p WHERE p.name = set_plan.plan FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'plan "%" is not sold', plan USING ERRCODE = 'AZ002';
    END IF;
    changed := authz.advance(locked_id, now);
    applied := overrule OR changed.plan_as_of IS NULL OR changed.plan_as_of <= moment;
    IF applied THEN
        changed.given_plan := set_plan.plan;
        changed.plan_as_of := moment;
    END IF;
    PERFORM authz.fold(changed, now);
    RETURN authz.workspace_state(locked_id, applied);
END;
$$;
COMMENT ON FUNCTION authz.set_plan IS
'Gives a workspace another plan, unless a newer event has set it already. A later event of its effective subscription
wins over it.
- workspace: its UUID or its slug.
- plan: the plan.
- as_of: the date of the event that says so, for example of the billing provider; NULL: now.
- overrule: whether it is given even if a newer event has set it; its date is as_of all the same.
Returns: as authz.workspace_state; applied is false if the workspace''s plan is of a later date.
Raises: AZ001 if there is no such workspace; AZ002 if there is no such plan; 22023 if as_of is infinite; AZ004 if it is
more than five minutes ahead.
Called by: authz_sidecar, to set a plan.';
REVOKE ALL ON FUNCTION authz.set_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.set_plan TO authz_sidecar;

DROP FUNCTION authz.set_status(text, text, text);
CREATE FUNCTION authz.set_status(
    workspace text,
    status text,
    reason text DEFAULT NULL,
    as_of timestamptz DEFAULT NULL,
    overrule boolean DEFAULT false
)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    locked_id CONSTANT uuid := authz.workspace_locked(workspace);
    now CONSTANT timestamptz := clock_timestamp(); -- after the lock
    moment CONSTANT timestamptz := authz.dated(as_of, now);
    changed authz.workspaces;
    applied boolean;
BEGIN
    IF COALESCE(status, '') NOT IN ('active', 'suspended') THEN
        RAISE EXCEPTION 'status is active or suspended, not "%"', status USING ERRCODE = '22023';
    END IF;
    changed := authz.advance(locked_id, now);
    applied := overrule OR changed.status_as_of IS NULL OR changed.status_as_of <= moment;
    IF applied THEN
        changed.given_status := set_status.status;
        changed.status_reason := set_status.reason;
        changed.status_as_of := moment;
    END IF;
    PERFORM authz.fold(changed, now);
    RETURN authz.workspace_state(locked_id, applied);
END;
$$;
COMMENT ON FUNCTION authz.set_status IS
'Suspends a workspace, or takes that back, unless a newer event has set its status already. It stays suspended while its
subscription suspends it.
- workspace: its UUID or its slug.
- status: active or suspended.
- reason: why, in an administrator''s words; NULL: none.
- as_of: the date of the event that says so; NULL: now.
- overrule: whether it is set even if a newer event has set it; its date is as_of all the same.
Returns: as authz.workspace_state; applied is false if the workspace''s status is of a later date.
Raises: AZ001 if there is no such workspace; 22023 if the status is another, or as_of infinite; AZ004 if it is more than
five minutes ahead.
Called by: authz_sidecar, to set a status.';
REVOKE ALL ON FUNCTION authz.set_status FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.set_status TO authz_sidecar;

DROP FUNCTION authz.set_overrides(text, jsonb, jsonb, timestamptz, text);
CREATE FUNCTION authz.set_overrides(
    workspace text,
    features jsonb DEFAULT '{}',
    limits jsonb DEFAULT '{}',
    expires_at timestamptz DEFAULT NULL,
    reason text DEFAULT NULL,
    until_plan_change boolean DEFAULT false
)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    locked_id CONSTANT uuid := authz.workspace_locked(workspace);
    now CONSTANT timestamptz := clock_timestamp(); -- after the lock
    changed authz.workspaces;
    present text;
    override record;
BEGIN
    IF jsonb_typeof(features) <> 'object' OR jsonb_typeof(limits) <> 'object' THEN
        RAISE EXCEPTION 'features and limits are objects' USING ERRCODE = '22023';
    END IF;
    changed := authz.advance(locked_id, now);
    present := authz.plan_at(changed.plan_tier, changed.turns_at, changed.turns, now);
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
        INSERT INTO authz.workspace_features AS f (
            workspace_id, kind, name, enabled, at_most, expires_at, reason, changed_at, while_plan, stated_expires_at
        )
        VALUES (
            locked_id,
            override.kind,
            override.name,
            CASE override.kind WHEN 'feature' THEN override.value::boolean END,
            CASE WHEN override.kind = 'limit' AND override.value <> '"unlimited"' THEN override.value::bigint END,
            set_overrides.expires_at,
            set_overrides.reason,
            now,
            CASE WHEN until_plan_change THEN present END,
            CASE WHEN until_plan_change THEN set_overrides.expires_at END
        )
        ON CONFLICT ON CONSTRAINT workspace_features_pkey DO UPDATE
        SET enabled = excluded.enabled,
            at_most = excluded.at_most,
            expires_at = excluded.expires_at,
            reason = excluded.reason,
            changed_at = excluded.changed_at,
            while_plan = excluded.while_plan,
            stated_expires_at = excluded.stated_expires_at;
    END LOOP;
    PERFORM authz.fold(changed, now);
    RETURN authz.workspace_state(locked_id, applied => true);
END;
$$;
COMMENT ON FUNCTION authz.set_overrides IS
'Sets or removes overrides of a workspace. Those that are not named stay as they are.
- workspace: its UUID or its slug.
- features: an object of feature to true, false, or null, which removes the override.
- limits: an object of meter to a whole number of at most 15 digits, "unlimited", or null, which removes the override.
- expires_at: when the overrides that this call sets end; NULL: never.
- reason: why, in an administrator''s words; NULL: none.
- until_plan_change: whether they end too when the workspace has another plan than now.
Returns: as authz.workspace_state; applied is true.
Raises: AZ001 if there is no such workspace; 22023 if a name is not declared or a value is of the wrong kind.
Called by: authz_sidecar, to set overrides.';
REVOKE ALL ON FUNCTION authz.set_overrides FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.set_overrides TO authz_sidecar;

CREATE FUNCTION authz.put_subscription(
    workspace text,
    subscription text,
    plan text,
    status text,
    seats bigint,
    trial_ends_at timestamptz,
    billing_anchor timestamptz,
    as_of timestamptz,
    event text,
    source text,
    fingerprint text
)
RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_workspace CONSTANT uuid := authz.workspace_id_of(workspace);
    now timestamptz;
    moment timestamptz;
    known text;
    changed authz.workspaces;
    anchor timestamptz;
    before jsonb;
    applied boolean;
BEGIN
    IF billing_anchor IS NOT NULL THEN
        PERFORM authz.usage_locked(w.id) FROM authz.workspaces AS w WHERE w.id = of_workspace;
    END IF;
    PERFORM FROM authz.workspaces AS w WHERE w.id = of_workspace FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'workspace "%" does not exist', workspace USING ERRCODE = 'AZ001';
    END IF;
    SELECT e.fingerprint INTO known
    FROM authz.subscription_events AS e
    WHERE e.workspace_id = of_workspace AND e.source = put_subscription.source AND e.event = put_subscription.event;
    IF known = put_subscription.fingerprint THEN
        RETURN (authz.workspace_state(of_workspace, false)::jsonb || '{"replayed": true}')::json;
    ELSIF FOUND THEN
        RAISE EXCEPTION 'event "%" of "%" was another one before', event, source USING ERRCODE = 'AZ005';
    END IF;
    now := clock_timestamp(); -- after the locks
    moment := authz.dated(as_of, now);
    IF NOT (isfinite(COALESCE(billing_anchor, now)) AND isfinite(COALESCE(trial_ends_at, now))) THEN
        RAISE EXCEPTION 'billing_anchor and trial_ends_at are dates' USING ERRCODE = '22023';
    END IF;
    PERFORM FROM authz.plans AS p WHERE p.name = put_subscription.plan FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'plan "%" is not sold', plan USING ERRCODE = 'AZ002';
    END IF;

    changed := authz.advance(of_workspace, now);
    before := authz.state_at(changed, now);
    INSERT INTO authz.subscription_events
        (workspace_id, source, event, subscription, as_of, status, rank, plan, seats, trial_ends_at, billing_anchor,
        fingerprint)
    VALUES (
        of_workspace,
        put_subscription.source,
        put_subscription.event,
        put_subscription.subscription,
        moment,
        put_subscription.status,
        array_position(
            ARRAY['trialing', 'active', 'past_due', 'paused', 'unpaid', 'canceled'], put_subscription.status
        ),
        put_subscription.plan,
        put_subscription.seats,
        put_subscription.trial_ends_at,
        put_subscription.billing_anchor,
        put_subscription.fingerprint
    );
    applied := authz.fold_subscription(of_workspace, put_subscription.subscription);
    applied := applied OR authz.state_at(changed, now) - 'seats' <> before - 'seats';
    PERFORM authz.fold(changed, now);
    IF billing_anchor IS NOT NULL THEN
        SELECT e.billing_anchor INTO anchor
        FROM authz.subscription_events AS e
        WHERE e.workspace_id = of_workspace AND e.billing_anchor IS NOT NULL
        ORDER BY e.as_of DESC, e.rank DESC, e.event DESC, e.source DESC
        LIMIT 1;
        IF anchor <> changed.subscribed_at THEN
            PERFORM authz.carry_usage(of_workspace, changed.subscribed_at, anchor, now);
            UPDATE authz.workspaces AS w SET subscribed_at = anchor WHERE w.id = of_workspace;
        END IF;
    END IF;
    RETURN authz.workspace_state(of_workspace, applied);
END;
$$;
COMMENT ON FUNCTION authz.put_subscription IS
'Keeps an event of a subscription, and makes the workspace what follows from all events. Of a deleted workspace too: it
takes effect when that is restored.
- workspace: its UUID or its slug.
- subscription: the subscription.
- plan: its plan.
- status: trialing, active, past_due, unpaid, paused or canceled.
- seats: how many members it allows; NULL: it does not say.
- trial_ends_at: when its trial ends; NULL: there is none.
- billing_anchor: where the workspace''s months begin; NULL: as before.
- as_of: the date of the event.
- event: its name.
- source: who says so.
- fingerprint: of all of this.
Returns: as authz.workspace_state; applied is false if the subscription, the plan and the status stay as they were, and
with replayed true if the event was known.
Raises: AZ001 if there is no such workspace; AZ002 if there is no such plan; AZ004 if as_of is more than five minutes
ahead; AZ005 if another event had its name; 22023 if a date is infinite; 23502 for a status that is none; 23514 for a
trial without an end, or seats below 0.
Called by: authz_sidecar, when a biller says what it knows.';
REVOKE ALL ON FUNCTION authz.put_subscription FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.put_subscription TO authz_sidecar;

CREATE FUNCTION authz.refold_all()
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now timestamptz;
    each uuid;
    folded bigint := 0;
BEGIN
    FOR each IN
        SELECT w.id
        FROM authz.workspaces AS w
        WHERE EXISTS (
            SELECT FROM authz.workspace_subscriptions AS s WHERE s.workspace_id = w.id AND s.status <> 'active'
        )
        ORDER BY w.id
    LOOP
        PERFORM FROM authz.workspaces AS w WHERE w.id = each FOR NO KEY UPDATE;
        IF FOUND THEN
            now := clock_timestamp();
            PERFORM authz.fold(authz.advance(each, now), now);
            folded := folded + 1;
        END IF;
    END LOOP;
    RETURN folded;
END;
$$;
COMMENT ON FUNCTION authz.refold_all IS
'Makes all workspaces what follows from their subscriptions by the catalog as it is now. A subscription that is active
means the same by every catalog.
Returns: how many workspaces were looked at.
Called by: the owner, in sidecar migrate when billing has changed.';
REVOKE ALL ON FUNCTION authz.refold_all FROM PUBLIC;
