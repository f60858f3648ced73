"""`sidecar check`: what is wrong with the catalog and the policies, all of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.catalog.check import checked
from sidecar.catalog.load import modules_at, plans_text
from sidecar.catalog.rego import opa_binary, problems_by_opa, problems_in
from sidecar.cli import EXIT_FOUND, here_or_shipped
from sidecar.settings import shipped

if TYPE_CHECKING:
    from sidecar.catalog.finding import Finding


@click.command(name="check")
@click.option("--plans", type=click.Path(path_type=Path), default=Path("plans.yaml"), show_default=True)
@click.option(
    "--policies",
    type=click.Path(path_type=Path),
    help="The folder of policies.  [default: policies, or the shipped ones where there is no such folder]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(plans: Path, policies: Path | None, *, as_json: bool) -> None:
    """Say what is wrong with the catalog and the policies.

    Exit code 1 if something is; a warning is nothing wrong.
    """
    catalog = checked(plans_text(plans), source=str(plans))
    folder = policies or here_or_shipped("policies")
    problems = [*catalog.problems, *_problems_of_policies(folder)]
    if as_json:
        document = {
            "problems": [finding.document for finding in problems],
            "warnings": [finding.document for finding in catalog.warnings],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for finding in (*problems, *catalog.warnings):
            print(finding)
    if problems:
        sys.exit(EXIT_FOUND)


def _problems_of_policies(folder: Path) -> list[Finding]:
    """OPA is asked only about policies that have passed: it would say the same again in its own words."""
    modules = modules_at(folder)
    problems = problems_in(modules, folder=str(folder))
    opa = opa_binary()
    if problems or opa is None:
        return problems
    return problems_by_opa(folder, modules, opa=opa, schema=shipped("schemas") / "input.json")
