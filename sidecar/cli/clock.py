"""`sidecar clock accept`: the database's clock is right, whatever the workers' own clocks say."""

from __future__ import annotations

import click

from sidecar.cli import owner_option
from sidecar.store.upkeep import accept_clock


@click.group(name="clock")
def command() -> None:
    """What the workers think of the database's clock."""


@command.command(name="accept")
@owner_option()
def accept(database_url: str) -> None:
    """Trust the database's clock as it is now.

    A worker trusts it only while it advances as the worker's own monotonic clock does. After a jump of more
    than five minutes no period begins until both agree again, or until this is said.
    """
    at = accept_clock(database_url)
    print(f"{at.isoformat(timespec='seconds')} is accepted: every worker follows within 10 seconds")
