"""`sidecar audit verify-log`: is a decision log whole, and is it complete?"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.audit.completeness import Completeness
from sidecar.audit.gaps import Change, Mark
from sidecar.audit.made import Made
from sidecar.audit.moments import shown_moment
from sidecar.audit.verification import heads_in, heads_text, merged, read
from sidecar.audit.verified import Verified, not_looked_at
from sidecar.audit.wholeness import Wholeness
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.logs import (
    anchors_of,
    evidence_at,
    files_at,
    mask_key_option,
    nothing_in,
    paths_argument,
)
from sidecar.cli.audit.options import database_option, moment_option
from sidecar.cli.audit.report import json_text, made_by, report_options, say
from sidecar.errors import ConfigError
from sidecar.store.history import history
from sidecar.telemetry.log_files import LONGEST_LINE
from sidecar.telemetry.logged import sealed_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sidecar.audit.findings import Anchor, Finding
    from sidecar.audit.gaps import Gap
    from sidecar.store.auditing import Looked
    from sidecar.store.evidence import Evidence

_AROUND = timedelta(seconds=10)  # an anchor is a few seconds younger than its line
_MARKED_BEFORE = timedelta(minutes=5)  # a line is written after its mark was set
_AFTER = timedelta(microseconds=1)  # the database's times end before their end
_USER = "user"


@click.command(name="verify-log")
@paths_argument()
@database_option()
@click.option("--print-heads", is_flag=True, help="Print each writer's last seal, to be kept elsewhere.")
@click.option(
    "--heads",
    "heads_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare with what --print-heads has printed.",
)
@moment_option("--since", "The log may begin here. What the database knows of later is looked for.")
@moment_option("--until", "What the database knows of up to here is looked for.  [default: the last line]")
@click.option("--whole-only", is_flag=True, help="Ask only whether it is whole, not whether it is complete.")
@mask_key_option()
@report_options()
def command(  # noqa: PLR0913 - click gives each option
    *,
    paths: tuple[str, ...],
    database_url: str | None,
    print_heads: bool,
    heads_file: Path | None,
    since: datetime | None,
    until: datetime | None,
    whole_only: bool,
    masked: Callable[[str], str] | None,
    form: str,
    output: Path | None,
) -> None:
    """Verify decision logs: folders, .jsonl, .gz, or - for standard input.

    Whole: every seal fits, no line is missing, and every head that the database or --heads knows is there.
    Complete: nothing was lost or left out before it could be sealed.
    """
    files = files_at(paths)
    heads = {} if heads_file is None else _heads_at(heads_file)
    with evidence_at(database_url) as found:
        known = anchors_of(found[1]) if found else {}
        whole = Wholeness(merged(known, heads), begins_later=since is not None)
        complete = Completeness(looks_up=bool(found) and not whole_only, masked=masked)
        counted = read(files, decode=sealed_line, longest=LONGEST_LINE, whole=whole, complete=complete)
        if not counted.lines and not any(file.torn is not None for file in files):
            raise nothing_in(paths)
        begins, ends = complete.between
        begins, last = since or begins, until or ends
        findings = whole.findings(
            since=since, until=until, active=frozenset(heads) | _active(known, begins, last)
        )
        gaps = complete.gaps_of_writers(begins_later=since is not None, until=until)
        asks = bool(found) and begins is not None and last is not None
        if found and begins is not None and last is not None:
            more, missing = _by_database(*found, complete, begins, last, whole_only=whole_only)
            findings += more
            gaps += missing
        verified = Verified(
            files=counted.files,
            writers=len(whole.writers),
            lines=counted.lines,
            unsealed=whole.unsealed_lines,
            since=begins,
            until=last,
            findings=findings,
            gaps=gaps,
            not_looked_at=not_looked_at(database=asks and not whole_only),
            still_written=complete.still_written,
            headless=sorted({*whole.writers} - known.keys() - heads.keys()) if found or heads else (),
            anchored_at=max(
                (a.at for name in whole.writers for a in known.get(name, ()) if a.at is not None),
                default=None,
            ),
            has_heads=bool(heads),
            last_line_at=ends,
        )
        made = Made(
            **made_by(found[0] if found else None),
            as_of=shown_moment(last) if last else None,
            population={"files": verified.files, "writers": verified.writers, "lines": verified.lines},
        )
    if print_heads:
        _print_heads(whole, verified, output)
    elif form == "json":
        say(json_text({"made": made.document, **verified.document}), output=output)
    else:
        say(verified.text, output=output)
    if not verified.is_whole or not (whole_only or print_heads or verified.is_complete):
        sys.exit(EXIT_FOUND)


def _print_heads(whole: Wholeness, verified: Verified, output: Path | None) -> None:
    """Of a log that is whole: heads of another one would be kept for nothing."""
    if verified.is_whole:
        say(heads_text(whole.heads()), output=output)
    else:
        sys.stderr.write(f"{verified.text}\n")


def _heads_at(file: Path) -> dict[str, list[Anchor]]:
    try:
        return heads_in(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not what --print-heads prints: {error}") from error


def _active(
    known: Mapping[str, Sequence[Anchor]], since: datetime | None, until: datetime | None
) -> frozenset[str]:
    """The writers with anchors of that time."""
    if since is None or until is None:
        return frozenset()
    return frozenset(
        writer
        for writer, anchors in known.items()
        if (times := [each.at for each in anchors if each.at is not None])
        and min(times) - _AROUND <= until
        and max(times) + _AROUND >= since
    )


def _by_database(
    looked: Looked,
    evidence: Evidence,
    complete: Completeness,
    since: datetime,
    until: datetime,
    *,
    whole_only: bool,
) -> tuple[list[Finding], list[Gap]]:
    end = until + _AFTER
    marks = [Mark(**row) for row in evidence.digests(since - _MARKED_BEFORE, end)]
    findings = complete.broken_marks(marks, since=since, until=until)
    if whole_only:
        return findings, []
    changes = (
        Change(id=event.id, at=event.at, actor=event.actor, decision_id=event.decision_id)
        for event in history(looked.connection, since=since, until=end)
        if event.actor_kind == _USER
    )
    return findings, [
        *complete.gaps_of_effects(evidence.effects(since, end)),
        *complete.gaps_of_changes(changes),
        *complete.gaps_of_marks(mark for mark in marks if mark.at >= since),
        *complete.gaps_of_unaccounted(evidence.unaccounted()),
        *complete.gaps_of_revisions(evidence.published()),
    ]
