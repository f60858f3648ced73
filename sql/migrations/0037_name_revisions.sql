-- A published revision may rename what rows refer to. Sidecars that still run one of the two revisions before it say
-- with each query which names they use, and are told how theirs are stored.

ALTER TABLE authz.catalog ADD COLUMN names_generation bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN authz.catalog.names_generation IS
    'Rises whenever a publication stores a name otherwise. A query that says another generation is refused.';

CREATE TABLE authz.revisions (
    revision text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    names jsonb NOT NULL,
    CONSTRAINT revisions_pkey PRIMARY KEY (revision),
    CONSTRAINT revisions_number_key UNIQUE (number)
);
COMMENT ON TABLE authz.revisions IS
    'The published revision and the two before it. Written by sidecar migrate.';
COMMENT ON COLUMN authz.revisions.revision IS 'The policy revision.';
COMMENT ON COLUMN authz.revisions.number IS 'Rises with each publication: the published revision has the highest.';
COMMENT ON COLUMN authz.revisions.names IS
    'How names of this revision are stored now, where that differs: {kind: {name: stored name}}. The kinds are role,
feature, meter, plan and action. A stored name with # in it is of no catalog: its rows are dead.';
COMMENT ON CONSTRAINT revisions_pkey ON authz.revisions IS 'One row for each revision.';
COMMENT ON CONSTRAINT revisions_number_key ON authz.revisions IS 'Two publications have an order.';

CREATE FUNCTION authz.names_for(revision text)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT json_build_object(
            'generation', COALESCE((SELECT c.names_generation FROM authz.catalog AS c), 0),
            'names', (SELECT r.names FROM authz.revisions AS r WHERE r.revision = names_for.revision)
        )
    );
END;
$$;
COMMENT ON FUNCTION authz.names_for IS 'How the names of a revision are stored.
- revision: the policy revision.
Returns: {generation: of the names, names: as authz.revisions.names, or null if the revision is neither the published one
nor one of the two before it}.
Called by: authz_sidecar, at its start and when a query was refused with AZ011.';
REVOKE ALL ON FUNCTION authz.names_for FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.names_for TO authz_sidecar;

CREATE FUNCTION authz.read_as(generation bigint)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF generation <> COALESCE((SELECT c.names_generation FROM authz.catalog AS c), 0) THEN
        RAISE EXCEPTION 'names have changed since generation %', generation USING ERRCODE = 'AZ011';
    END IF;
    RETURN true;
END;
$$;
COMMENT ON FUNCTION authz.read_as IS
    'Refuses a query that uses names of another generation. Written in WHERE, beside a STABLE function: both see
one snapshot.
- generation: that of the names that the query uses, as authz.names_for says it; NULL: names as they are stored.
Returns: true.
Raises: AZ011 if the names are of another generation by now.
Called by: authz_sidecar, in each statement that reads names.';
REVOKE ALL ON FUNCTION authz.read_as FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.read_as TO authz_sidecar;

CREATE FUNCTION authz.change_as(generation bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7022038);
    IF generation <> COALESCE((SELECT c.names_generation FROM authz.catalog AS c), 0) THEN
        RAISE EXCEPTION 'names have changed since generation %', generation USING ERRCODE = 'AZ011';
    END IF;
END;
$$;
COMMENT ON FUNCTION authz.change_as IS
    'As authz.read_as, beside a function that changes something. Until the transaction ends, no publication stores names
otherwise; it waits while one does.
- generation: that of the names that the query uses; NULL: names as they are stored.
Returns: nothing.
Raises: AZ011 if the names are of another generation by now; 55P03 if a publication took longer than lock_timeout.
Called by: authz_sidecar, in each statement that changes something by name.';
REVOKE ALL ON FUNCTION authz.change_as FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authz.change_as TO authz_sidecar;

