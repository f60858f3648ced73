"""`sidecar audit diff`: what two policies answer otherwise, and whom that concerns today."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from sidecar.audit.made import Made
from sidecar.cli import EXIT_FOUND, policies_option
from sidecar.cli.audit.differing import difference
from sidecar.cli.audit.options import archive_option, database_option, engine_option
from sidecar.cli.audit.report import json_text, made_by, report_options, say
from sidecar.cli.audit.sides import named_side
from sidecar.store.published import last_kept

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.cli.audit.differing import Difference
    from sidecar.store.auditing import Looked


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
        found = difference(*sides, looked=looked, engine=engine, limit=limit)
        after, live = found.compared.new, found.live
        made = Made(
            **made_by(looked),
            revision=after.compiled.revision,
            catalog=after.catalog,
            engine=found.engine,
            population={"questions": found.compared.questions, "situations": found.asked}
            | ({"workspaces": live.workspaces, "memberships": live.people} if live else {}),
        )
    text = (
        json_text(_document(found, made))
        if form == "json"
        else found.text(form=form, made=f"made by {made.by} at {made.at}, asked of {made.engine}")
    )
    say(text, output=output)
    if found.kinds & set(fail_on):
        sys.exit(EXIT_FOUND)


def _document(found: Difference, made: Made) -> dict[str, Any]:
    return {
        "made": made.document,
        "from": found.compared.old.document,
        "to": found.compared.new.document,
        "questions": found.compared.questions,
        "changed": len(found.changes),
        "changes": [change.document for change in found.changes],
        **found.catalogs.document,
        "live": found.live.document if found.live else None,
    }


def _looked(url: str | None, stack: ExitStack) -> Looked | None:
    if not url:
        return None
    from sidecar.store.auditing import looking  # noqa: PLC0415 - psycopg is for those who have a database

    return stack.enter_context(looking(url))
