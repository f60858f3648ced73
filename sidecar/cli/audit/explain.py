"""`sidecar audit explain`: why a question was answered as it was, and what would have helped."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from sidecar.audit.answers import Answers
from sidecar.audit.borne_out import facts_told, figure_text
from sidecar.audit.explain import Explaining, is_same, verdict_document
from sidecar.audit.explain_forms import lines_of
from sidecar.audit.helping import smallest
from sidecar.audit.made import Made
from sidecar.audit.moments import moment_text
from sidecar.catalog.places import Places
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.explained import from_line, from_question, line_about
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
from sidecar.cli.audit.workspaces import refuse_unknown, refuse_unknown_moment
from sidecar.decisions.situation import input_document, situation_bytes
from sidecar.engines.verdict import ENTRYPOINT
from sidecar.rego.heads import Denials
from sidecar.store.auditing import looking

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sidecar.cli.audit.explained import Explained
    from sidecar.cli.audit.ruling import Ruling
    from sidecar.decisions.model import Json
    from sidecar.store.auditing import Looked

_DENIALS = "data.authz.denials"
_WITHIN_S = 60.0


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
    line = line_about(decision_id, logs) if decision_id else None
    with ExitStack() as stack:
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
        report, name = _report(explained, ruling, line, engine)
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


def _report(
    explained: Explained, ruling: Ruling, line: dict[str, Any] | None, engine: str | None
) -> tuple[dict[str, Any], str]:
    asked, catalog = explained.asked, ruling.compiled.catalog
    denials = Denials(ruling.compiled.modules)
    with engine_for(ruling.compiled, engine, rules=(ENTRYPOINT, _DENIALS)) as (by, name):
        answers = Answers(by)
        situation = asked.situation
        verdict = answers.about(situation)
        denying = by.document(_DENIALS, situation_bytes(situation), deadline=monotonic() + _WITHIN_S)
        helps = smallest(asked, catalog, answers)
    facts = facts_told(
        asked,
        user=explained.user,
        called=explained.called,
        workspace=explained.workspace,
        member=explained.member,
        events=explained.events,
        figures=explained.figures,
    )
    explaining = Explaining(
        asked=asked,
        catalog=catalog,
        denials=denials,
        places=Places(ruling.text),
        folder=ruling.policies_folder,
        plans_file=ruling.plans_file,
        figures=[figure_text(meter, of) for meter, of in explained.figures.items()],
    )
    report = {
        "verdict": verdict_document(verdict),
        "facts": [fact.document for fact in facts],
        "situation": input_document(situation),
        "rules": [rule.document for rule in explaining.rules(set(_codes(denying)), verdict)],
        "would_help": [helping.document for helping in helps],
        "same": None if line is None else is_same(verdict, line),
        "words": [fact.words for fact in facts],
    }
    return report, name


def _codes(denying: object) -> list[str]:
    """A set is a list in JSON."""
    return [code for code in denying if isinstance(code, str)] if isinstance(denying, list) else []


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