CREATE FUNCTION authz.renamed(document jsonb, names jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN (
    SELECT COALESCE(jsonb_object_agg(COALESCE(names ->> d.key, d.key), d.value), document)
    FROM jsonb_each(document) AS d
);
COMMENT ON FUNCTION authz.renamed IS 'An object with other names of its fields.
- document: the object.
- names: {name: new name}; a field that is not named keeps its name.
Returns: the object; NULL for NULL.
Called by: authz.store_names.';
REVOKE ALL ON FUNCTION authz.renamed FROM PUBLIC;

CREATE FUNCTION authz.store_names(kind text, names jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former CONSTANT text[] := ARRAY(SELECT jsonb_object_keys(names));
BEGIN
    PERFORM pg_advisory_xact_lock(7022038);
    -- A name that changes is no change of a workspace: nothing is recorded, and no invitation becomes void.
    CASE kind
        WHEN 'feature' THEN
            IF EXISTS (
                SELECT FROM authz.workspace_features AS f WHERE f.kind = 'feature' AND f.name = ANY (former)
            ) THEN
                ALTER TABLE authz.workspace_features DISABLE TRIGGER record_override;
                UPDATE authz.workspace_features AS f SET name = names ->> f.name
                WHERE f.kind = 'feature' AND f.name = ANY (former);
                ALTER TABLE authz.workspace_features ENABLE TRIGGER record_override;
            END IF;
        WHEN 'meter' THEN
            UPDATE authz.meters AS t SET name = names ->> t.name WHERE t.name = ANY (former);
            IF EXISTS (
                SELECT FROM authz.workspace_features AS f WHERE f.kind = 'limit' AND f.name = ANY (former)
            ) THEN
                ALTER TABLE authz.workspace_features DISABLE TRIGGER record_override;
                UPDATE authz.workspace_features AS f SET name = names ->> f.name
                WHERE f.kind = 'limit' AND f.name = ANY (former);
                ALTER TABLE authz.workspace_features ENABLE TRIGGER record_override;
            END IF;
            UPDATE authz.workspace_usage AS u SET meter = names ->> u.meter WHERE u.meter = ANY (former);
            UPDATE authz.usage_holds AS h SET meter = names ->> h.meter WHERE h.meter = ANY (former);
            UPDATE authz.usage_resources AS r SET meter = names ->> r.meter WHERE r.meter = ANY (former);
            UPDATE authz.usage_reservations AS r
            SET amounts = authz.renamed(r.amounts, names), committed = authz.renamed(r.committed, names)
            WHERE r.amounts ?| former;
            UPDATE authz.usage_keys AS k
            SET meters = ARRAY(
                    SELECT COALESCE(names ->> m.meter, m.meter)
                    FROM unnest(k.meters) WITH ORDINALITY AS m (meter, number)
                    ORDER BY m.number
                ),
                quota = authz.renamed(k.quota, names),
                given_back = authz.renamed(k.given_back, names),
                held = (k.held::jsonb || jsonb_build_object(
                    'amounts', authz.renamed(k.held::jsonb -> 'amounts', names)
                ))::json,
                answer = CASE
                    WHEN k.answer -> 'frees_at' IS NULL THEN k.answer
                    ELSE (k.answer::jsonb || jsonb_build_object(
                        'frees_at', authz.renamed(k.answer::jsonb -> 'frees_at', names)
                    ))::json
                END
            WHERE k.meters && former;
            UPDATE authz.usage_ledger AS l SET meter = names ->> l.meter WHERE l.meter = ANY (former);
        WHEN 'plan' THEN
            IF EXISTS (SELECT FROM authz.workspaces AS w WHERE w.plan_tier = ANY (former)) THEN
                ALTER TABLE authz.workspaces DISABLE TRIGGER record_workspace_updated;
                UPDATE authz.workspaces AS w SET plan_tier = names ->> w.plan_tier WHERE w.plan_tier = ANY (former);
                ALTER TABLE authz.workspaces ENABLE TRIGGER record_workspace_updated;
            END IF;
            UPDATE authz.usage_keys AS k
            SET answer = (k.answer::jsonb || jsonb_build_object('plan', names -> (k.answer ->> 'plan')))::json
            WHERE k.answer ->> 'plan' = ANY (former);
        WHEN 'role' THEN
            IF EXISTS (SELECT FROM authz.workspace_memberships AS m WHERE m.role = ANY (former)) THEN
                ALTER TABLE authz.workspace_memberships DISABLE TRIGGER record_members_updated;
                ALTER TABLE authz.workspace_memberships DISABLE TRIGGER void_invitations_updated;
                UPDATE authz.workspace_memberships AS m SET role = names ->> m.role WHERE m.role = ANY (former);
                ALTER TABLE authz.workspace_memberships ENABLE TRIGGER void_invitations_updated;
                ALTER TABLE authz.workspace_memberships ENABLE TRIGGER record_members_updated;
            END IF;
            UPDATE authz.workspace_invitations AS i SET role = names ->> i.role WHERE i.role = ANY (former);
            UPDATE authz.workspaces AS w
            SET members_before = (
                SELECT jsonb_agg(
                    m.member || jsonb_build_object(
                        'role', COALESCE(names ->> (m.member ->> 'role'), m.member ->> 'role')
                    )
                    ORDER BY m.number
                )
                FROM jsonb_array_elements(w.members_before) WITH ORDINALITY AS m (member, number)
            )
            WHERE EXISTS (
                SELECT FROM jsonb_to_recordset(w.members_before) AS m (role text) WHERE m.role = ANY (former)
            );
            UPDATE authz.usage_keys AS k
            SET answer = (k.answer::jsonb || jsonb_build_object('role', names -> (k.answer ->> 'role')))::json
            WHERE k.answer ->> 'role' = ANY (former);
        WHEN 'action' THEN
            UPDATE authz.usage_reservations AS r SET action = names ->> r.action WHERE r.action = ANY (former);
            UPDATE authz.usage_ledger AS l SET action = names ->> l.action WHERE l.action = ANY (former);
    END CASE;
END;
$$;
COMMENT ON FUNCTION authz.store_names IS
    'Stores names of one kind otherwise, in all rows that refer to them. Idempotency keys keep answering what they
answered, by the new names. The outbox tells what happened in the names of then, and is left as it is.
- kind: role, feature, meter, plan or action.
- names: {name: new name}; no new name is one of those that are changed.
Returns: nothing.
Raises: 23503 if workspaces have a plan whose new name is not in authz.plans; 20000 for another kind.
Called by: the owner, in sidecar migrate.';
REVOKE ALL ON FUNCTION authz.store_names FROM PUBLIC;
