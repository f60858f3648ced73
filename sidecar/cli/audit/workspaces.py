"""The workspace that an option of `sidecar audit` names, and the moment."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from sidecar.audit.moments import moment_text
from sidecar.cli.audit.options import what_is_wrong_with
from sidecar.reports import workspaces
from sidecar.reports.misasked import Misasked
from sidecar.store.grants import people_now
from sidecar.store.published import known_since
from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from sidecar.store.auditing import Looked
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
    """As reports.workspaces.people_in; a usage error if there is none."""
    with as_usage():
        return workspaces.people_in(looked, named, at=at, spoken=spoken, now=now)


@contextmanager
def as_usage() -> Iterator[None]:
    """What a report cannot be about was asked by an option."""
    try:
        yield
    except Misasked as error:
        raise click.UsageError(str(error)) from error
