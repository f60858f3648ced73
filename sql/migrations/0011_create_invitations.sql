-- Invitations: open ones alone. One that was accepted, revoked or replaced, or whose inviter lost the right, is gone,
-- and the outbox has what became of it. An open one holds a seat until it expires, which is arithmetic.

CREATE TABLE authz.action_roles (
    action text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    CONSTRAINT action_roles_pkey PRIMARY KEY (action, role)
);
COMMENT ON TABLE authz.action_roles IS 'Which roles may perform which of the declared actions, as plans.yaml says.';

CREATE TABLE authz.workspace_invitations (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    email text COLLATE "C" NOT NULL, -- case-folded, NFC
    role text COLLATE "C" NOT NULL,
    invited_by text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL, -- SHA-256; the token itself is nowhere
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT workspace_invitations_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT workspace_invitations_email_key UNIQUE (workspace_id, email), -- one each; and for pages in its order
    CONSTRAINT workspace_invitations_token_hash_key UNIQUE (token_hash), -- for who accepts, and knows nothing else
    CONSTRAINT workspace_invitations_workspace_id_fkey
        FOREIGN KEY (workspace_id) REFERENCES authz.workspaces (id) ON DELETE CASCADE,
    CONSTRAINT workspace_invitations_email_check CHECK (length(email) BETWEEN 3 AND 320),
    CONSTRAINT workspace_invitations_role_check CHECK (role <> 'owner'),
    CONSTRAINT workspace_invitations_token_hash_check CHECK (length(token_hash) = 32),
    CONSTRAINT workspace_invitations_expires_at_check CHECK (expires_at <= created_at + interval '7 days')
);
COMMENT ON COLUMN authz.workspace_invitations.expires_at IS 'At this instant it has expired.';

CREATE FUNCTION authz.invitation_document(invitation authz.workspace_invitations)
RETURNS jsonb
LANGUAGE sql STABLE SET search_path = ''
RETURN jsonb_build_object(
    'id', invitation.id,
    'email', invitation.email,
    'role', invitation.role,
    'invited_by', invitation.invited_by,
    'created_at', invitation.created_at,
    'expires_at', invitation.expires_at
);
REVOKE ALL ON FUNCTION authz.invitation_document FROM PUBLIC;

CREATE FUNCTION authz.void_invitations()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    void authz.workspace_invitations;
BEGIN
    -- Of who is gone, who may not invite any more, or not to such a role. If he gets the right back, they do not.
    FOR void IN
        DELETE FROM authz.workspace_invitations AS i
        USING old_rows AS o
        WHERE i.workspace_id = o.workspace_id
          AND i.invited_by = o.user_id
          AND NOT EXISTS (
              SELECT FROM authz.workspace_memberships AS m
              JOIN authz.action_roles AS a ON a.action = 'members.invite' AND a.role = m.role
              JOIN authz.roles AS his ON his.name = m.role
              JOIN authz.roles AS given ON given.name = i.role AND given.rank <= his.rank
              WHERE m.workspace_id = i.workspace_id AND m.user_id = i.invited_by
          )
        RETURNING i.*
    LOOP
        PERFORM authz.record(void.workspace_id, 'invitation.voided', authz.invitation_document(void));
    END LOOP;
    RETURN NULL;
END;
$$;
REVOKE ALL ON FUNCTION authz.void_invitations FROM PUBLIC;

CREATE TRIGGER void_invitations_updated AFTER UPDATE ON authz.workspace_memberships
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.void_invitations();
CREATE TRIGGER void_invitations_deleted AFTER DELETE ON authz.workspace_memberships
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION authz.void_invitations();

CREATE OR REPLACE VIEW authz.member_facts AS
SELECT
    m.workspace_id,
    m.user_id,
    w.slug,
    json_build_object(
        'workspace_id', w.id,
        'slug', w.slug,
        'name', w.name,
        'role', m.role,
        'plan', w.plan_tier,
        'status', w.status,
        'features', override.features,
        'limits', override.limits,
        'usage', meter.usage,
        'version', w.facts_version,
        'at', statement_timestamp()
    ) AS facts
FROM authz.workspace_memberships AS m
JOIN authz.workspaces AS w ON w.id = m.workspace_id
CROSS JOIN LATERAL (
    SELECT
        COALESCE(json_object_agg(f.name, f.enabled) FILTER (WHERE f.kind = 'feature'), '{}') AS features,
        COALESCE(json_object_agg(f.name, f.at_most) FILTER (WHERE f.kind = 'limit'), '{}') AS limits
    FROM authz.workspace_features AS f
    WHERE f.workspace_id = w.id
      AND (f.expires_at IS NULL OR f.expires_at > statement_timestamp())
) AS override
CROSS JOIN LATERAL (
    SELECT
        COALESCE(json_object_agg(t.name, json_build_array(
            CASE
                WHEN t.kind = 'members' THEN w.member_count + (
                    SELECT count(*)
                    FROM authz.workspace_invitations AS i
                    WHERE i.workspace_id = w.id AND i.expires_at > statement_timestamp()
                )
                -- A later period than ours: the clock went back. What was used is used.
                WHEN u.period_start >= lower(p.period) THEN u.used
                ELSE 0
            END,
            CASE
                WHEN u.held_until > statement_timestamp()
                    THEN authz.reserved_of(w.id, t.name, lower(p.period), statement_timestamp())
                ELSE 0
            END,
            CASE WHEN isfinite(upper(p.period)) THEN upper(p.period) END
        )), '{}') AS usage
    FROM authz.meters AS t
    LEFT JOIN authz.workspace_usage AS u ON u.workspace_id = w.id AND u.meter = t.name
    CROSS JOIN LATERAL (
        SELECT authz.period_of(
            t.per, authz.anchor_of(t.anchor, w.subscribed_at), statement_timestamp()
        ) AS period
    ) AS p
) AS meter;
