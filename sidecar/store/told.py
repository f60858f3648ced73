"""Who gave what, beyond memberships: who founded a workspace, changed their own role, set an override."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sidecar.store.history import history
from sidecar.workspaces.holders import Grant

if TYPE_CHECKING:
    import psycopg

FOUNDED = """
    SELECT id, transaction::text, workspace_id, kind
    FROM authz.history(NULL, NULL, %s::uuid, ARRAY['workspace.created', 'member.joined'], %s)
"""


def founders(connection: psycopg.Connection, workspace: str | None) -> set[int]:
    """The rows that tell how whoever made a workspace became its member: in the transaction that made it."""
    made: set[tuple[str, UUID]] = set()
    found: set[int] = set()
    after = 0
    while page := connection.execute(FOUNDED, (workspace, after)).fetchall():
        for id_, transaction, workspace_id, kind in page:
            if kind == "workspace.created":
                made.add((transaction, workspace_id))
            elif (transaction, workspace_id) in made:
                found.add(id_)
        after = page[-1][0]
    return found


def own_changes(connection: psycopg.Connection, workspace: str | None) -> dict[int, tuple[str, str]]:
    """The rows that tell how users changed their own role: from which, and to which."""
    of = UUID(workspace) if workspace else None
    return {
        event.id: (event.data["from"], event.data["to"])
        for event in history(connection, workspace=of, kinds=("member.role_changed",))
        if event.actor_kind == "user" and event.actor == event.user
    }


def setters(connection: psycopg.Connection, workspace: str | None) -> dict[tuple[str, str, str], Grant]:
    """Who set the last override of each kind and name, by workspace; what was found, nobody set."""
    found: dict[tuple[str, str, str], Grant] = {}
    of = UUID(workspace) if workspace else None
    for event in history(connection, workspace=of, kinds=("override.set", "workspace.found")):
        is_set = event.kind == "override.set"
        for each in [event.data] if is_set else event.data.get("overrides", []):
            kind, by = (event.actor_kind, event.actor) if is_set else ("found", None)
            found[str(event.workspace_id), each["of"], each["name"]] = Grant("", event.at, kind, by, event.id)
    return found
