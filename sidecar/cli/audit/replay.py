"""`sidecar audit replay`: are a log's decisions what their own policies say, and what would another say?"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from sidecar.audit.against import Against
from sidecar.audit.forms import shown
from sidecar.audit.made import Made
from sidecar.audit.replay import Counted, NotKept, Replay, decisions_in
from sidecar.cli import EXIT_FOUND, policies_option
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.logs import evidence_at, files_at, nothing_in, paths_argument
from sidecar.cli.audit.options import archive_option, database_option, engine_option, moment_option
from sidecar.cli.audit.report import json_text, made_by, report_options, say
from sidecar.cli.audit.sides import named_side
from sidecar.engines.verdict import document_of
from sidecar.errors import EngineMisbehaved, NotAsked
from sidecar.rego.kept import archived, kept
from sidecar.store.published import last_kept
from sidecar.telemetry.logged import asked_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from sidecar.cli.audit.sides import Named
    from sidecar.decisions.ports import PolicyEngine
    from sidecar.rego.compile import Compiled
    from sidecar.store.auditing import Looked
    from sidecar.store.published import Kept

_VERDICT_WITHIN_S = 60.0
_MOST_NAMED = 20


@click.command(name="replay")
@paths_argument()
@click.option("--decision", metavar="ID", help="Only this decision.")
@click.option(
    "--against",
    metavar="NEW",
    help="Ask this policy instead: a folder, a plans.yaml, git:REF, or a kept revision, as for diff.",
)
@moment_option("--since", "Decisions from here on.")
@moment_option("--until", "Decisions before.")
@policies_option()
@archive_option()
@database_option()
@engine_option()
@report_options()
def command(  # noqa: PLR0913 - click gives each option
    *,
    paths: tuple[str, ...],
    decision: str | None,
    against: str | None,
    since: datetime | None,
    until: datetime | None,
    policies: Path | None,
    archive: Path | None,
    database_url: str | None,
    engine: str | None,
    form: str,
    output: Path | None,
) -> None:
    """Put each decision of a log to its own revision again: the verdict must be the line's, byte for byte.

    With --against, to another policy: how many decisions, people and workspaces it would have answered
    otherwise. Then the revisions need not be kept.
    """
    if against is None and archive is None and not database_url:
        raise click.UsageError("--database-url or --archive must say where the revisions of the log are kept")
    files = files_at(paths)
    counted = Counted()
    lines = decisions_in(files, counted, decode=asked_line, decision=decision, since=since, until=until)
    with ExitStack() as stack:
        found = stack.enter_context(evidence_at(database_url))
        engines = _Engines(stack, found[0] if found else None, archive, engine)
        named: Named | None = None
        asked: Against | None = None
        if against is not None:
            named = named_side(
                against,
                policies=policies,
                archive=archive,
                kept_revision=engines.published if found else None,
            )
            asked = engines.against(named.side.compiled)
            for _, line in lines:
                if line.replayed:
                    counted.no_original += 1
                else:
                    asked.add(line)
            counted.decisions, counted.same = asked.decisions, asked.same
            situations = asked.situations
        else:
            replay = Replay(engines.verdict, counted)
            for place, line in lines:
                replay.add(place, line)
            replay.close()
            situations = replay.situations
        if not counted.lines:
            raise click.UsageError(f"no line is of decision {decision}") if decision else nothing_in(paths)
        if counted.not_kept:
            raise NotAsked(_not_kept(counted))
        made = Made(
            **made_by(found[0] if found else None),
            revision=named.side.compiled.revision if named else None,
            catalog=named.side.catalog if named else None,
            engine=engines.name,
            population={"lines": counted.lines, "situations": situations},
        )
    if form == "json":
        say(json_text(_document(made, counted, asked, situations)), output=output)
    else:
        say(_text(counted, asked, situations), output=output)
    if counted.different or counted.unread:
        sys.exit(EXIT_FOUND)


class _Engines:
    """An engine for each revision, made when it is first needed."""

    def __init__(
        self, stack: ExitStack, looked: Looked | None, archive: Path | None, named: str | None
    ) -> None:
        self.name: str | None = None
        self._stack = stack
        self._looked = looked
        self._archive = archive
        self._named = named
        self._engines: dict[str, PolicyEngine | None] = {}

    def verdict(self, revision: str, situation: bytes) -> Mapping[str, Any] | None:
        """None if that situation has no verdict; NotKept."""
        if revision not in self._engines:
            compiled = self._kept(revision)
            self._engines[revision] = None if compiled is None else self._engine(compiled)
        engine = self._engines[revision]
        if engine is None:
            raise NotKept
        try:
            return document_of(engine.verdict(situation, deadline=monotonic() + _VERDICT_WITHIN_S))
        except EngineMisbehaved:
            return None

    def against(self, compiled: Compiled) -> Against:
        engine = self._engine(compiled)
        return Against(
            compiled.catalog,
            compiled.context_fields,
            lambda situation: document_of(
                engine.verdict(situation, deadline=monotonic() + _VERDICT_WITHIN_S)
            ),
        )

    def published(self, revision: str) -> Kept | None:
        """None if the database does not have it, or there is none."""
        if self._looked is None:
            return None
        return last_kept(self._looked.connection, revision)

    def _engine(self, compiled: Compiled) -> PolicyEngine:
        engine, self.name = self._stack.enter_context(engine_for(compiled, self._named))
        return engine

    def _kept(self, revision: str) -> Compiled | None:
        if (found := self.published(revision)) is not None:
            return kept(found.bundle, plans=found.plans, revision=revision, source=f"revision {revision}")
        if self._archive is None or not (file := self._archive / f"{revision}.tar.gz").exists():
            return None
        return kept(archived(self._archive, revision), plans=None, revision=revision, source=str(file))


def _document(made: Made, counted: Counted, asked: Against | None, situations: int) -> dict[str, Any]:
    return {
        "made": made.document,
        "lines": counted.lines,
        "decisions": counted.decisions,
        "revisions": len(counted.revisions),
        "situations": situations,
        "same": counted.same,
        "different": [each.document for each in counted.different],
        "not_replayable": counted.not_replayable,
        "transitions": asked.document if asked else [],
    }


def _text(counted: Counted, asked: Against | None, situations: int) -> str:
    of = f" of {_number(len(counted.revisions), 'revision')}" if asked is None else ""
    decisions = f"{_number(counted.decisions, 'decision')}{of}, {_number(situations, 'situation')}"
    lines = [f"{_number(counted.lines, 'line')}: {decisions}", f"the same         {counted.same:,}"]
    if asked is None:
        lines.append(f"otherwise        {len(counted.different):,}")
        lines += [
            shown(f"  {each.file}:{each.line}  {_said(each.logged)}, replayed {_said(each.replayed)}")
            for each in counted.different[:_MOST_NAMED]
        ]
        if len(counted.different) > _MOST_NAMED:
            lines.append(f"  and {len(counted.different) - _MOST_NAMED:,} more: --json lists them")
    else:
        lines.append(f"otherwise        {asked.decisions - asked.same:,}")
        for row in asked.document:
            what = "" if row["from"] != row["to"] else ", for another reason"
            lines.append(
                f"  {row['from']} → {row['to']}{what}: {_number(row['decisions'], 'decision')},"
                f" {_number(row['people'], 'person', 'people')}, {_number(row['workspaces'], 'workspace')}"
            )
    left = {
        "without a situation": counted.no_situation,
        "masked or shortened context": counted.masked,
        "given again, the first is not here": counted.no_original,
        "unreadable": counted.unread,
    }
    if total := sum(left.values()):
        why = " · ".join(f"{name} {number:,}" for name, number in left.items() if number)
        lines.append(f"not replayable   {total:,}  {why}")
    return "\n".join(lines)


def _said(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return "no such verdict"
    allow = "true" if verdict["allow"] else "false"
    return f"allow {allow} ({verdict['reason']}, {verdict['status']})"


def _not_kept(counted: Counted) -> str:
    of = "; ".join(
        f"{_number(number, 'decision')} of revision {revision}"
        for revision, number in sorted(counted.not_kept.items())
    )
    return f"{of}: nowhere kept, so they cannot be replayed; give --archive a folder that has them"


def _number(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
