"""The history as reports tell it: one row for each change, oldest first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.audit.forms import text_table
from sidecar.audit.moments import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

COLUMNS = (
    "id",
    "at",
    "workspace_id",
    "workspace",
    "kind",
    "user",
    "data",
    "actor",
    "actor_kind",
    "granted_by",
    "decision_id",
)
KINDS = (
    "catalog.changed",
    "history.began",
    "history.pruned",
    "invitation.accepted",
    "invitation.created",
    "invitation.replaced",
    "invitation.revoked",
    "invitation.voided",
    "member.changed",
    "member.found",
    "member.joined",
    "member.left",
    "member.lost",
    "member.removed",
    "member.role_changed",
    "names.changed",
    "override.removed",
    "override.set",
    "subscription.set",
    "workspace.anchor_changed",
    "workspace.billing_changed",
    "workspace.changed",
    "workspace.created",
    "workspace.deleted",
    "workspace.found",
    "workspace.lost",
    "workspace.plan_changed",
    "workspace.purged",
    "workspace.renamed",
    "workspace.restored",
    "workspace.slug_changed",
    "workspace.status_changed",
)
_LONGEST = 160  # of particulars, in a line of text


class Event(Protocol):
    """As the outbox has it. *workspace* is a slug."""

    @property
    def id(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def workspace_id(self) -> UUID | None: ...
    @property
    def workspace(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def user(self) -> str | None: ...
    @property
    def data(self) -> Mapping[str, Any]: ...
    @property
    def actor(self) -> str: ...
    @property
    def actor_kind(self) -> str: ...
    @property
    def granted_by(self) -> str | None: ...
    @property
    def decision_id(self) -> str | None: ...


def document_of(event: Event) -> dict[str, Any]:
    """In the order of COLUMNS."""
    return {
        "id": event.id,
        "at": moment_text(event.at),
        "workspace_id": None if event.workspace_id is None else str(event.workspace_id),
        "workspace": event.workspace,
        "kind": event.kind,
        "user": event.user,
        "data": dict(event.data),
        "actor": event.actor,
        "actor_kind": event.actor_kind,
        "granted_by": event.granted_by,
        "decision_id": event.decision_id,
    }


def text_lines(events: Iterable[Event]) -> list[str]:
    """When, where, what, and by whom."""
    return text_table(
        [
            str(moment_text(event.at)),
            event.workspace or str(event.workspace_id or "-"),
            event.kind,
            event.user or "-",
            _said(event),
            f"by {event.actor_kind} {event.actor}"
            + (f", invited by {event.granted_by}" if event.granted_by else ""),
            f"outbox {event.id}" + (f", decision {event.decision_id}" if event.decision_id else ""),
        ]
        for event in events
    )


def _said(event: Event) -> str:
    """The particulars that no other column tells: short, since --json has them whole."""
    if "from" in event.data and "to" in event.data:
        return f"{_word(event.data['from'])} → {_word(event.data['to'])}"
    left_out = {"user", "granted_by", "invitation"}
    said = {field: value for field, value in event.data.items() if field not in left_out}
    if list(said) == ["role"]:
        return _word(said["role"])
    text = json.dumps(said, ensure_ascii=False) if said else "-"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
