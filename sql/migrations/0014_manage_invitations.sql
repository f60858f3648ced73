-- Inviting and accepting, settled under the workspace's lock: seats, and whether it is still open.

CREATE FUNCTION authz.open_invitations(workspace_id uuid, moment timestamptz, but_of text DEFAULT NULL)
RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
BEGIN ATOMIC
    SELECT count(*)
    FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = open_invitations.workspace_id
      AND i.expires_at > open_invitations.moment
      AND i.email IS DISTINCT FROM open_invitations.but_of;
END;
REVOKE ALL ON FUNCTION authz.open_invitations FROM PUBLIC;

CREATE FUNCTION authz.seats_for(
    workspace_id uuid, wanted bigint, meters text[], limits bigint[], moment timestamptz
)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
BEGIN ATOMIC
    SELECT NOT EXISTS (
        SELECT FROM unnest(seats_for.meters, seats_for.limits) AS plan (meter, at_most)
        LEFT JOIN authz.workspace_features AS f
            ON f.workspace_id = seats_for.workspace_id
            AND f.kind = 'limit'
            AND f.name = plan.meter
            AND (f.expires_at IS NULL OR f.expires_at > seats_for.moment)
        -- Never above NULL, which is unlimited.
        WHERE seats_for.wanted > CASE WHEN f.name IS NULL THEN plan.at_most ELSE f.at_most END
    );
END;
COMMENT ON FUNCTION authz.seats_for IS
    'Whether *wanted* people are within the limits: the overrides, where there are any, else the verdict''s.';
REVOKE ALL ON FUNCTION authz.seats_for FROM PUBLIC;

CREATE FUNCTION authz.invite(
    workspace_id uuid,
    facts_version bigint,
    id uuid,
    invited_by text,
    email text,
    role text,
    token_hash text, -- in hexadecimal
    meters text[],
    limits bigint[]
)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
AS $$
DECLARE
    moment timestamptz;
    members bigint;
    made authz.workspace_invitations;
    replaced authz.workspace_invitations;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    moment := clock_timestamp(); -- after the lock
    SELECT w.member_count INTO members FROM authz.workspaces AS w WHERE w.id = invite.workspace_id;
    IF NOT authz.seats_for(
        workspace_id, members + authz.open_invitations(workspace_id, moment, email) + 1, meters, limits, moment
    ) THEN
        RETURN NULL;
    END IF;

    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = invite.workspace_id AND i.expires_at <= moment;
    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = invite.workspace_id AND i.email = invite.email
    RETURNING i.* INTO replaced;
    IF FOUND THEN
        PERFORM authz.record(workspace_id, 'invitation.replaced', authz.invitation_document(replaced));
    END IF;
    INSERT INTO authz.workspace_invitations AS i
        (workspace_id, id, email, role, invited_by, token_hash, created_at, expires_at)
    VALUES (
        invite.workspace_id,
        invite.id,
        invite.email,
        invite.role,
        invite.invited_by,
        decode(invite.token_hash, 'hex'),
        moment,
        moment + interval '7 days'
    )
    RETURNING i.* INTO made;
    PERFORM authz.record(workspace_id, 'invitation.created', authz.invitation_document(made));
    RETURN authz.invitation_document(made);
END;
$$;
COMMENT ON FUNCTION authz.invite IS 'NULL: there is no seat. One that is open for the same e-mail is replaced.';
REVOKE ALL ON FUNCTION authz.invite FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.invite TO authz_sidecar;

CREATE FUNCTION authz.invitations_of(workspace_id uuid, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(authz.invitation_document(page) ORDER BY page.email), '[]')
        FROM (
            SELECT i.*
            FROM authz.workspace_invitations AS i
            WHERE i.workspace_id = invitations_of.workspace_id
              AND i.expires_at > statement_timestamp()
              AND i.email > COALESCE(invitations_of.after, '')
            ORDER BY i.email
            LIMIT invitations_of.at_most
        ) AS page
    );
