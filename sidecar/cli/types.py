"""`sidecar types`: the names of plans.yaml as types, so that a typo does not compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.catalog.unions import python, typescript
from sidecar.cli import plans_option
from sidecar.cli.sources import plans_or_shipped
from sidecar.rego.load import catalog_at

if TYPE_CHECKING:
    from pathlib import Path


@click.command(name="types")
@plans_option(demo=True)
@click.option("--ts", is_flag=True, help="As a module of TypeScript.")
@click.option("--py", is_flag=True, help="As a module of Python.")
def command(plans: Path | None, *, ts: bool, py: bool) -> None:
    """Print the actions, features, meters, plans and roles of plans.yaml as types."""
    if ts == py:
        raise click.UsageError("one language at a time: --ts or --py")
    catalog = catalog_at(plans_or_shipped(plans))
    print((typescript if ts else python)(catalog), end="")
