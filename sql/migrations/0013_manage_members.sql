-- Who is in a workspace, and how that changes. The one owner moves by transfer_ownership alone.

CREATE FUNCTION authz.member_document(membership authz.workspace_memberships)
RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'user', membership.user_id,
    'role', membership.role,
    'email', authz.email_of(membership.user_id),
    'joined_at', membership.joined_at
);
REVOKE ALL ON FUNCTION authz.member_document FROM PUBLIC;

CREATE FUNCTION authz.people_of(workspace_id uuid, after text, at_most integer)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
-- As authz.facts: by index, whatever the statistics say.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
BEGIN
    RETURN (
        SELECT COALESCE(json_agg(authz.member_document(page) ORDER BY page.user_id), '[]')
        FROM (
            SELECT m.*
            FROM authz.workspace_memberships AS m
            WHERE m.workspace_id = people_of.workspace_id
              AND m.user_id > COALESCE(people_of.after, '') -- which no user is
            ORDER BY m.user_id
            LIMIT people_of.at_most
        ) AS page
    );
END;
$$;
COMMENT ON FUNCTION authz.people_of IS 'Members behind the user *after*, by user.';
REVOKE ALL ON FUNCTION authz.people_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.people_of TO authz_sidecar;

CREATE FUNCTION authz.member_of(workspace_id uuid, user_id text)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
SET timezone = 'UTC'
AS $$
BEGIN
    RETURN (
        SELECT authz.member_document(m)
        FROM authz.workspace_memberships AS m
        WHERE m.workspace_id = member_of.workspace_id AND m.user_id = member_of.user_id
    );
END;
$$;
COMMENT ON FUNCTION authz.member_of IS 'NULL for whoever is not in it.';
REVOKE ALL ON FUNCTION authz.member_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.member_of TO authz_sidecar;

CREATE FUNCTION authz.change_role(workspace_id uuid, facts_version bigint, user_id text, role text)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    UPDATE authz.workspace_memberships AS m
    SET role = change_role.role
    WHERE m.workspace_id = change_role.workspace_id
      AND m.user_id = change_role.user_id
      AND m.role NOT IN ('owner', change_role.role)
      AND change_role.role <> 'owner';
    RETURN authz.member_of(workspace_id, user_id);
END;
$$;
COMMENT ON FUNCTION authz.change_role IS 'Never to or from owner. The member as he then is.';
REVOKE ALL ON FUNCTION authz.change_role FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.change_role TO authz_sidecar;

CREATE FUNCTION authz.remove_member(workspace_id uuid, facts_version bigint, user_id text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    DELETE FROM authz.workspace_memberships AS m
    WHERE m.workspace_id = remove_member.workspace_id AND m.user_id = remove_member.user_id AND m.role <> 'owner';
    RETURN 'removed';
END;
$$;
COMMENT ON FUNCTION authz.remove_member IS 'Never the owner. Whoever removes himself leaves.';
REVOKE ALL ON FUNCTION authz.remove_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.remove_member TO authz_sidecar;

CREATE FUNCTION authz.transfer_ownership(workspace_id uuid, facts_version bigint, user_id text, former_role text)
RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    former text;
BEGIN
    PERFORM authz.decided_by(workspace_id, facts_version);
    -- The order is the unique index's: at no time two owners. Nobody sees the time between.
    UPDATE authz.workspace_memberships AS m
    SET role = former_role
    WHERE m.workspace_id = transfer_ownership.workspace_id AND m.role = 'owner'
    RETURNING m.user_id INTO former;
    UPDATE authz.workspace_memberships AS m
    SET role = 'owner'
    WHERE m.workspace_id = transfer_ownership.workspace_id AND m.user_id = transfer_ownership.user_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'user % is not in workspace %', user_id, workspace_id USING ERRCODE = 'AZ010';
    END IF;
    RETURN json_build_array(authz.member_of(workspace_id, user_id), authz.member_of(workspace_id, former));
END;
$$;
COMMENT ON FUNCTION authz.transfer_ownership IS 'The new owner and the former one, as they then are.';
REVOKE ALL ON FUNCTION authz.transfer_ownership FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.transfer_ownership TO authz_sidecar;
