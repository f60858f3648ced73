"""`sidecar check`: what is wrong with the catalog and the policies, all of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.catalog.check import check_plans
from sidecar.cli import EXIT_FOUND, plans_option, policies_option
from sidecar.cli.sources import plans_or_shipped, policies_or_shipped
from sidecar.rego.authzen import findings_at
from sidecar.rego.lint import opa_binary, problems_by_opa, problems_in
from sidecar.rego.load import modules_at, plans_text
from sidecar.settings import shipped

if TYPE_CHECKING:
    from sidecar.catalog.finding import Finding


@click.command(name="check")
@plans_option(demo=True)
@policies_option()
@click.option(
    "--authzen-policy",
    type=click.Path(path_type=Path),
    help="The folder of another domain's policy for AuthZEN, to be checked as well.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(plans: Path | None, policies: Path | None, authzen_policy: Path | None, *, as_json: bool) -> None:
    """Say what is wrong with the catalog and the policies.

    Exit code 1 if something is; a warning is nothing wrong.
    """
    plans = plans_or_shipped(plans)
    catalog = check_plans(plans_text(plans), source=str(plans))
    folder = policies_or_shipped(policies, plans=plans)
    problems = [*catalog.problems, *_problems_of_policies(folder)]
    if authzen_policy:
        problems += _and_by_opa(authzen_policy, findings_at(authzen_policy))
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
    problems = problems_in(modules_at(folder), folder=str(folder))
    return _and_by_opa(folder, problems, schema=shipped("schemas") / "input.json")


def _and_by_opa(folder: Path, problems: list[Finding], *, schema: Path | None = None) -> list[Finding]:
    """Run OPA only on policies that have passed: it would report the same mistakes in other words."""
    opa = opa_binary()
    if problems or opa is None:
        return problems
    return problems_by_opa(folder, modules_at(folder), opa=opa, schema=schema)
