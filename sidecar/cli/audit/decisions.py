"""`sidecar audit decisions`: the decisions of a log that fit."""

from __future__ import annotations

import sys
from datetime import timedelta
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

import click

from sidecar.audit.forms import csv_lines, shown
from sidecar.audit.made import Made
from sidecar.audit.moments import shown_moment
from sidecar.audit.selection import (
    BOUGHT,
    COLUMNS,
    Purchases,
    Selected,
    Wanted,
    row_of,
    selected,
    with_bought,
)
from sidecar.catalog.finding import nearest
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.logs import evidence_at, files_at, mask_key_option, nothing_in, paths_argument
from sidecar.cli.audit.options import database_option, moment_option
from sidecar.cli.audit.report import json_text, made_by, report_options, say_streamed
from sidecar.decisions.reasons import REASONS
from sidecar.store.history import history
from sidecar.telemetry.logged import found_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime
    from pathlib import Path

    from sidecar.audit.selection import Found, Overridden

_IN_MEMORY = 16 * 1024 * 1024
_PLAN_CHANGED = "workspace.plan_changed"


@click.command(name="decisions")
@paths_argument()
@click.option("--user", help="A user id: who was asked about, or who did it themselves.")
@click.option("--workspace", help="A slug or a UUID.")
@click.option("--action", help="An action.")
@click.option("--reason", help="A reason, as docs/reasons.md lists them.")
@click.option("--status", type=click.IntRange(200, 599), help="An HTTP status, as 402.")
@click.option(
    "--override",
    type=click.Choice(["feature", "limit", "any"]),
    help="Where an overridden feature or limit was looked at.",
)
@moment_option("--since", "From here on.")
@moment_option("--until", "Before.")
@click.option(
    "--bought",
    metavar="DAYS",
    type=click.IntRange(1, 3_650),
    help="Say when within DAYS the workspace got a plan that the denial offered. Needs a database.",
)
@database_option()
@mask_key_option()
@report_options("csv")
def command(  # noqa: PLR0913 - click gives each option
    *,
    paths: tuple[str, ...],
    user: str | None,
    workspace: str | None,
    action: str | None,
    reason: str | None,
    status: int | None,
    override: Overridden | None,
    since: datetime | None,
    until: datetime | None,
    bought: int | None,
    database_url: str | None,
    masked: Callable[[str], str] | None,
    form: str,
    output: Path | None,
) -> None:
    """List the decisions of a log that fit all of the options, each as its line has it."""
    if reason is not None and reason not in REASONS:
        raise _unknown("reason", reason, REASONS)
    if bought is not None and not database_url:
        raise click.UsageError("--bought needs --database-url: what was bought stands in the history")
    wanted = Wanted(
        user=_also_masked(user, masked),
        workspace=_also_masked(workspace, masked),
        action=action,
        reason=reason,
        status=status,
        override=override,
        since=since,
        until=until,
    )
    files = files_at(paths)
    counted = Selected()
    with (
        SpooledTemporaryFile(max_size=_IN_MEMORY) as spool,
        evidence_at(database_url if bought is not None else None) as found,
    ):
        purchases = None
        if found is not None and bought is not None:
            changes = history(found[0].connection, since=since, kinds=[_PLAN_CHANGED])
            rows = (
                {"workspace_id": str(each.workspace_id), "at": each.at, "data": each.data} for each in changes
            )
            purchases = Purchases(rows, within=timedelta(days=bought))
        lines = selected(files, wanted, decode=found_line, counted=counted)
        rows_written = _write(lines, form, spool, purchases, counted)
        if not counted.lines:
            raise nothing_in(paths)
        if action is not None and not rows_written and action not in counted.actions:
            raise _unknown("action", action, counted.actions)
        if (
            wanted.workspace is not None
            and workspace is not None
            and not wanted.workspace & counted.workspaces
        ):
            raise _unknown("workspace", workspace, counted.workspaces)
        made = Made(
            **made_by(found[0] if found else None),
            population={"lines": counted.lines, "decisions": counted.decisions},
        )
        spool.seek(0)
        say_streamed(
            _report(form, made, spool, counted, rows_written, asks=bought is not None),
            output=output,
            meta={"made": made.document, "rows": rows_written, "unread": counted.unread}
            if form == "csv"
            else None,
        )
    if counted.unread:
        if form == "csv":
            sys.stderr.write(f"sidecar: {_unread(counted.unread)}\n")
        sys.exit(EXIT_FOUND)


