"""`sidecar migrate`: the database's schema, and the catalog in it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from sidecar.catalog.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate


@click.command(name="migrate")
@click.option(
    "--plans",
    type=click.Path(path_type=Path),
    envvar="SIDECAR_PLANS",
    default=shipped("plans.yaml"),
    help="The catalog to publish.  [env: SIDECAR_PLANS; default: plans.yaml]",
)
@click.option(
    "--policies",
    type=click.Path(path_type=Path),
    envvar="SIDECAR_POLICIES",
    default=shipped("policies"),
    help="The folder of policies, a part of the revision.  [env: SIDECAR_POLICIES; default: policies]",
)
@click.option(
    "--database-url",
    envvar="SIDECAR_DATABASE_URL",
    required=True,
    help="Of the schema's owner, without a pooler between.  [env: SIDECAR_DATABASE_URL]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(plans: Path, policies: Path, database_url: str, *, as_json: bool) -> None:
    """Bring the database to this version's schema and publish the catalog; a second time changes nothing."""
    compiled = compiled_at(plans, policies)
    migrated = migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
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
        print(f"warning: {warning}", file=sys.stderr)
