"""The workspace that a report is about, by its slug or UUID, now or then."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sidecar.audit.moments import moment_text
from sidecar.reports.misasked import Misasked
from sidecar.store.grants import people_at, people_now
from sidecar.store.history import workspaces_called
from sidecar.text.ids import is_uuid
from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sidecar.store.auditing import Looked
    from sidecar.store.history import Called
    from sidecar.store.names import Spoken
    from sidecar.workspaces.holders import Workspace


def people_in(
    looked: Looked,
    named: str | None,
    *,
    at: datetime | None,
    spoken: Spoken,
    now: Callable[..., list[Workspace]] = people_now,
) -> list[Workspace]:
    """Of the workspace *named*, a slug or UUID, or of all; then, or *now*. Misasked if there is none."""
    if named is None:
        return people_at(looked.connection, at, None) if at else now(looked.connection, None, spoken=spoken)
    if at:
        return _then(looked, named, at)
    id_ = _uuid(named) or next(
        (str(called.id) for called in workspaces_called(looked.connection, named) if called.until is None),
        None,
    )
    found = now(looked.connection, id_, spoken=spoken) if id_ else []
    if found and (_uuid(named) or found[0].slug == named):
        return found
    # The history may not know what somebody did to the tables themselves.
    everybody = now(looked.connection, None, spoken=spoken)
    found = [each for each in everybody if named in {each.slug, each.id}]
    if found:
        return found
    raise Misasked(
        f'--workspace: there is no "{named}"'
        + did_you_mean(named, [each.slug for each in everybody])
        + _what_was(workspaces_called(looked.connection, named))
    )


def _then(looked: Looked, named: str, at: datetime) -> list[Workspace]:
    if id_ := _uuid(named):
        if found := people_at(looked.connection, at, id_):
            return found
        raise Misasked(f"--workspace: there was no {named} at {moment_text(at)}")
    called = workspaces_called(looked.connection, named)
    if len(called) > 1:
        raise Misasked(
            f'--workspace: {len(called)} workspaces were called "{named}", name one by its UUID'
            + _what_was(called)
        )
    found = people_at(looked.connection, at, str(called[0].id)) if called else []
    if found and found[0].slug == named:
        return found
    if found:
        raise Misasked(f'--workspace: at {moment_text(at)} "{named}" was called "{found[0].slug}": name that')
    near = ""
    if not called:
        near = did_you_mean(named, [each.slug for each in people_at(looked.connection, at, None)])
    raise Misasked(f'--workspace: there was no "{named}" at {moment_text(at)}' + near + _what_was(called))


def _what_was(called: list[Called]) -> str:
    lines = []
    for each in called:
        until = f", until {moment_text(each.until)}" if each.until else ""
        gone = f", deleted {moment_text(each.deleted_at)}" if each.deleted_at else ""
        lines.append(f"\n  {each.id}: called so since {moment_text(each.since)}{until}{gone}")
    return "".join(lines)


def _uuid(text: str) -> str | None:
    return str(UUID(text)) if is_uuid(text) else None
