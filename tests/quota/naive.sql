-- What one would write first, each with the hole that it has. tests/quota/test_naive.py shows the holes.
CREATE SCHEMA naive;
CREATE TABLE naive.counters (
    workspace text NOT NULL,
    meter text NOT NULL,
    period_start timestamptz NOT NULL DEFAULT '-infinity',
    used bigint NOT NULL,
    PRIMARY KEY (workspace, meter)
);
CREATE TABLE naive.keys (workspace text NOT NULL, key text NOT NULL, PRIMARY KEY (workspace, key));
CREATE TABLE naive.holds (workspace text NOT NULL, amount bigint NOT NULL, expires_at timestamptz NOT NULL);

-- Look, then act.
CREATE FUNCTION naive.check_then_act(workspace text, amount bigint, at_most bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT c.used FROM naive.counters AS c WHERE c.workspace = check_then_act.workspace) + amount > at_most THEN
        RETURN false;
    END IF;
    PERFORM pg_sleep(0.2); -- a round trip to the application
    UPDATE naive.counters AS c SET used = c.used + amount WHERE c.workspace = check_then_act.workspace;
    RETURN true;
END;
$$;

-- The WHERE guards the update alone: whoever comes first may take anything.
CREATE FUNCTION naive.unguarded_insert(workspace text, amount bigint, at_most bigint) RETURNS boolean
LANGUAGE sql AS $$
    INSERT INTO naive.counters AS c (workspace, meter, used) VALUES (workspace, 'minutes', amount)
    ON CONFLICT ON CONSTRAINT counters_pkey DO UPDATE
    SET used = c.used + excluded.used WHERE c.used + excluded.used <= at_most
    RETURNING true
$$;

-- One statement: the key is there, though the counter has refused.
CREATE FUNCTION naive.key_in_one_statement(workspace text, key text, amount bigint, at_most bigint) RETURNS text
LANGUAGE sql AS $$
    WITH fresh AS (
        INSERT INTO naive.keys VALUES (workspace, key) ON CONFLICT DO NOTHING RETURNING keys.key
    ), taken AS (
        UPDATE naive.counters AS c SET used = c.used + amount
        FROM fresh
        WHERE c.workspace = key_in_one_statement.workspace AND c.used + amount <= at_most
        RETURNING c.used
    )
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM fresh) THEN 'repeated'
        WHEN EXISTS (SELECT FROM taken) THEN 'taken'
        ELSE 'refused'
    END
$$;

-- Is the key known? If not, take, and then remember it.
CREATE FUNCTION naive.key_looked_up_first(workspace text, key text, amount bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM naive.keys AS k
        WHERE k.workspace = key_looked_up_first.workspace AND k.key = key_looked_up_first.key
    ) THEN
        RETURN;
    END IF;
    PERFORM pg_sleep(0.2); -- ditto
    UPDATE naive.counters AS c SET used = c.used + amount WHERE c.workspace = key_looked_up_first.workspace;
    INSERT INTO naive.keys VALUES (workspace, key) ON CONFLICT DO NOTHING;
END;
$$;

-- now() is when the transaction began, and not when it was let in.
CREATE FUNCTION naive.period_before_the_lock(workspace text, resets_at timestamptz, amount bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    start CONSTANT timestamptz := CASE WHEN now() < resets_at THEN '-infinity' ELSE resets_at END;
BEGIN
    UPDATE naive.counters AS c
    SET used = CASE WHEN c.period_start < start THEN 0 ELSE c.used END + amount,
        period_start = greatest(c.period_start, start)
    WHERE c.workspace = period_before_the_lock.workspace;
END;
$$;

-- A hold counts until somebody has swept it away.
CREATE FUNCTION naive.held_until_swept(workspace text, amount bigint, at_most bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM naive.counters AS c WHERE c.workspace = held_until_swept.workspace FOR UPDATE;
    IF (SELECT COALESCE(sum(h.amount), 0) FROM naive.holds AS h WHERE h.workspace = held_until_swept.workspace)
        + amount > at_most THEN
        RETURN false;
    END IF;
    INSERT INTO naive.holds VALUES (workspace, amount, clock_timestamp() + interval '0.2 seconds');
    RETURN true;
END;
$$;

-- The version is read, and not held: what it stands for may change before the transaction ends.
CREATE FUNCTION naive.version_not_locked(of_workspace uuid, version bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT w.facts_version FROM authz.workspaces AS w WHERE w.id = of_workspace) <> version THEN
        RETURN false;
    END IF;
    UPDATE naive.counters AS c SET used = c.used + 1 WHERE c.workspace = of_workspace::text;
    RETURN true;
END;
$$;

-- Each meter as it was named.
CREATE FUNCTION naive.meters_as_they_come(workspace text, meters text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..cardinality(meters) LOOP
        UPDATE naive.counters AS c SET used = c.used + 1
        WHERE c.workspace = meters_as_they_come.workspace AND c.meter = meters[i];
        PERFORM pg_sleep(0.05);
    END LOOP;
END;
$$;

-- Meter by meter, each with its guard.
CREATE FUNCTION naive.each_for_itself(workspace text, meters text[], at_most bigint[]) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..cardinality(meters) LOOP
        UPDATE naive.counters AS c SET used = c.used + 1
        WHERE c.workspace = each_for_itself.workspace AND c.meter = meters[i] AND c.used < at_most[i];
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END;
$$;

-- The month after the month after …
CREATE FUNCTION naive.next_period(start timestamptz) RETURNS timestamptz
LANGUAGE sql AS $$ SELECT start + interval '1 month' $$;
