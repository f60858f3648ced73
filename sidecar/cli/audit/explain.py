"""`sidecar audit explain`: why a question was answered as it was, and what would have helped."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from sidecar.audit.explain_forms import lines_of
from sidecar.audit.made import Made
from sidecar.audit.moments import moment_text
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.options import (
    amounts_option,
    at_option,
    context_option,
    database_option,
    engine_option,
    files_options,
    refuse_undeclared,
    required_url,
)
from sidecar.cli.audit.report import json_text, made_by, report_options, say
from sidecar.cli.audit.ruling import by_archive, by_database, by_files
from sidecar.cli.audit.workspaces import as_usage, refuse_unknown, refuse_unknown_moment
from sidecar.reports.explained import from_line, from_question, line_about
from sidecar.reports.explanation import RULES, explanation
from sidecar.store.auditing import looking

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sidecar.decisions.model import Json
    from sidecar.reports.ruling import Ruling
    from sidecar.store.auditing import Looked


@click.command(name="explain")
@click.argument("decision_id", required=False)
@click.option("--log", "logs", metavar="PATH", multiple=True, help="Where its line is; repeatable.")
@click.option("--user", metavar="USER")
@click.option("--workspace", metavar="WS", help="A slug or a UUID.")
@click.option("--action", metavar="ACTION")
@amounts_option()
@at_option()
@context_option()
@files_options
@engine_option()
@database_option()
@report_options()
def command(  # noqa: PLR0913 - click gives each option
    *,
    decision_id: str | None,
    logs: tuple[str, ...],
    user: str | None,
    workspace: str | None,
    action: str | None,
    amounts: dict[str, int] | None,
    at: datetime | None,
    context: dict[str, Json],
    plans: Path | None,
    policies: Path | None,
    revision: str | None,
    archive: Path | None,
    engine: str | None,
    database_url: str | None,
    form: str,
    output: Path | None,
) -> None:
    """Why DECISION_ID, whose line --log has, was decided so; or what --user would be answered.

    It tells the facts also where the answer hides them from a stranger. Exit code 1 if a decision of the log
    is not decided so again.
    """
    if decision_id:
        if not logs or user or workspace or action or amounts or at or context:
            raise click.UsageError("a DECISION_ID goes with --log, and with nothing else of the question")
    elif logs or not (user and workspace and action):
        raise click.UsageError("name a DECISION_ID and its --log, or --user, --workspace and --action")
    with ExitStack() as stack:
        stack.enter_context(as_usage())
        line = line_about(decision_id, logs) if decision_id else None
        url = database_url or (required_url(None) if line is None else None)
        looked = stack.enter_context(looking(url)) if url else None
        if looked:
            refuse_unknown_moment(looked, at)
        revision = revision or (str(line["policy_revision"]) if line else None)
        ruling = _ruling(looked, at, revision, plans, policies, archive)
        if line is not None:
            explained = from_line(line, ruling, looked)
        else:
            assert looked  # noqa: S101 - required_url
            refuse_unknown("action", action or "", ruling.compiled.catalog.actions)
            refuse_undeclared(context, ruling.compiled.context_fields)
            explained = from_question(
                looked,
                ruling,
                user=user or "",
                workspace=workspace or "",
                action=action or "",
                amounts=amounts,
                at=at,
                context=context,
            )
        with engine_for(ruling.compiled, engine, rules=RULES) as (by, name):
            report = explanation(explained, ruling, line, by=by)
    question = {
        "user": explained.user,
        "workspace": explained.called,
        "action": line["action"] if line else action,
        "amounts": line.get("amounts") if line else amounts,
    }
    made = Made(
        **made_by(looked),
        as_of=str(line.get("facts_at") or line["at"]) if line else moment_text(at),
        revision=ruling.compiled.revision,
        catalog=ruling.catalog,
        engine=name,
        population={"lines": 1} if line else {},
    )
    document = {"made": made.document, "decision_id": decision_id, "question": question, **report}
    if form == "json":
        say(json_text({key: value for key, value in document.items() if key != "words"}), output=output)
    else:
        say("\n".join(lines_of(document, line)), output=output)
    if report["same"] is False:
        sys.exit(EXIT_FOUND)


def _ruling(
    looked: Looked | None,
    at: datetime | None,
    revision: str | None,
    plans: Path | None,
    policies: Path | None,
    archive: Path | None,
) -> Ruling:
    if plans or policies:
        return by_files(plans, policies)
    if looked:
        return by_database(looked, at=at, revision=revision, archive=archive)
    return by_archive(archive, revision or "")
