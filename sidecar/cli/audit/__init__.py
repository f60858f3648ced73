"""`sidecar audit`: what auditors ask, one command a file.

A command reads its options, calls functions of `sidecar.audit` and prints one report, whole or not at all.
"""

from __future__ import annotations

import click

from sidecar.cli import Commands


@click.command(
    name="audit",
    cls=Commands,
    package=__name__,
    helpers={"asking", "differing", "logs", "options", "report", "ruling", "sides", "workspaces"},
)
def command() -> None:
    """Who may do what, since when and by whom; what is promised; and whether the log is whole."""
