-- Which workspace a transaction is about, said once and signed, so that nobody can say another. The policies of isolated
-- tables rely on it (docs/isolation.md).

CREATE TABLE authz.isolation_secret (
    only_row boolean NOT NULL DEFAULT true,
    inner_key bytea NOT NULL, -- both as HMAC wants them, padded and masked
    outer_key bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT isolation_secret_pkey PRIMARY KEY (only_row),
    CONSTRAINT isolation_secret_only_row_check CHECK (only_row)
);
COMMENT ON TABLE authz.isolation_secret IS
    'One row, for nobody to read: who knows it can enter any workspace. authz.rotate_isolation_secret() makes another.';

CREATE FUNCTION authz.masked(key bytea, mask integer)
RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    block bytea := decode(repeat('00', 64), 'hex'); -- a block of SHA-256
BEGIN
    FOR at IN 0..63 LOOP
        block := set_byte(block, at, (CASE WHEN at < length(key) THEN get_byte(key, at) ELSE 0 END) # mask);
    END LOOP;
    RETURN block;
END;
$$;
COMMENT ON FUNCTION authz.masked IS 'A key of at most 64 bytes as RFC 2104 mixes it in.';
REVOKE ALL ON FUNCTION authz.masked FROM PUBLIC;

CREATE FUNCTION authz.rotate_isolation_secret()
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Four times 122 strongly random bits: the server has no other source of them without an extension.
    key CONSTANT bytea := sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    );
BEGIN
    INSERT INTO authz.isolation_secret AS s (inner_key, outer_key)
    VALUES (authz.masked(key, 54), authz.masked(key, 92)) -- 0x36 and 0x5c
    ON CONFLICT (only_row) DO UPDATE
    SET inner_key = excluded.inner_key, outer_key = excluded.outer_key, made_at = now();
END;
$$;
COMMENT ON FUNCTION authz.rotate_isolation_secret IS
    'What is entered at this moment is so no more: such a transaction fails, and is to be tried again.';
REVOKE ALL ON FUNCTION authz.rotate_isolation_secret FROM PUBLIC;
SELECT authz.rotate_isolation_secret();

CREATE FUNCTION authz.signed(workspace text, transaction xid8)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT workspace || ' ' || encode(sha256(s.outer_key || sha256(s.inner_key || convert_to(
            -- A number of a transaction comes again after a restore to an earlier time: in another run of the server.
            workspace || ' ' || transaction::text || ' ' || extract(epoch FROM pg_postmaster_start_time())::text, 'UTF8'
        ))), 'hex')
        FROM authz.isolation_secret AS s
    );
END;
$$;
COMMENT ON FUNCTION authz.signed IS
    'The workspace with the HMAC-SHA256 of workspace, transaction and run of the server; NULL without a transaction.';
REVOKE ALL ON FUNCTION authz.signed FROM PUBLIC;

CREATE FUNCTION authz.enter(user_id text, workspace text)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    marker CONSTANT integer := 7024;
    entered_id uuid;
BEGIN
    -- The variable could have been emptied, so it proves nothing. A transaction that has entered has a number and
    -- holds the marker, which nobody can let go of before its end; most have no number yet, and need not look.
    IF pg_current_xact_id_if_assigned() IS NOT NULL AND EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory'
          AND l.pid = pg_backend_pid()
          AND l.classid = marker
          AND l.objid = pg_backend_pid()
    ) THEN
        RAISE EXCEPTION 'this transaction has entered a workspace already: one each, so that they cannot mix'
            USING ERRCODE = '55000';
    END IF;

    SELECT m.workspace_id INTO entered_id
    FROM authz.members AS m
    WHERE m.user_id = enter.user_id
      -- The nil UUID, which no workspace has, and not NULL: a membership is looked for in any case, as in authz.facts.
      AND m.workspace_id = COALESCE(authz.workspace_id_of(workspace), '00000000-0000-0000-0000-000000000000');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not a member of this workspace' USING ERRCODE = '42501'; -- if there is such a workspace
    ELSIF NOT pg_try_advisory_xact_lock_shared(marker, pg_backend_pid()) THEN
        RAISE EXCEPTION 'another session keeps this one from entering: it holds the advisory lock (%, %)',
            marker, pg_backend_pid() USING ERRCODE = '55P03';
    END IF;
    PERFORM set_config('authz.entered', authz.signed(entered_id::text, pg_current_xact_id()), true);
    RETURN entered_id;
END;
$$;
COMMENT ON FUNCTION authz.enter(text, text) IS
    'Once a transaction, until its end: isolated tables then show the workspace (a UUID or a slug) to its member.';
REVOKE ALL ON FUNCTION authz.enter(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.enter(text, text) TO authz_app;

CREATE FUNCTION authz.enter(user_id text, workspace uuid)
RETURNS uuid
LANGUAGE sql
RETURN authz.enter(user_id, workspace::text);
COMMENT ON FUNCTION authz.enter(text, uuid) IS 'For a driver that knows the type.';
REVOKE ALL ON FUNCTION authz.enter(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.enter(text, uuid) TO authz_app;

CREATE FUNCTION authz.claimed_workspace()
RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN NULLIF(left(current_setting('authz.entered', true), 36), '')::uuid;
COMMENT ON FUNCTION authz.claimed_workspace IS
    'What the variable says, whoever has set it: for the default of a column, whose policy verifies it.';
REVOKE ALL ON FUNCTION authz.claimed_workspace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.claimed_workspace TO authz_app;

CREATE FUNCTION authz.entered_workspace()
RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entered CONSTANT text := current_setting('authz.entered', true);
    workspace CONSTANT text := left(entered, 36);
BEGIN
    IF entered = authz.signed(workspace, pg_current_xact_id_if_assigned()) THEN
        RETURN workspace::uuid;
    END IF;
    -- Rather than NULL, which would show an empty table: a plausible answer, and a wrong one.
    RAISE EXCEPTION 'this transaction has entered no workspace'
        USING ERRCODE = '55000', HINT = 'SELECT authz.enter(user, workspace) comes first in each transaction.';
END;
$$;
COMMENT ON FUNCTION authz.entered_workspace IS
    'What policies of isolated tables compare with, once a statement: an error unless authz.enter has set it.';
REVOKE ALL ON FUNCTION authz.entered_workspace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.entered_workspace TO authz_app;
