"""`sidecar tidy`: delete expired keys, holds and reservations."""

from __future__ import annotations

import json

import click

from sidecar.store.upkeep import tidy


@click.command(name="tidy")
@click.option(
    "--database-url",
    envvar="SIDECAR_DATABASE_URL",
    required=True,
    help="Of the schema's owner.  [env: SIDECAR_DATABASE_URL]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(database_url: str, *, as_json: bool) -> None:
    """Remove what no answer depends on any more. Run it once a day; nobody waits for it."""
    removed = tidy(database_url)
    print(json.dumps({"removed": removed}) if as_json else f"removed {removed} rows that were over")
