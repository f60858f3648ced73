"""`sidecar audit history`: who changed what, when, and by which decision."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

import click

from sidecar.audit.events import COLUMNS, KINDS, document_of, text_lines
from sidecar.audit.forms import csv_text
from sidecar.audit.made import Made
from sidecar.audit.moments import moment_text
from sidecar.cli.audit.options import database_option, moment_option
from sidecar.cli.audit.report import json_text, made_by, report_options, say, say_csv
from sidecar.store.auditing import looking
from sidecar.store.history import history, workspaces_called
from sidecar.text.ids import is_uuid
from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from sidecar.store.auditing import Looked
    from sidecar.store.history import Event


@click.command(name="history")
@database_option()
@moment_option("--since", "Changes of this moment or later.")
@moment_option("--until", "Changes of before this moment.")
@click.option("--workspace", metavar="WS", help="Changes of this workspace, a UUID or a slug of any time.")
@click.option("--user", metavar="USER", help="Changes that happened to this user.")
@click.option("--actor", metavar="ACTOR", help="Changes that this user, caller or login made.")
@click.option("--kind", "kinds", metavar="K,…", multiple=True, help="Changes of these kinds.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first N changes alone.")
@report_options("csv")
def command(  # noqa: PLR0913 - click gives each option
    *,
    database_url: str | None,
    since: datetime | None,
    until: datetime | None,
    workspace: str | None,
    user: str | None,
    actor: str | None,
    kinds: tuple[str, ...],
    limit: int | None,
    form: str,
    output: Path | None,
) -> None:
    """The outbox, oldest first: who changed what, when, by which decision."""
    if not database_url:
        raise click.UsageError("--database-url or SIDECAR_AUDIT_URL is required: the history is there")
    if since and until and since >= until:
        raise click.UsageError("--until is not later than --since: nothing would be looked at")
    asked = _kinds_in(kinds)
    with looking(database_url) as looked:
        id_ = _workspace(looked, workspace)
        found = history(looked.connection, since=since, until=until, workspace=id_, kinds=asked or None)
        events = list(islice(_of(found, user, actor), limit))
        made = Made(**made_by(looked), population={"changes": len(events)})
    _say(events, made, form=form, output=output)


def _of(events: Iterator[Event], user: str | None, actor: str | None) -> Iterator[Event]:
    for event in events:
        if (user is None or event.user == user) and (actor is None or event.actor == actor):
            yield event


def _say(events: list[Event], made: Made, *, form: str, output: Path | None) -> None:
    documents = [document_of(event) for event in events]
    match form:
        case "json":
            say(json_text({"made": made.document, "rows": documents}), output=output)
        case "csv":
            table = csv_text(COLUMNS, [list(each.values()) for each in documents])
            say_csv(table, output=output, meta={"made": made.document, "rows": len(documents)})
        case _:
            changes = "1 change" if len(events) == 1 else f"{len(events):,} changes"
            head = f"{changes} in {made.database}, asked by {made.login} at {made.at} by {made.by}"
            say("\n".join([head, "", *text_lines(events)] if events else [head]), output=output)


def _kinds_in(texts: tuple[str, ...]) -> list[str]:
    kinds = [kind.strip() for text in texts for kind in text.split(",")]
    for kind in kinds:
        if kind not in KINDS:
            says = did_you_mean(kind, KINDS) or f": it is one of {', '.join(KINDS)}"
            raise click.UsageError(f'--kind: "{kind}" is no kind of change{says}')
    return kinds


def _workspace(looked: Looked, named: str | None) -> UUID | None:
    """A slug that more than one workspace had is a usage error, which lists them."""
    if named is None:
        return None
    if is_uuid(named):
        if next(history(looked.connection, workspace=UUID(named)), None) is None:
            raise click.UsageError(f"--workspace: the history knows no {named}")
        return UUID(named)
    called = workspaces_called(looked.connection, named)
    if len(called) == 1:
        return called[0].id
    if not called:
        slugs = {event.workspace for event in history(looked.connection) if event.workspace}
        raise click.UsageError(
            f'--workspace: the history knows no "{named}"{did_you_mean(named, sorted(slugs))}'
        )
    lines = [
        f"{each.id}  from {moment_text(each.since)} to {moment_text(each.until) or 'now'}"
        + (f", deleted {moment_text(each.deleted_at)}" if each.deleted_at else "")
        for each in called
    ]
    says = "\n  ".join([f'{len(called)} workspaces were called "{named}", name one by its UUID:', *lines])
    raise click.UsageError(f"--workspace: {says}")
