"""`sidecar check`: what is wrong with the catalog and the policies, all of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.catalog.check import check_plans
from sidecar.catalog.finding import Finding
from sidecar.cli import EXIT_FOUND, plans_option, policies_option
from sidecar.cli.checking import policies_checked
from sidecar.cli.sources import plans_or_shipped, policies_or_shipped
from sidecar.decisions.cells import MOST_REMEMBERED, cell_counts
from sidecar.rego.authzen import findings_at
from sidecar.rego.lint import opa_binary, problems_by_opa
from sidecar.rego.load import modules_at, plans_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_COUNTED = 1_000_000  # cells: to count more would take too long


@click.command(name="check")
@plans_option(demo=True)
@policies_option()
@click.option(
    "--authzen-policy",
    type=click.Path(path_type=Path),
    help="The folder of another domain's policy for AuthZEN, to be checked as well.",
)
@click.option("--quick", is_flag=True, help="Do not ask the policies about every cell.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(
    plans: Path | None, policies: Path | None, authzen_policy: Path | None, *, quick: bool, as_json: bool
) -> None:
    """Say what is wrong with the catalog and the policies.

    Exit code 1 if something is; a warning is nothing wrong. It also says how many cells the catalog has, the
    situations in which a question can be asked, and asks the policies about each of them.
    """
    plans = plans_or_shipped(plans)
    catalog = check_plans(plans_text(plans), source=str(plans))
    folder = policies_or_shipped(policies, plans=plans)
    found = policies_checked(folder, catalog.catalog, plans=plans, quick=quick)
    problems = [*catalog.problems, *found.problems]
    count, warnings = None, (*catalog.warnings, *found.warnings)
    if catalog.catalog is not None:
        counts = cell_counts(catalog.catalog, enough=_COUNTED)
        count = sum(counts.values())
        warnings += tuple(_too_many(counts, source=str(plans)))
    if authzen_policy:
        problems += _and_by_opa(authzen_policy, findings_at(authzen_policy))
    if as_json:
        document = {
            "problems": [finding.document for finding in problems],
            "warnings": [finding.document for finding in warnings],
            "cells": count,
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for finding in (*problems, *warnings):
            print(finding)
        if count is not None:
            print(f"{plans}: {_in_words(count)} cells")
    if problems:
        sys.exit(EXIT_FOUND)


def _too_many(counts: Mapping[str | None, int], *, source: str) -> Iterator[Finding]:
    if (count := sum(counts.values())) <= MOST_REMEMBERED:
        return
    most = max(counts, key=lambda action: counts[action])
    message = (
        f"{_in_words(count)} cells, and a worker remembers {MOST_REMEMBERED} verdicts: the policy is asked"
        f' each time about the others; action "{most}" has the most cells: let it take fewer meters, or let'
        " more plans have the same limits"
    )
    yield Finding(source=source, line=1, column=1, code="many_cells", message=message, severity="warning")


def _in_words(count: int) -> str:
    return str(count) if count < _COUNTED else f"at least {_COUNTED}"


def _and_by_opa(folder: Path, problems: list[Finding]) -> list[Finding]:
    """Run OPA only on policies that have passed: it would report the same mistakes in other words."""
    opa = opa_binary()
    return problems if problems or opa is None else problems_by_opa(folder, modules_at(folder), opa=opa)
