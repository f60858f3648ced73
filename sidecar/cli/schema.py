"""`sidecar schema`: the JSON Schema that an editor checks plans.yaml with."""

from __future__ import annotations

import click

from sidecar.catalog.schema import schema_file


@click.command(name="schema")
def command() -> None:
    """Print the JSON Schema of plans.yaml, for editors."""
    print(schema_file(), end="")
