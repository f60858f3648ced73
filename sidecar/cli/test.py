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

_CASES = Path("tests/decisions")


@click.command(name="test")
@click.argument("cases", nargs=-1, type=click.Path(path_type=Path))
@plans_option(demo=True)
@policies_option()
@click.option("--engine", type=click.Choice(["embedded", "opa"]), default="embedded", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(
    cases: tuple[Path, ...], plans: Path | None, policies: Path | None, engine: str, *, as_json: bool
) -> None:
    """Ask what the stories in CASES ask, and say which are answered otherwise than they want.

    CASES are YAML files, or folders of them.  [default: tests/decisions]

    Exit code 1 if a story is answered otherwise, or a file has problems.
    """
    plans = plans_or_shipped(plans)
    folder = policies_or_shipped(policies, plans=plans)
    compiled = compiled_at(plans, folder)
    refuse_unbuilt(compiled, folder)
    read, problems = _read(cases or (_CASES,), compiled.catalog)
    with _engine(engine, compiled) as policy:
        runner = CaseRunner(policy, compiled=compiled)
        outcome = [(case, runner.differences(case, deadline=inf)) for case in read]
    warnings = list(_undeclared_context(read, compiled))
    print(
        _as_json(outcome, problems, warnings)
        if as_json
        else "\n".join([*map(str, warnings), *_lines(outcome, problems)])
    )
    if problems or any(differences for _, differences in outcome):
        sys.exit(EXIT_FOUND)


@contextmanager
def _engine(name: str, compiled: Compiled) -> Iterator[PolicyEngine]:
    if name == "embedded":
        yield embedded_engine(compiled)
        return
    from sidecar.local.opa import local_opa  # noqa: PLC0415 - only OPA's users wait for it

    with local_opa(compiled) as url:
        yield engine_of("opa", compiled, opa_url=url)


def _read(paths: tuple[Path, ...], catalog: Catalog) -> tuple[list[Case], list[Finding]]:
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
    outcome: list[tuple[Case, list[Difference]]], problems: list[Finding], warnings: list[Finding]
) -> str:
    document = {
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
    return json.dumps(document, indent=2, ensure_ascii=False)


def _place(case: Case) -> str:
    return f"{case.source}:{case.line}:{case.column}"


def _shown(value: Any) -> str:  # noqa: ANN401 - what a file or an answer holds
    """A value as a case file writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
