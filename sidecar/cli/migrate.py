"""`sidecar migrate`: the database's schema, and the catalog in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from sidecar.cli import plans_option, policies_option, say
from sidecar.cli.sources import policies_or_shipped, required_plans
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at, plans_text
from sidecar.store.migrate import migrate
from sidecar.store.publish import Files

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.rego.compile import Compiled


@click.command(name="migrate")
@plans_option(demo=False)
@policies_option()
@click.option(
    "--database-url",
    envvar="SIDECAR_DATABASE_URL",
    required=True,
    help="Of the schema's owner, without a pooler between.  [env: SIDECAR_DATABASE_URL]",
)
@click.option(
    "--accept",
    type=click.Choice(["loss"]),
    help="loss: publish although rows lose what they refer to; they are dead from then on.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(
    plans: Path | None, policies: Path | None, database_url: str, accept: str | None, *, as_json: bool
) -> None:
    """Bring the database to this version's schema and publish the catalog; a second time changes nothing.

    The policies are a part of the revision that is published. Exit code 78, and nothing is published, if the
    catalog lacks a name that rows refer to or counts a meter with usage otherwise.
    """
    plans = required_plans(plans)
    compiled = compiled_at(plans, policies_or_shipped(policies, plans=plans))
    migrated = migrate(
        database_url,
        catalog=compiled.catalog,
        revision=compiled.revision,
        accept_loss=accept == "loss",
        files=files_of(plans, compiled),
    )
    if as_json:
        print(json.dumps(asdict(migrated), indent=2, ensure_ascii=False))
        return
    for name in migrated.applied:
        print(f"applied {name}")
    if migrated.replaced == migrated.revision:
        print(f"the catalog is {migrated.revision} as before")
    else:
        print(f"published {migrated.revision}, before: {migrated.replaced or 'none'}")
    for warning in migrated.warnings:
        say(f"warning: {warning}", level="warning")


def files_of(plans: Path, compiled: Compiled) -> Files:
    """What is kept of a publication."""
    return Files(plans=plans_text(plans), bundle=bundle(compiled), version=version("policy-sidecar"))
