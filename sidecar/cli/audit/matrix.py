"""`sidecar audit matrix`: what each role may do on each plan, as sold."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.audit.answers import Answers
from sidecar.audit.coverage import Coverage
from sidecar.audit.forms import csv_text, shown
from sidecar.audit.made import Made
from sidecar.audit.matrix import COLUMNS, matrix_of
from sidecar.audit.matrix_cases import cases_text
from sidecar.audit.matrix_forms import MADE_BY, html_text, markdown_lines, text_lines
from sidecar.catalog.places import Places
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.options import (
    context_option,
    database_option,
    engine_option,
    files_options,
    refuse_undeclared,
)
from sidecar.cli.audit.report import json_text, made_by, report_options, say, say_csv
from sidecar.cli.audit.ruling import by_files, by_revision
from sidecar.cli.test import CASES, cases_at
from sidecar.rego.load import plans_text, refused
from sidecar.reports.deniers import Deniers

if TYPE_CHECKING:
    from sidecar.audit.matrix import Row
    from sidecar.decisions.model import Json
    from sidecar.reports.ruling import Ruling


@click.command(name="matrix")
@files_options
@database_option()
@engine_option()
@context_option()
@click.option(
    "--cases",
    "folder",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Decision cases, to say which cells they assert.  [default: tests/decisions, if it is there]",
)
@click.option("--check", "checked", metavar="FILE", type=click.Path(path_type=Path), help="Compare with it.")
@click.option("--as-cases", is_flag=True, help="Write a decision case for each cell that has none.")
@report_options("csv", "md", "html")
def command(  # noqa: PLR0913 - click gives each option
    *,
    plans: Path | None,
    policies: Path | None,
    revision: str | None,
    archive: Path | None,
    database_url: str | None,
    engine: str | None,
    context: dict[str, Json],
    folder: Path | None,
    checked: Path | None,
    form: str,
    output: Path | None,
    as_cases: bool,
) -> None:
    """What may be done, as sold: the workspace is active, has no override, and room for what is taken.

    Exit code 1 if --check names a file that says otherwise: one that --format md -o FILE has written.
    """
    if as_cases and (checked or context or form != "text"):
        raise click.UsageError("--as-cases goes with none of --check, --context, --format")
    if checked and (output or form != "text"):
        raise click.UsageError("--check goes with none of -o, --format")
    stated = plans_text(checked).decode(errors="replace") if checked else ""
    if revision:
        ruling = by_revision(revision, archive=archive, database_url=database_url)
    else:
        ruling = by_files(plans, policies)
    refuse_undeclared(context, ruling.compiled.context_fields)
    coverage = _coverage(folder, ruling, as_cases=as_cases)
    with engine_for(ruling.compiled, engine) as (asked, name):
        answers = Answers(asked)
        rows = matrix_of(
            ruling.compiled,
            answers,
            rule_of=Deniers(ruling).of,
            plans_line_of=Places(ruling.text).action,
            cases=coverage.by_cell if coverage else {},
            context=context,
        )
    catalog = ruling.compiled.catalog
    made = Made(
        **made_by(),
        revision=ruling.compiled.revision,
        catalog=ruling.catalog,
        engine=name,
        population={
            "actions": len(catalog.declared_actions),
            "plans": len(catalog.plans),
            "roles": len(catalog.roles),
            "cells": len(rows),
            "situations": len(answers),
        },
    )
    if checked:
        _check(checked, stated, markdown_lines(rows, catalog, made))
    elif as_cases:
        say(cases_text(rows, catalog), output=output)
    else:
        _say(rows, ruling, made, coverage, form=form, output=output, context=context)


def _say(
    rows: list[Row],
    ruling: Ruling,
    made: Made,
    coverage: Coverage | None,
    *,
    form: str,
    output: Path | None,
    context: dict[str, Json],
) -> None:
    catalog = ruling.compiled.catalog
    documents = [row.document for row in rows]
    match form:
        case "json":
            say(json_text({"made": made.document, "rows": documents}), output=output)
        case "csv":
            table = csv_text(COLUMNS, [list(row.values()) for row in documents])
            say_csv(table, output=output, meta={"made": made.document, "rows": len(rows)})
        case "md":
            say("\n".join(markdown_lines(rows, catalog, made)), output=output)
        case "html":
            say(html_text(rows, catalog, made, plans_file=str(ruling.plans or "plans.yaml")), output=output)
        case _:
            lines = [
                *_header(ruling, made, context),
                "",
                *text_lines(rows, catalog, asserted=coverage is not None),
            ]
            say("\n".join([*lines, *_footer(coverage)]), output=output)


def _header(ruling: Ruling, made: Made, context: dict[str, Json]) -> list[str]:
    count = made.population
    policy = f"{ruling.plans or 'as kept'}, revision {made.revision}"
    size = f"{count['actions']} actions, {count['plans']} plans, {count['roles']} roles"
    lines = [
        f"what may be done, as sold — {policy}, {size}",
        f"asked of {made.engine} at {made.at} by {made.by}",
    ]
    if left_out := sorted(ruling.compiled.context_fields - context.keys()):
        lines.append(f"rules may look at {', '.join(left_out)}: asked without")
    if context:
        given = [f"{field}={json.dumps(value, ensure_ascii=False)}" for field, value in context.items()]
        lines.append(f"asked with {', '.join(given)}")
    return lines


def _footer(coverage: Coverage | None) -> list[str]:
    if coverage is None:
        return [f"no cases were looked at: there is no {CASES}, and --cases names none"]
    share, by_none = coverage.as_sold, len(coverage.by_none)
    figure = f"{share.asserted} of {share.of} cells ({share.percent:.0f} %)"
    return [f"asserted by cases: {figure}; {by_none} actions by none"]


def _coverage(named: Path | None, ruling: Ruling, *, as_cases: bool) -> Coverage | None:
    """None where no cases are named and none stand where they usually do."""
    if named is None and not CASES.is_dir():
        return None
    folder = named or CASES
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*.y*ml"))
    if not paths and named is not None:
        raise click.UsageError(f"--cases: there is no *.yaml in {named}: nothing would be looked at")
    if as_cases:
        # `--as-cases > tests/decisions/matrix.yaml`: the shell has emptied that file by now.
        paths = [path for path in paths if path.stat().st_size]
    cases, problems = cases_at(tuple(paths), ruling.compiled.catalog)
    if problems:
        raise refused(f"{folder} holds cases that cannot be read", problems)
    return Coverage(cases, ruling.compiled)


def _check(path: Path, stated: str, lines: list[str]) -> None:
    """Exit code 1 with the difference; the line that says how a file was made does not count."""
    before = [line for line in stated.splitlines() if not _is_made(line)]
    found = [line for line in lines if not _is_made(line)]
    if before == found:
        say(f"{path} says what the policies say", output=None)
        return
    differences = difflib.unified_diff(before, found, str(path), "as the policies are", lineterm="", n=0)
    say("\n".join(shown(line) for line in differences), output=None)
    sys.exit(EXIT_FOUND)


def _is_made(line: str) -> bool:
    return line.startswith(MADE_BY)
