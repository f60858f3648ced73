"""`sidecar audit prove`: whether the promises of plans.yaml hold in every situation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sidecar.audit.made import Made
from sidecar.audit.proof import DENIALS, OwnRules, proven, titles_of
from sidecar.audit.proof_forms import json_document, text_lines
from sidecar.catalog.places import Places
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.options import database_option, engine_option, files_options
from sidecar.cli.audit.report import json_text, made_by, report_options, say
from sidecar.cli.audit.ruling import by_files, by_revision
from sidecar.engines.verdict import ENTRYPOINT, document_of
from sidecar.rego.heads import Denials, line_of_override, looks_at_context
from sidecar.rego.own_rules import codes_by_context
from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.audit.asked import Asked
    from sidecar.audit.outcomes import Outcome
    from sidecar.audit.proof import Proof
    from sidecar.catalog.catalog import Catalog
    from sidecar.reports.ruling import Ruling


@click.command(name="prove")
@files_options
@database_option()
@engine_option()
@click.option("--only", metavar="TITLE", multiple=True, help="Only the promise of this title; repeatable.")
@report_options()
def command(  # noqa: PLR0913 - click gives each option
    *,
    plans: Path | None,
    policies: Path | None,
    revision: str | None,
    archive: Path | None,
    database_url: str | None,
    engine: str | None,
    only: tuple[str, ...],
    form: str,
    output: Path | None,
) -> None:
    """Whether each promise under `invariants` holds in every situation there can be, and the built-in ones.

    Exit code 1 if one is broken, or speaks of no situation.
    """
    if revision:
        ruling = by_revision(revision, archive=archive, database_url=database_url)
    else:
        ruling = by_files(plans, policies)
    compiled = ruling.compiled
    _refuse_unknown(only, compiled.catalog)
    places = _Places(ruling)
    rules = places.own_rules
    asks = (ENTRYPOINT, DENIALS) if rules.places else (ENTRYPOINT,)
    with engine_for(compiled, engine, rules=asks) as (asked, name):
        proof = proven(compiled.catalog, asked, rules=rules, only=set(only) or None)
    made = Made(
        **made_by(),
        revision=compiled.revision,
        catalog=ruling.catalog,
        engine=name,
        population={"situations": proof.cells, "asked": proof.asked, "promises": len(proof.outcomes)},
    )
    if form == "json":
        document = json_document(proof, made, places=places, verdict_document=document_of)
        say(json_text(document), output=output)
    else:
        lines = [*_header(ruling, proof, made), "", *text_lines(proof, places=places)]
        say("\n".join(lines), output=output)
    if not proof.holds:
        sys.exit(EXIT_FOUND)


def _refuse_unknown(only: tuple[str, ...], catalog: Catalog) -> None:
    titles = titles_of(catalog)
    for title in only:
        if title not in titles:
            raise click.UsageError(f'--only: there is no promise "{title}"{did_you_mean(title, titles)}')


def _header(ruling: Ruling, proof: Proof, made: Made) -> list[str]:
    all_of_them = f"all of them asked of {made.engine}"
    some = f"the {proof.asked:,} that are spoken of asked of {made.engine}"
    how = all_of_them if proof.asked == proof.cells else some
    by = "as kept, without its invariants"
    if ruling.text:
        by = f"{ruling.plans or 'as kept'}, catalog {made.catalog}"
    lines = [f"revision {made.revision}: {proof.cells:,} situations, {how}"]
    lines.append(f"{by}, at {made.at} by {made.by}")
    if fields := sorted(ruling.compiled.context_fields):
        lines.append(f"rules may look at {', '.join(fields)}: asked without; {_about_context(ruling)}")
    return lines


def _about_context(ruling: Ruling) -> str:
    for path, text in ruling.compiled.modules.items():
        if not path.startswith("custom/") and looks_at_context(text):
            return f"{path} looks at them too, so nothing is said of questions that have them"
    return "never and only hold with them too, always where none of those rules denies"


class _Places:
    """FILE:LINE as given on the command line."""

    def __init__(self, ruling: Ruling) -> None:
        modules = ruling.compiled.modules
        self._plans = ruling.plans_file
        self._lines = Places(ruling.text)
        self._folder = ruling.policies_folder
        self._denials = Denials(modules)
        self._override = line_of_override(modules)
        self.own_rules = OwnRules(
            places={code: f"{self._folder}{place}" for code, place in self._denials.own.items()},
            by_context=codes_by_context(modules),
        )

    def of_promise(self, outcome: Outcome) -> str:
        return "built in" if outcome.builtin else f"{self._plans}:{outcome.line}"

    def of_cell(self, asked: Asked) -> list[str]:
        situation, verdict = asked.situation, asked.verdict
        lines = (
            (situation.action and self._lines.action(situation.action), "the action"),
            (situation.plan and self._lines.plan(situation.plan), "the plan"),
        )
        found = [f"{self._plans}:{line} {what}" for line, what in lines if line]
        if situation.feature_overrides and self._override:
            found.append(f"{self._folder}{self._override} the override")
        if verdict is not None and not verdict.allow:
            rule = self._denials.of(verdict.reason, verdict.detail)
            found += [f"{self._folder}{rule} the rule that denies"] if rule else []
        return found
