"""Two workspaces at the same key: what the tests of keys and of foreign keys share."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

ID = "SELECT id FROM authz.workspaces WHERE slug = %s"
DEFINITION = """
    SELECT pg_get_constraintdef(k.oid) FROM pg_constraint AS k
    WHERE k.conname = 'k' AND k.connamespace = 'x'::regnamespace
    UNION ALL
    SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i
    WHERE i.indexrelid = to_regclass('x.k')
      AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid)
"""


@dataclass(frozen=True, kw_only=True)
class Key:
    """Acme has done *first*, solo does *second*: it fails only where keys are compared across workspaces."""

    made: tuple[str, ...]
    becomes: str
    tables: tuple[str, ...] = ("x.t",)
    first: str = "INSERT INTO x.t (workspace_id, key, at) VALUES (%(me)s, 'a', '[1,5)')"
    second: str = "INSERT INTO x.t (workspace_id, key, at) VALUES (%(me)s, 'a', '[2,3)')"


def does(url: str, user: str, workspace: str, statement: str, *, enters: bool) -> None:
    with psycopg.connect(url) as connection:
        if enters:
            me = connection.execute("SELECT authz.enter(%s, %s)", (user, workspace)).fetchone()
        else:
            me = connection.execute(ID, (workspace,)).fetchone()
        assert me
        connection.execute(statement.encode(), {"me": me[0]})
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


def both(url: str, key: Key, *, enters: bool) -> None:
    does(url, "adam", "acme", key.first, enters=enters)
    does(url, "sam", "solo", key.second, enters=enters)
