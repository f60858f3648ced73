"""Foreign keys are checked, and act, past all policies: each kind leaks before `isolate`, and not after."""

from __future__ import annotations

import pytest
from psycopg import errors

from tests.postgres_server import rows, run
from tests.store.conftest import APP, isolate
from tests.store.isolated_keys import DEFINITION, Key, both, does

pytestmark = pytest.mark.postgres

PARENTS = "CREATE TABLE x.parents (workspace_id uuid, id text PRIMARY KEY)"


def child(definition: str, becomes: str) -> Key:
    """Solo refers to what acme has: it fails only where a foreign key is within the workspace."""
    return Key(
        made=(
            PARENTS,
            f"CREATE TABLE x.t (workspace_id uuid, parent text, up text UNIQUE, CONSTRAINT k {definition})",
        ),
        becomes=becomes,
        tables=("x.parents", "x.t"),
        first="INSERT INTO x.parents (workspace_id, id) VALUES (%(me)s, 'a')",
        second="INSERT INTO x.t (workspace_id, parent) VALUES (%(me)s, 'a')",
    )


def between(actions: str, *, becomes: str | None = None) -> Key:
    return child(
        f"FOREIGN KEY (parent) REFERENCES x.parents (id){actions}",
        "FOREIGN KEY (workspace_id, parent) REFERENCES x.parents(workspace_id, id)"
        + (actions if becomes is None else becomes),
    )


REFERENCES = {
    "no action": between(""),
    "cascade": between(" ON UPDATE CASCADE ON DELETE CASCADE"),
    "set null": between(" ON DELETE SET NULL", becomes=" ON DELETE SET NULL (parent)"),
    "set some null": between(" ON DELETE SET NULL (parent)"),
    "set default": between(" ON DELETE SET DEFAULT", becomes=" ON DELETE SET DEFAULT (parent)"),
    "restrict": between(" ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED"),
    "full match of one column": between(" MATCH FULL ON DELETE CASCADE", becomes=" ON DELETE CASCADE"),
    "not valid": Key(
        made=(
            PARENTS,
            "CREATE TABLE x.t (workspace_id uuid, parent text)",
            "ALTER TABLE x.t ADD CONSTRAINT k FOREIGN KEY (parent) REFERENCES x.parents NOT VALID",
        ),
        becomes=between(" NOT VALID").becomes,
        tables=between("").tables,
        first=between("").first,
        second=between("").second,
    ),
    "names that need quotes": Key(
        made=(
            PARENTS,
            'CREATE TABLE x.t (workspace_id uuid, "Of \\1" text)',
            'ALTER TABLE x.t ADD CONSTRAINT k FOREIGN KEY ("Of \\1") REFERENCES x.parents ON DELETE SET NULL',
        ),
        becomes='FOREIGN KEY (workspace_id, "Of \\1") REFERENCES x.parents(workspace_id, id)'
        ' ON DELETE SET NULL ("Of \\1")',
        tables=between("").tables,
        first=between("").first,
        second="INSERT INTO x.t (workspace_id, \"Of \\1\") VALUES (%(me)s, 'a')",
    ),
    "to itself": Key(
        made=(
            (
                "CREATE TABLE x.t (workspace_id uuid, id text PRIMARY KEY, parent text, CONSTRAINT k"
                " FOREIGN KEY (parent) REFERENCES x.t)"
            ),
        ),
        becomes="FOREIGN KEY (workspace_id, parent) REFERENCES x.t(workspace_id, id)",
        first="INSERT INTO x.t (workspace_id, id) VALUES (%(me)s, 'a')",
        second="INSERT INTO x.t (workspace_id, id, parent) VALUES (%(me)s, 'b', 'a')",
    ),
}


