-- Checks may read from streaming replicas: what proves how old their facts are, and what makes a revocation wait for them.

CREATE TABLE authz.replica_reads (
    only_row boolean NOT NULL DEFAULT true,
    until timestamptz NOT NULL,
    CONSTRAINT replica_reads_only_row_check CHECK (only_row),
    CONSTRAINT replica_reads_pkey PRIMARY KEY (only_row)
);
COMMENT ON TABLE authz.replica_reads IS
    'Until when some sidecar may read facts from replicas. Until then each change of facts commits with
synchronous_commit = remote_apply. No row: no sidecar ever did.';
COMMENT ON COLUMN authz.replica_reads.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN authz.replica_reads.until IS 'Until when; a sidecar that goes on moves it.';
COMMENT ON CONSTRAINT replica_reads_only_row_check ON authz.replica_reads IS 'There is one row.';
COMMENT ON CONSTRAINT replica_reads_pkey ON authz.replica_reads IS 'There is one row.';

CREATE FUNCTION authz.announce_replica_reads()
RETURNS double precision
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- It waits for no replica: one that is away must keep nobody from this.
    PERFORM set_config('synchronous_commit', 'local', true), authz.this_epoch();
    IF NOT EXISTS (
        SELECT FROM authz.replica_reads AS r
        WHERE r.until BETWEEN clock_timestamp() + interval '50 minutes' AND clock_timestamp() + interval '70 minutes'
    ) THEN
        INSERT INTO authz.replica_reads (until) VALUES (clock_timestamp() + interval '1 hour')
        ON CONFLICT ON CONSTRAINT replica_reads_pkey DO UPDATE SET until = EXCLUDED.until;
    END IF;
    RETURN (SELECT extract(epoch FROM r.until - clock_timestamp()) FROM authz.replica_reads AS r);
END;
$$;
COMMENT ON FUNCTION authz.announce_replica_reads IS
    'Says that a sidecar reads facts from replicas for the next hour; and begins the epoch of this cluster and timeline, so that
replicas of another one can be told apart.
Returns: for how many seconds it may do so; 50 minutes at least.
Called by: authz_sidecar with SIDECAR_FACTS_URLS, at its start and once a minute.';
REVOKE ALL ON FUNCTION authz.announce_replica_reads FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.announce_replica_reads TO authz_sidecar;

CREATE FUNCTION authz.await_replicas()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM authz.replica_reads AS r WHERE r.until > clock_timestamp()) THEN
        PERFORM set_config('synchronous_commit', 'remote_apply', true);
    END IF;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION authz.await_replicas IS
    'Trigger: while facts are read from replicas, lets the transaction commit only when the standbys of
synchronous_standby_names have applied it.
Returns: NULL.
Called by: triggers await_replicas and await_replicas_deleted on authz.workspaces.';
REVOKE ALL ON FUNCTION authz.await_replicas FROM PUBLIC;
-- Each change of membership, role, plan, status or override raises facts_version.
CREATE TRIGGER await_replicas AFTER UPDATE ON authz.workspaces FOR EACH ROW
WHEN (OLD.facts_version IS DISTINCT FROM NEW.facts_version)
EXECUTE FUNCTION authz.await_replicas();
COMMENT ON TRIGGER await_replicas ON authz.workspaces IS 'A change of facts waits for the replicas.';
CREATE TRIGGER await_replicas_deleted AFTER DELETE ON authz.workspaces FOR EACH STATEMENT
EXECUTE FUNCTION authz.await_replicas();
COMMENT ON TRIGGER await_replicas_deleted ON authz.workspaces IS 'So does the end of a workspace.';

CREATE FUNCTION authz.written_now()
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT json_build_array(
            pg_current_wal_lsn() - '0/0',
            s.system_identifier::text,
            (
                SELECT concat(last.epoch, '@', extract(epoch FROM last.began_at))
                FROM (SELECT e.* FROM authz.epochs AS e ORDER BY e.epoch DESC LIMIT 1) AS last
                WHERE last.system_identifier = s.system_identifier
                  AND last.timeline = left(pg_walfile_name(pg_current_wal_lsn()), 8)
            ),
            extract(epoch FROM clock_timestamp())
        )
        FROM pg_control_system() AS s
    );
END;
$$;
COMMENT ON FUNCTION authz.written_now IS
    'What a primary has written until now: a replica that has replayed as much lacks nothing of what was committed before.
Returns: the list [position in the write-ahead log in bytes, system identifier, epoch, clock in seconds since 1970]. The epoch
is a text that no other epoch has; null while nothing was written in this cluster and timeline.
Called by: authz_sidecar with SIDECAR_FACTS_URLS, 20 times a second.';
REVOKE ALL ON FUNCTION authz.written_now FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.written_now TO authz_sidecar;

CREATE FUNCTION authz.replayed_facts(users text[], workspaces text[], meters text[], generation bigint)
RETURNS json
-- VOLATILE, so that the query in it has a snapshot of its own, taken after the position was read.
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    replayed CONSTANT numeric := pg_last_wal_replay_lsn() - '0/0';
    facts json;
    epoch text;
BEGIN
    SELECT
        authz.facts_for(users, workspaces, meters),
        (
            SELECT concat(e.epoch, '@', extract(epoch FROM e.began_at))
            FROM authz.epochs AS e ORDER BY e.epoch DESC LIMIT 1
        )
    INTO facts, epoch
    WHERE authz.read_as(generation);
    RETURN json_build_array(
        -- Asked last: a server that was promoted meanwhile may have facts of its own.
        CASE WHEN pg_is_in_recovery() THEN replayed END,
        (SELECT s.system_identifier::text FROM pg_control_system() AS s),
        epoch,
        extract(epoch FROM clock_timestamp()),
        facts
    );
END;
$$;
COMMENT ON FUNCTION authz.replayed_facts IS
    'The facts that a replica has, and what proves how old they are.
- users: as in authz.facts_for.
- workspaces: as in authz.facts_for.
- meters: as in authz.facts_for.
- generation: as in authz.read_as.
Returns: the list [position, system identifier, epoch, clock, facts]. All but the last are as in authz.written_now; the position is
what was replayed before the facts were read, and null where the server is no replica. The last is as in authz.facts_for.
Raises: AZ011 as in authz.read_as.
Called by: authz_sidecar, on replicas.';
REVOKE ALL ON FUNCTION authz.replayed_facts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.replayed_facts TO authz_sidecar;
