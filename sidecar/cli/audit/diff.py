"""`sidecar audit diff`: what two policies answer otherwise, and whom that concerns today."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.audit.answers import Answers
from sidecar.audit.diff import Compared
from sidecar.audit.diff_catalog import CatalogChanges
from sidecar.audit.diff_forms import aligned, lines_of, live_lines, markdown_lines, not_compared_lines
from sidecar.audit.made import Made
from sidecar.cli import EXIT_FOUND, policies_option
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.options import archive_option, database_option, engine_option
from sidecar.cli.audit.report import json_text, made_by, report_options, say
from sidecar.cli.audit.sides import named_side
from sidecar.reports.comparing import live_between
from sidecar.store.published import last_kept

if TYPE_CHECKING:
    from sidecar.audit.diff import Change
    from sidecar.audit.diff_live import Live
    from sidecar.cli.audit.sides import Named
    from sidecar.store.auditing import Looked

_DIGITS = 8  # of a revision, in a heading


@click.command(name="diff")
@click.argument("old")
@click.argument("new")
@policies_option()
@archive_option()
@database_option()
@engine_option()
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["loss", "gain", "limit", "any"]),
    help="Exit code 1 if there is one. May be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many people or workspaces a line names.",
)
@report_options("md")
def command(  # noqa: PLR0913 - click gives each option
    *,
    old: str,
    new: str,
    policies: Path | None,
    archive: Path | None,
    database_url: str | None,
    engine: str | None,
    fail_on: tuple[str, ...],
    limit: int,
    form: str,
    output: Path | None,
) -> None:
    """What NEW answers otherwise than OLD; with a database also whom that concerns today.

    OLD and NEW are each a folder with plans.yaml and policies, a plans.yaml, git:REF, or a revision that was
    kept in the database or in --archive.
    """
    with ExitStack() as stack:
        looked = _looked(database_url, stack)
        kept = partial(last_kept, looked.connection) if looked else None
        sides = [
            named_side(text, policies=policies, archive=archive, kept_revision=kept) for text in (old, new)
        ]
        before, after = (named.side for named in sides)
        first, engine_name = stack.enter_context(engine_for(before.compiled, engine))
        answers = Answers(first)
        if before.compiled.revision == after.compiled.revision:
            both = answers, answers
        else:
            second, _ = stack.enter_context(engine_for(after.compiled, engine))
            both = answers, Answers(second)
        compared = Compared(before, after, both)
        changes = compared.changes()
        catalogs = CatalogChanges(before, after, compared.names)
        live = live_between(compared, catalogs, looked, limit=limit) if looked else None
        asked = sum(len(each) for each in dict.fromkeys(both))
        made = Made(
            **made_by(looked),
            revision=after.compiled.revision,
            catalog=after.catalog,
            engine=engine_name,
            population={"questions": compared.questions, "situations": asked}
            | ({"workspaces": live.workspaces, "memberships": live.people} if live else {}),
        )
    say(_report(compared, changes, catalogs, live, made, sides[0], form=form), output=output)
    if _fails(fail_on, changes, catalogs):
        sys.exit(EXIT_FOUND)


def _report(
    compared: Compared,
    changes: list[Change],
    catalogs: CatalogChanges,
    live: Live | None,
    made: Made,
    old: Named,
    *,
    form: str,
) -> str:
    if form == "json":
        return json_text(
            {
                "made": made.document,
                "from": compared.old.document,
                "to": compared.new.document,
                "questions": compared.questions,
                "changed": len(changes),
                "changes": [change.document for change in changes],
                **catalogs.document,
                "live": live.document if live else None,
            }
        )
    before, after = (side.compiled.revision[:_DIGITS] for side in (compared.old, compared.new))
    file = Path(compared.old.plans.rpartition(":")[2]).name
    of = f" ({file} of {old.of.date().isoformat()})" if old.of else ""
    title = (
        f"from {before}…{of} to {after}…: {compared.questions} questions, {len(changes)} answered otherwise"
    )
    lines, notes = lines_of(compared, changes, catalogs), not_compared_lines(catalogs)
    if not changes:
        notes = ["no question is answered otherwise", *notes]
    now = f"now, of {live.workspaces:,} workspaces and {live.people:,} people" if live else ""
    if form == "md":
        notes += [now] if now else []
        notes.append(f"made by {made.by} at {made.at}, asked of {made.engine}")
        return "\n".join(markdown_lines(title, lines, live_lines(live) if live else None, notes))
    blocks = [[title], aligned(lines), notes]
    if live:
        blocks.append([now, *(aligned(live_lines(live)) or ["it concerns nobody"])])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _fails(fail_on: tuple[str, ...], changes: list[Change], catalogs: CatalogChanges) -> bool:
    kinds = {change.kind for change in changes}
    found = {
        "loss": "lost" in kinds,
        "gain": "gained" in kinds,
        "limit": bool(catalogs.limits),
        "any": bool(changes or catalogs),
    }
    return any(found[what] for what in fail_on)


def _looked(url: str | None, stack: ExitStack) -> Looked | None:
    if not url:
        return None
    from sidecar.store.auditing import looking  # noqa: PLC0415 - psycopg is for those who have a database

    return stack.enter_context(looking(url))
