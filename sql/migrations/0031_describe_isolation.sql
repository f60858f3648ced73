-- Comments for psql's \d+ and \df+: of what keeps one workspace's rows of an application's tables from all others.

COMMENT ON TABLE authz.isolation_secret IS
'One row: the key by which entries are signed. Whoever knows it can enter any workspace, so nobody but the owner may
read it. Made by authz.rotate_isolation_secret.';
COMMENT ON COLUMN authz.isolation_secret.only_row IS 'Always true, so that there is one row.';
COMMENT ON COLUMN authz.isolation_secret.inner_key IS
'The key as HMAC-SHA256 hashes it first: 64 bytes, each xor 0x36.';
COMMENT ON COLUMN authz.isolation_secret.outer_key IS
'The key as HMAC-SHA256 hashes it last: 64 bytes, each xor 0x5c.';
COMMENT ON COLUMN authz.isolation_secret.made_at IS 'When it was made.';
COMMENT ON CONSTRAINT isolation_secret_pkey ON authz.isolation_secret IS
'With isolation_secret_only_row_check: at most one row.';
COMMENT ON CONSTRAINT isolation_secret_only_row_check ON authz.isolation_secret IS
'With isolation_secret_pkey: at most one row.';

COMMENT ON FUNCTION authz.masked IS
'A key as HMAC (RFC 2104) mixes it in: filled up with zeros to the 64 bytes of a block of SHA-256, each xor a mask.
- key: the key, at most 64 bytes.
- mask: a byte: 0x36 for the inner hash, 0x5c for the outer one.
Returns: 64 bytes; NULL for NULL.
Called by: authz.rotate_isolation_secret.';

COMMENT ON FUNCTION authz.rotate_isolation_secret IS
'Makes a new secret of 488 random bits. What transactions have entered at this moment is not valid any more: they
fail, and are to be retried.
Returns: nothing.
Called by: the owner, by hand, and the migration that created the table.';

COMMENT ON FUNCTION authz.signed IS
'A workspace with its signature: the HMAC-SHA256 of workspace, transaction and start of the server, so that a
signature is worth nothing in another transaction, or after a restore.
- workspace: the workspace''s UUID as text.
- transaction: the number of the transaction; NULL: it has none.
Returns: the UUID, a space, and the signature in hexadecimal; NULL if a parameter is NULL or there is no secret.
Called by: authz.enter and authz.entered_workspace.';

COMMENT ON FUNCTION authz.enter(text, text) IS
'Enters a workspace until the transaction ends: isolated tables then show its rows alone. Once in a transaction. It
believes the user id that it is given: authenticate the user first.
- user_id: the user.
- workspace: the workspace''s UUID or slug.
Returns: the workspace''s UUID.
Raises: 42501 if the user is no member of it or it does not exist (one message for both); 55000 if the transaction
has entered one already; 55P03 if another session holds the advisory lock (7024, this session''s process id), which
marks that it has.
Called by: authz_app, at the beginning of each transaction.';

COMMENT ON FUNCTION authz.enter(text, uuid) IS
'As authz.enter(text, text), for a driver that sends UUIDs as such.
- user_id: the user.
- workspace: the workspace''s UUID.
Returns: the workspace''s UUID.
Raises: as the other.
Called by: authz_app, at the beginning of each transaction.';

COMMENT ON FUNCTION authz.claimed_workspace IS
'The workspace that the variable authz.entered names, verified by nothing: only for the default of a column, whose
policy verifies what is written.
Returns: its UUID; NULL if nothing was entered.
Called by: the default of workspace_id in isolated tables, so authz_app needs it.';

COMMENT ON FUNCTION authz.entered_workspace IS
'The workspace that this transaction has entered, with its signature verified.
Returns: its UUID.
Raises: 55000 if it has entered none, rather than NULL: an empty table would be a plausible and wrong answer.
Called by: the policy authz_workspace of isolated tables, once for each statement, so authz_app needs it.';

COMMENT ON FUNCTION authz.isolate IS
'Isolates a table of the application: adds workspace_id where it is missing (its default is what was entered, its
foreign key deletes rows with their workspace), puts it first in primary keys and unique constraints and into an
index, forces row-level security with the restrictive policy authz_workspace, and revokes TRUNCATE, REFERENCES and
TRIGGER from all but the owner. It may be called again at any time, and must be after each change of the table. What
it leaves open it says in WARNINGs: rows without a workspace, and what is unique across workspaces.
- isolated: the table; not in the schema authz, temporary or partitioned, without parents and children.
Returns: nothing.
Raises: 42809 for a table that cannot be isolated; 42804 if its workspace_id is not a uuid.
Called by: the owner of the schema authz, who must own the table too, by hand or in a migration of the application.';