END;
$$;
COMMENT ON FUNCTION authz.invitations_of IS 'The open ones behind the e-mail *after*, by e-mail.';
REVOKE ALL ON FUNCTION authz.invitations_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.invitations_of TO authz_sidecar;

CREATE FUNCTION authz.is_invited(workspace_id uuid, email text)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM authz.workspace_invitations AS i
        WHERE i.workspace_id = is_invited.workspace_id
          AND i.email = is_invited.email
          AND i.expires_at > statement_timestamp()
    );
END;
$$;
REVOKE ALL ON FUNCTION authz.is_invited FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.is_invited TO authz_sidecar;

CREATE FUNCTION authz.revoke_invitation(workspace_id uuid, facts_version bigint, id uuid)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    revoked authz.workspace_invitations;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    DELETE FROM authz.workspace_invitations AS i
    WHERE i.workspace_id = revoke_invitation.workspace_id
      AND i.id = revoke_invitation.id
      AND i.expires_at > clock_timestamp()
    RETURNING i.* INTO revoked;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM authz.record(workspace_id, 'invitation.revoked', authz.invitation_document(revoked));
    RETURN true;
END;
$$;
COMMENT ON FUNCTION authz.revoke_invitation IS 'False: there is no such open one.';
REVOKE ALL ON FUNCTION authz.revoke_invitation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.revoke_invitation TO authz_sidecar;

CREATE FUNCTION authz.invitation_by_token(token_hash text)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (
        SELECT authz.invitation_document(i)
            || jsonb_build_object('workspace_id', w.id, 'members', w.member_count)
        FROM authz.workspace_invitations AS i
        JOIN authz.workspaces AS w ON w.id = i.workspace_id
        WHERE i.token_hash = decode(invitation_by_token.token_hash, 'hex')
          AND i.expires_at > statement_timestamp()
    );
END;
$$;
COMMENT ON FUNCTION authz.invitation_by_token IS 'An open one, with how many members its workspace has; else NULL.';
REVOKE ALL ON FUNCTION authz.invitation_by_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.invitation_by_token TO authz_sidecar;

CREATE FUNCTION authz.accept_invitation(
    workspace_id uuid,
    facts_version bigint, -- by which the inviter's right was decided
    token_hash text,
    user_id text,
    email text,
    meters text[],
    limits bigint[]
)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    moment timestamptz;
    members bigint;
    claimed authz.workspace_invitations;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    moment := clock_timestamp(); -- after the lock
    SELECT w.member_count INTO members FROM authz.workspaces AS w WHERE w.id = accept_invitation.workspace_id;
    IF NOT authz.seats_for(workspace_id, members + 1, meters, limits, moment) THEN
        RETURN 'full';
    END IF;

    DELETE FROM authz.workspace_invitations AS i
    WHERE i.token_hash = decode(accept_invitation.token_hash, 'hex')
      AND i.workspace_id = accept_invitation.workspace_id
      AND i.email = accept_invitation.email
      AND i.expires_at > moment
      AND NOT EXISTS (
          SELECT FROM authz.workspace_memberships AS m
          WHERE m.workspace_id = i.workspace_id AND m.user_id = accept_invitation.user_id
      )
    RETURNING i.* INTO claimed;
    IF NOT FOUND THEN
        RETURN 'invalid';
    END IF;
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    VALUES (claimed.workspace_id, accept_invitation.user_id, claimed.role);
    PERFORM authz.record(workspace_id, 'invitation.accepted', authz.invitation_document(claimed));
    RETURN 'joined';
END;
$$;
COMMENT ON FUNCTION authz.accept_invitation IS
    'joined; full: there is no seat; invalid: it is not open any more, not for this e-mail, or he is a member already.';
REVOKE ALL ON FUNCTION authz.accept_invitation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.accept_invitation TO authz_sidecar;
