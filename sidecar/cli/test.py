"""`sidecar test`: a company's decision cases against its own catalog and policies; no database."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar.audit.cases import cases_in
from sidecar.audit.coverage import Coverage, coverage_lines
from sidecar.audit.runner import CaseRunner
from sidecar.catalog.finding import Finding, nearest
from sidecar.cli import EXIT_FOUND, plans_option, policies_option
from sidecar.cli.sources import plans_or_shipped, policies_or_shipped
from sidecar.engines.building import refuse_unbuilt
from sidecar.engines.installed import embedded_engine, engine_of
from sidecar.errors import ConfigError, Problem
from sidecar.rego.load import compiled_at, plans_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.audit.cases import Case
    from sidecar.audit.runner import Difference
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.ports import PolicyEngine
    from sidecar.rego.compile import Compiled

CASES = Path("tests/decisions")


@click.command(name="test")
@click.argument("cases", nargs=-1, type=click.Path(path_type=Path))
@plans_option(demo=True)
@policies_option()
@click.option("--engine", type=click.Choice(["embedded", "opa"]), default="embedded", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@click.option("--coverage", is_flag=True, help="Say which cells the stories assert.")
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="N",
    help="With --coverage: exit code 1 below N percent of the cells as sold.",
)
@click.option(
    "--missing", is_flag=True, help="With --coverage: list the cells as sold that no story asserts."
)
def command(
    *,
    cases: tuple[Path, ...],
    plans: Path | None,
    policies: Path | None,
    engine: str,
    as_json: bool,
    coverage: bool,
    fail_under: float | None,
    missing: bool,
) -> None:
    """Ask what the stories in CASES ask, and say which are answered otherwise than they want.

    CASES are YAML files, or folders of them.  [default: tests/decisions]

    Exit code 1 if a story is answered otherwise, or a file has problems.
    """
    plans = plans_or_shipped(plans)
    folder = policies_or_shipped(policies, plans=plans)
    compiled = compiled_at(plans, folder)
    refuse_unbuilt(compiled, folder)
    read, problems = cases_at(cases or (CASES,), compiled.catalog)
    with _engine(engine, compiled) as policy:
        runner = CaseRunner(policy, compiled=compiled)
        outcome = [(case, runner.differences(case, deadline=inf)) for case in read]
    covered = Coverage(read, compiled) if coverage or missing or fail_under is not None else None
    warnings = list(_undeclared_context(read, compiled))
    if as_json:
        print(_as_json(outcome, problems, warnings, covered))
    else:
        said = coverage_lines(covered, list_missing=missing) if covered else []
        print("\n".join([*map(str, warnings), *_lines(outcome, problems), *said]))
    too_few = covered is not None and covered.as_sold.percent < (fail_under or 0)
    if problems or too_few or any(differences for _, differences in outcome):
        sys.exit(EXIT_FOUND)


@contextmanager
def _engine(name: str, compiled: Compiled) -> Iterator[PolicyEngine]:
    if name == "embedded":
        yield embedded_engine(compiled)
        return
    from sidecar.local.opa import local_opa  # noqa: PLC0415 - only OPA's users wait for it

    with local_opa(compiled) as url:
        yield engine_of("opa", compiled, opa_url=url)


def cases_at(paths: tuple[Path, ...], catalog: Catalog) -> tuple[list[Case], list[Finding]]:
    """The cases of those files and folders, and every problem of theirs."""
    cases: list[Case] = []
    problems: list[Finding] = []
    for path in (file for each in paths for file in _files(each)):
        found = cases_in(plans_text(path), source=str(path), catalog=catalog)
        cases += found.cases
        problems += found.problems
    return cases, problems


def _files(path: Path) -> list[Path]:
    """ConfigError if there is nothing to ask, which would look like a success."""
    if not path.is_dir():
        return [path]
    found = sorted(each for pattern in ("*.yaml", "*.yml") for each in path.rglob(pattern) if each.is_file())
    if not found:
        detail = "no *.yaml in this folder: nothing would be asked"
        raise ConfigError(f"{path}: {detail}", problems=(Problem(pointer=str(path), detail=detail),))
    return found


def _undeclared_context(cases: list[Case], compiled: Compiled) -> Iterator[Finding]:
    """Of each case the context that no policy declares: it is dropped, and tests nothing."""
    for case in cases:
        for name in sorted(case.question.context.keys() - compiled.context_fields):
            yield Finding(
                source=case.source,
                line=case.line,
                column=case.column,
                code="undeclared_case_context",
                message=f'no policy declares the context field "{name}", so this story is asked without it',
                suggestion=nearest(name, compiled.context_fields),
                severity="warning",
            )


def _lines(outcome: list[tuple[Case, list[Difference]]], problems: list[Finding]) -> Iterator[str]:
    yield from map(str, problems)
    failed = [(case, differences) for case, differences in outcome if differences]
    for case, differences in failed:
        yield f"{_place(case)}: {case.sentence}"
        for each in differences:
            yield f"  - {each.field}: {_shown(each.wanted)}"
            yield f"  + {each.field}: {_shown(each.got)}"
    if failed:
        yield "- is what the story wants, + what the answer is"
    stories = "story" if len(outcome) == 1 else "stories"
    yield f"{len(outcome)} {stories} asked, {len(outcome) - len(failed)} answered as wanted"


def _as_json(
    outcome: list[tuple[Case, list[Difference]]],
    problems: list[Finding],
    warnings: list[Finding],
    covered: Coverage | None,
) -> str:
    document: dict[str, Any] = {
        "problems": [finding.document for finding in problems],
        "warnings": [finding.document for finding in warnings],
        "stories": [
            {
                "source": case.source,
                "line": case.line,
                "column": case.column,
                "story": case.sentence,
                "passed": not differences,
                "differences": [
                    {"field": each.field, "wanted": each.wanted, "got": each.got} for each in differences
                ],
            }
            for case, differences in outcome
        ],
    }
    if covered is not None:
        document |= covered.document
    return json.dumps(document, indent=2, ensure_ascii=False)


def _place(case: Case) -> str:
    return f"{case.source}:{case.line}:{case.column}"


def _shown(value: Any) -> str:  # noqa: ANN401 - what a file or an answer holds
    """A value as a case file writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
