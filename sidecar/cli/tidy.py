"""`sidecar tidy`: delete expired keys, holds and reservations, and the history that is old."""

from __future__ import annotations

import json

import click

from sidecar.store.upkeep import prune, tidy


@click.command(name="tidy")
@click.option(
    "--database-url",
    envvar="SIDECAR_DATABASE_URL",
    required=True,
    help="Of the schema's owner.  [env: SIDECAR_DATABASE_URL]",
)
@click.option(
    "--keep-months",
    envvar="SIDECAR_KEEP_MONTHS",
    metavar="N",
    type=click.IntRange(1, 1_200),
    help="Delete history that is older.  [env: SIDECAR_KEEP_MONTHS; default: keep all of it]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(database_url: str, keep_months: int | None, *, as_json: bool) -> None:
    """Remove what no answer depends on any more. Run it once a day; nobody waits for it."""
    removed = tidy(database_url)
    done = {"removed": removed}
    if keep_months is not None:
        done["pruned"] = prune(database_url, keep_months=keep_months)
    if as_json:
        print(json.dumps(done))
        return
    print(f"removed {removed} rows that were over")
    if keep_months is not None:
        print(f"pruned {done['pruned']} rows of the history that were older than {keep_months} months")
