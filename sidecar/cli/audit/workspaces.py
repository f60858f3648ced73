"""The workspace that an option of `sidecar audit` names, and the moment."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import click

from sidecar.audit.moments import moment_text
from sidecar.cli.audit.options import what_is_wrong_with
from sidecar.store.grants import people_at, people_now
from sidecar.store.history import workspaces_called
from sidecar.store.published import known_since
from sidecar.text.ids import is_uuid
from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from sidecar.store.auditing import Looked
    from sidecar.store.history import Called
    from sidecar.store.names import Spoken
    from sidecar.workspaces.holders import Workspace


@contextmanager
def no_collections() -> Iterator[None]:
    """For a report about half a million members: looking for cycles among them takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def refuse_unknown_moment(looked: Looked, at: datetime | None) -> None:
    """A usage error for a moment that the history cannot tell of; it names the first that is known."""
    if at is None:
        return
    since = known_since(looked.connection)
    if since is None:
        raise click.UsageError("--at: this database has no history yet")
    refuse_unusable(at, f"the first moment that is known is {moment_text(since)}")
    if at < since:
        raise click.UsageError(
            f"--at: {moment_text(at)} is before the history begins, which is {moment_text(since)}"
        )


def refuse_unusable(at: datetime, known: str) -> None:
    """A usage error for a moment without a zone or in the future; *known* is said behind it."""
    if wrong := what_is_wrong_with(at):
        raise click.UsageError(f"--at: {at.isoformat().replace('+00:00', 'Z')} {wrong}; {known}")


def refuse_unknown(kind: str, name: str, known: Iterable[str]) -> None:
    """A usage error unless *name* is one of *known*."""
    names = list(known)
    if name not in names:
        raise click.UsageError(f'{kind} "{name}" is not known{did_you_mean(name, names)}')


def people_in(
    looked: Looked,
    named: str | None,
    *,
    at: datetime | None,
    spoken: Spoken,
    now: Callable[..., list[Workspace]] = people_now,
) -> list[Workspace]:
    """Of the workspace *named*, a slug or UUID, or of all; then, or *now*. UsageError if there is none."""
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
    raise click.UsageError(
        f'--workspace: there is no "{named}"'
        + did_you_mean(named, [each.slug for each in everybody])
        + _what_was(workspaces_called(looked.connection, named))
    )


def _then(looked: Looked, named: str, at: datetime) -> list[Workspace]:
    if id_ := _uuid(named):
        if found := people_at(looked.connection, at, id_):
            return found
        raise click.UsageError(f"--workspace: there was no {named} at {moment_text(at)}")
    called = workspaces_called(looked.connection, named)
    if len(called) > 1:
        raise click.UsageError(
            f'--workspace: {len(called)} workspaces were called "{named}", name one by its UUID'
            + _what_was(called)
        )
    found = people_at(looked.connection, at, str(called[0].id)) if called else []
    if found and found[0].slug == named:
        return found
    if found:
        raise click.UsageError(
            f'--workspace: at {moment_text(at)} "{named}" was called "{found[0].slug}": name that'
        )
    near = ""
    if not called:
        near = did_you_mean(named, [each.slug for each in people_at(looked.connection, at, None)])
    raise click.UsageError(
        f'--workspace: there was no "{named}" at {moment_text(at)}' + near + _what_was(called)
    )


def _what_was(called: list[Called]) -> str:
    lines = []
    for each in called:
        until = f", until {moment_text(each.until)}" if each.until else ""
        gone = f", deleted {moment_text(each.deleted_at)}" if each.deleted_at else ""
        lines.append(f"\n  {each.id}: called so since {moment_text(each.since)}{until}{gone}")
    return "".join(lines)


def _uuid(text: str) -> str | None:
    return str(UUID(text)) if is_uuid(text) else None
