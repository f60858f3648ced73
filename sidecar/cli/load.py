"""`sidecar load`: users and workspaces as a world file says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from sidecar.cli import owner_option
from sidecar.store.world import load


@click.command(name="load")
@click.argument("world", type=click.Path(path_type=Path))
@owner_option()
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(world: Path, database_url: str, *, as_json: bool) -> None:
    """Make users and workspaces what the file WORLD says; a second time changes nothing.

    Workspaces that the file does not name stay as they are; what it does not say of those that it names is
    removed.
    """
    loaded = load(database_url, world)
    if as_json:
        print(json.dumps(asdict(loaded)))
    else:
        print(f"{world}: {loaded.workspaces} workspaces and {loaded.users} users are as it says")
