"""Who changed what, as an auditor reads the outbox."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    import psycopg

PAGE = """
    SELECT id, at, workspace_id, slug, kind, user_id, data, actor, actor_kind, granted_by, decision_id
    FROM authz.history(%(since)s, %(until)s, %(workspace)s, %(kinds)s, %(after)s)
"""
CALLED = "SELECT workspace_id, since, until, deleted_at FROM authz.workspaces_called(%s)"

NO_WORKSPACE = UUID(int=0)  # of rows that are of none


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the outbox, by the slug that the workspace has now; *data* is in the names of then.

    *user* is whom it happened to; *granted_by* who invited a user who joined.
    """

    id: int
    at: datetime
    workspace_id: UUID | None
    workspace: str | None
    kind: str
    user: str | None
    data: dict[str, Any]
    actor: str
    actor_kind: str
    granted_by: str | None
    decision_id: str | None


@dataclass(frozen=True, slots=True)
class Called:
    """A workspace that had a slug *since* then; *until* is None if it still has."""

    id: UUID
    since: datetime
    until: datetime | None
    deleted_at: datetime | None


def history(
    connection: psycopg.Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    workspace: UUID | None = None,
    kinds: Sequence[str] | None = None,
) -> Iterator[Event]:
    """Oldest first; *until* is exclusive. Read in pages, within the transaction of *connection*."""
    after = 0
    while True:
        asked = {"since": since, "until": until, "workspace": workspace, "after": after}
        page = connection.execute(PAGE, asked | {"kinds": None if kinds is None else list(kinds)}).fetchall()
        if not page:
            return
        for row in page:
            event = Event(*row)
            after = event.id
            if event.workspace_id == NO_WORKSPACE:
                event = replace(event, workspace_id=None)
            yield event


def workspaces_called(connection: psycopg.Connection, slug: str) -> list[Called]:
    """Those that the history knows by *slug*, of any time, oldest first."""
    return [Called(*row) for row in connection.execute(CALLED, (slug,))]
