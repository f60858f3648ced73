"""One workspace: all that administrators know of it, what it uses, and who did what to it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.api.v1.workspaces import GET_WORKSPACE
from sidecar.audit.events import document_of
from sidecar.console.pages.page import Asked, Made, Page
from sidecar.console.pages.quotas import bars_of
from sidecar.console.reading import CannotRead, as_auditor
from sidecar.store.history import history

if TYPE_CHECKING:
    from sidecar.console.pages.quotas import Bar

_MEMBERS, _INVITATIONS, _EVENTS = 100, 100, 50


def workspace(asked: Asked) -> Made:
    found = asked.endpoint(
        GET_WORKSPACE,
        {"after": asked.of("after"), "limit": _MEMBERS},
        workspace=asked.path["workspace"],
    )
    id_ = UUID(found["id"])
    invitations = asked.sources.people.invitations(
        id_, after=None, limit=_INVITATIONS + 1, deadline=asked.deadline
    )
    bars, held = _use(asked, id_)
    events, cannot = _events(asked, id_)
    catalog = asked.sources.compiled.catalog
    return Made(
        template="workspace.html",
        values={
            "found": found,
            "plan": catalog.plans.get(found["plan"]),
            "invitations": invitations[:_INVITATIONS],
            "more_invitations": len(invitations) > _INVITATIONS,
            "bars": bars,
            "held": held,
            "events": events,
            "most_events": _EVENTS,
            "cannot_read": cannot,
            "actions": catalog.declared_actions,
        },
    )


def _use(asked: Asked, id_: UUID) -> tuple[list[Bar], dict[str, Any]]:
    """Its meters, and of each meter what is held: seconds until each hold ends, and its amount."""
    catalog, facts = asked.sources.compiled.catalog, asked.sources.facts
    roster = facts.members_of(str(id_), after=None, limit=1, deadline=asked.deadline)
    to_come = facts.to_come({id_: tuple(catalog.meters)}, deadline=asked.deadline).get(id_, {})
    held = {meter: of.held for meter, of in to_come.items() if of.held}
    return bars_of(roster.facts, catalog) if roster.facts else [], held


def _events(asked: Asked, id_: UUID) -> tuple[list[dict[str, Any]], str | None]:
    """The last events, the newest first; or why they cannot be read."""
    try:
        with as_auditor(asked.sources.audit_url) as looked:
            last = deque(history(looked.connection, workspace=id_), maxlen=_EVENTS)
    except CannotRead as error:
        return [], error.says
    return [document_of(each) for each in reversed(last)], None


WORKSPACE = Page(
    name="workspace",
    title="One workspace",
    paths=("/workspaces/<path:workspace>",),
    make=workspace,
    of_navigation=False,
    within="workspaces",
)