def _write(
    lines: Iterator[tuple[bytes, Found]],
    form: str,
    spool: IO[bytes],
    purchases: Purchases | None,
    counted: Selected,
) -> int:
    """How many rows there are."""
    number = 0
    for text, line in lines:
        moment = purchases.after(line) if purchases else None
        bought = shown_moment(moment) if moment else None
        try:
            row = _row(text, line, form, bought, asks=purchases is not None)
        except ValueError:  # not UTF-8 where nobody has looked so far
            counted.unread += 1
            continue
        spool.write(b",\n    " + row if form == "json" and number else row)
        number += 1
    return number


def _row(text: bytes, line: Found, form: str, bought: str | None, *, asks: bool) -> bytes:
    if form == "json":
        text.decode()
        return with_bought(text, bought) if asks else text
    if form == "csv":
        document = row_of(text)
        values = [document.get(name) for name in COLUMNS]
        return "".join(csv_lines([[*values, bought] if asks else values])).encode()
    return f"{_in_words(line, bought, asks=asks)}\n".encode()


def _in_words(line: Found, bought: str | None, *, asks: bool) -> str:
    parts = [
        line.at,
        f"{line.status or '-'} {line.reason or '-'}" + _in_brackets(line.detail),
        str(line.user),
        str(line.workspace),
        str(line.action),
    ]
    if line.upgrade:
        parts.append(f"→ {', '.join(line.upgrade)}")
    if asks:
        parts.append(f"bought {bought}" if bought else "not bought")
    parts.append(line.decision_id or "-")
    return "  ".join(map(shown, parts))


def _in_brackets(detail: object) -> str:
    return f" ({detail})" if detail is not None else ""


def _report(
    form: str, made: Made, spool: IO[bytes], counted: Selected, rows: int, *, asks: bool
) -> Iterator[bytes]:
    chunks = iter(lambda: spool.read(256 * 1024), b"")
    if form == "csv":
        columns = [*COLUMNS, BOUGHT] if asks else COLUMNS
        yield "".join(csv_lines([columns])).encode()
        yield from chunks
        return
    if form == "json":
        head = json_text({"made": made.document}).removesuffix("\n}")
        yield f'{head},\n  "rows": ['.encode()
        if rows:
            yield b"\n    "
        yield from chunks
        end = "\n  " if rows else ""
        yield f'{end}],\n  "unread": {counted.unread}\n}}\n'.encode()
        return
    yield from chunks
    yield f"{rows:,} of {counted.decisions:,} decisions in {counted.lines:,} lines\n".encode()
    if counted.unread:
        yield f"{_unread(counted.unread)}\n".encode()


def _unread(number: int) -> str:
    return (
        f"{number:,} line{'' if number == 1 else 's'} could not be read: sidecar audit verify-log tells which"
    )


def _also_masked(name: str | None, masked: Callable[[str], str] | None) -> frozenset[str] | None:
    if name is None:
        return None
    return frozenset({name} if masked is None else {name, masked(name)})


def _unknown(what: str, name: str, known: Collection[str]) -> click.UsageError:
    meant = nearest(name, [each for each in known if each])
    says = f'; did you mean "{meant}"?' if meant else ""
    where = "is no reason" if what == "reason" else "is in no line"
    return click.UsageError(f'{what} "{name}" {where}{says}')
