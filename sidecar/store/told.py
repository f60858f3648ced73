"""The history as an auditor reads it: rows of the outbox, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.workspaces.holders import Event, Grant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    import psycopg

HISTORY = """
    SELECT id, at, transaction::text, workspace_id::text, kind, user_id, data, actor, actor_kind, decision_id
    FROM authz.history(NULL, %(until)s, %(workspace)s::uuid, %(kinds)s, %(after)s)
"""


def events(
    connection: psycopg.Connection,
    *,
    kinds: Sequence[str],
    until: datetime | None = None,
    workspace: str | None = None,
) -> Iterator[Event]:
    """Those of *kinds* before *until*, oldest first."""
    after = 0
    while True:
        asked = {"until": until, "workspace": workspace, "kinds": list(kinds), "after": after}
        page = connection.execute(HISTORY, asked).fetchall()
        if not page:
            return
        yield from (Event(*row) for row in page)
        after = page[-1][0]


def founders(connection: psycopg.Connection, workspace: str | None) -> set[int]:
    """The rows that tell how whoever made a workspace became its member: in the transaction that made it."""
    made: set[tuple[str, str]] = set()
    found = set()
    for event in events(connection, kinds=("workspace.created", "member.joined"), workspace=workspace):
        if event.kind == "workspace.created":
            made.add((event.workspace_id, event.transaction))
        elif (event.workspace_id, event.transaction) in made:
            found.add(event.id)
    return found


def setters(connection: psycopg.Connection, workspace: str | None) -> dict[tuple[str, str, str], Grant]:
    """Who set the last override of each kind and name, by workspace; what was found, nobody set."""
    found: dict[tuple[str, str, str], Grant] = {}
    for event in events(connection, kinds=("override.set", "workspace.found"), workspace=workspace):
        told = [event.data] if event.kind == "override.set" else event.data.get("overrides", [])
        kind, by = (event.actor_kind, event.actor) if event.kind == "override.set" else ("found", None)
        for each in told:
            found[event.workspace_id, each["of"], each["name"]] = Grant("", event.at, kind, by, event.id)
    return found
