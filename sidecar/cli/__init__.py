"""The command line: one file per command, loaded when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import click

from sidecar.errors import ConfigError, SidecarError
from sidecar.settings import shipped

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_FOUND = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78


class _Commands(click.Group):
    """Every module of this package is a command of its name; its `command` is the click command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(module.name for module in iter_modules(__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"{__name__}.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"{__name__}.{cmd_name}.command is not a click command")
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="policy-sidecar")
def commands() -> None:
    """May this user, in this workspace, perform this action now?"""


def main(run: Callable[[], None] = lambda: commands(prog_name="sidecar")) -> None:
    """Exit codes: 0 fine, 1 found something, 2 usage, 78 configuration."""
    try:
        run()
    except SidecarError as error:
        for line in lines_about(error):
            print(line, file=sys.stderr)
        sys.exit(EXIT_CONFIGURATION if isinstance(error, ConfigError) else EXIT_FOUND)


def here_or_shipped(name: str) -> Path:
    """*name* in the folder that the command is called in, else ours."""
    return Path(name) if Path(name).exists() else shipped(name)


def lines_about(error: SidecarError) -> list[str]:
    """One line a problem, or the detail alone where there is only that."""
    if not error.problems:
        return [f"sidecar: {error}"]
    return [
        f"{problem.pointer}: {problem.detail}" if problem.pointer else problem.detail
        for problem in error.problems
    ]