@pytest.mark.parametrize("key", REFERENCES.values(), ids=REFERENCES)
def test_a_foreign_key_that_reached_other_workspaces_reaches_them_no_more(x, database_url, key):
    run(database_url, *key.made)
    both(database_url, key, enters=False)  # solo has learnt that acme has this key
    run(database_url, f"TRUNCATE {', '.join(key.tables)}")

    isolate(database_url, *key.tables)
    assert rows(database_url, DEFINITION) == [(key.becomes,)]
    assert isolate(database_url, *key.tables) == []
    with pytest.raises(errors.ForeignKeyViolation):
        both(x, key, enters=True)
    does(x, "adam", "acme", key.second, enters=True)  # in its own workspace as before


def test_a_deletion_removed_rows_of_other_workspaces_and_does_no_more(x, database_url):
    key = between(" ON DELETE CASCADE")
    run(database_url, *key.made)
    both(database_url, key, enters=False)
    does(database_url, "adam", "acme", "DELETE FROM x.parents WHERE workspace_id = %(me)s", enters=False)
    assert rows(database_url, "SELECT FROM x.t") == []  # it was solo's

    isolate(database_url, *key.tables)
    for user, workspace in (("adam", "acme"), ("sam", "solo")):
        does(x, user, workspace, key.first, enters=True)
        does(x, user, workspace, key.second, enters=True)
    does(x, "adam", "acme", "DELETE FROM x.parents", enters=True)
    assert len(rows(database_url, "SELECT FROM x.t")) == 1


@pytest.mark.parametrize("order", [("x.parents", "x.t", "x.other"), ("x.other", "x.t", "x.parents")])
def test_a_key_of_several_foreign_keys_is_widened_when_the_last_of_their_tables_is_isolated(
    x, database_url, order
):
    run(
        database_url,
        PARENTS,
        "CREATE TABLE x.t (parent text REFERENCES x.parents, second text REFERENCES x.parents)",
        "CREATE TABLE x.other (parent text REFERENCES x.parents ON DELETE CASCADE)",
    )
    heard = isolate(database_url, *order)

    assert heard  # in between
    assert isolate(database_url, *order) == []
    keys = """
        SELECT pg_get_constraintdef(oid) FROM pg_constraint
        WHERE confrelid = 'x.parents'::regclass OR conrelid = 'x.parents'::regclass AND contype = 'p'
        ORDER BY 1
    """
    assert rows(database_url, keys) == [
        ("FOREIGN KEY (workspace_id, parent) REFERENCES x.parents(workspace_id, id)",),
        ("FOREIGN KEY (workspace_id, parent) REFERENCES x.parents(workspace_id, id) ON DELETE CASCADE",),
        ("FOREIGN KEY (workspace_id, second) REFERENCES x.parents(workspace_id, id)",),
        ("PRIMARY KEY (workspace_id, id)",),
    ]


def test_an_owner_who_is_bound_by_policies_puts_rows_that_are_there_within_the_workspace(x, database_url):
    """They are compared, though the owner has entered no workspace."""
    run(
        database_url,
        *between("").made,
        "INSERT INTO x.parents SELECT id, slug FROM authz.workspaces",
        "INSERT INTO x.t (workspace_id, parent) SELECT id, slug FROM authz.workspaces",
        f"ALTER TABLE x.parents OWNER TO {APP}",
        f"ALTER TABLE x.t OWNER TO {APP}",
        f"GRANT CREATE ON SCHEMA x TO {APP}",
        f"GRANT CREATE, USAGE ON SCHEMA authz TO {APP}",
        f"GRANT SELECT, REFERENCES ON authz.workspaces TO {APP}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA authz TO {APP}",
    )
    try:
        heard = isolate(x, "x.parents", "x.t")
    finally:
        run(
            database_url,
            f"REVOKE CREATE, USAGE ON SCHEMA authz FROM {APP}",
            f"REVOKE ALL ON authz.workspaces FROM {APP}",
            f"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA authz FROM {APP}",
        )

    assert [says for says, _ in heard if "cannot" in says] == []
    assert rows(database_url, DEFINITION) == [(between("").becomes,)]
    forced = "SELECT relforcerowsecurity FROM pg_class WHERE oid IN ('x.t'::regclass, 'x.parents'::regclass)"
    assert rows(database_url, forced) == [(True,), (True,)]
