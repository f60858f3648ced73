"""`sidecar tidy`: delete expired keys, holds and reservations, and old history, usage and decision logs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from sidecar.cli import owner_option
from sidecar.settings import KEY_DAYS, LOG_KEEP_DAYS
from sidecar.store.upkeep import fold_usage, note_removed, prune, thin_anchors, tidy
from sidecar.telemetry.log_upkeep import compress_closed, delete_old


@click.command(name="tidy")
@owner_option()
@click.option(
    "--log-dir",
    envvar="SIDECAR_LOG_DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of the decision log.  [env: SIDECAR_LOG_DIR]",
)
@click.option(
    "--log-keep-days",
    envvar="SIDECAR_LOG_KEEP_DAYS",
    type=click.IntRange(1, 36_500),
    default=LOG_KEEP_DAYS,
    show_default=True,
    help="How many days of it are kept.  [env: SIDECAR_LOG_KEEP_DAYS]",
)
@click.option(
    "--keep-months",
    envvar="SIDECAR_KEEP_MONTHS",
    metavar="N",
    type=click.IntRange(1, 1_200),
    help="Delete history and usage that are older.  [env: SIDECAR_KEEP_MONTHS; default: keep all of it]",
)
@click.option(
    "--key-days",
    envvar="SIDECAR_KEY_DAYS",
    metavar="N",
    type=click.IntRange(1, 36_500),
    default=KEY_DAYS,
    show_default=True,
    help="Delete idempotency keys that are older.  [env: SIDECAR_KEY_DAYS]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(
    database_url: str,
    log_dir: Path | None,
    log_keep_days: int,
    keep_months: int | None,
    key_days: int,
    *,
    as_json: bool,
) -> None:
    """Remove what no answer depends on any more. Run it once a day; nobody waits for it."""
    removed, anchors = tidy(database_url, key_days=key_days), thin_anchors(database_url)
    folded = None if keep_months is None else fold_usage(database_url, keep_months=keep_months)
    pruned = None if keep_months is None else prune(database_url, keep_months=keep_months)
    compressed, days = 0, list[str]()
    if log_dir is not None:
        days = delete_old(log_dir, keep_days=log_keep_days, removed=partial(note_removed, database_url))
        compressed = compress_closed(log_dir)
    if as_json:
        document = {"removed": removed, "anchors": anchors, "compressed": compressed, "days": days}
        print(json.dumps(document | {"folded": folded, "pruned": pruned}))
        return
    print(f"removed {removed} rows that were over")
    if log_dir is not None:
        print(f"compressed {compressed} files of the decision log, deleted {len(days)} days")
    if folded is not None:
        print(f"folded {folded} lines of usage of periods that ended more than {keep_months} months ago")
    if pruned is not None:
        print(f"pruned {pruned} rows of the history that were older than {keep_months} months")
