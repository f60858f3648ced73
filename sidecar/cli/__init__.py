"""The command line: one file per command, loaded when it is called.

A command reads its options, calls one function of another room and prints what it says.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sidecar.errors import ConfigError, SidecarError
from sidecar.settings import PREFIX

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


def plans_option(*, demo: bool) -> Callable[[Any], Any]:
    """--plans: a Path if it or SIDECAR_PLANS names one, else None; *demo*: fall back to the shipped one."""
    default = "./plans.yaml, else the shipped demo" if demo else "./plans.yaml"
    return _file_option("--plans", "The catalog.", default)


def policies_option() -> Callable[[Any], Any]:
    """--policies, as plans_option."""
    default = "./policies, or that folder beside the catalog, else the shipped ones"
    return _file_option("--policies", "The folder of policies.", default)


def _file_option(name: str, says: str, default: str) -> Callable[[Any], Any]:
    variable = PREFIX + name.removeprefix("--").upper()
    help_ = f"{says}  [env: {variable}; default: {default}]"
    return click.option(name, metavar="PATH", envvar=variable, callback=_path, help=help_)


def _path(context: click.Context, parameter: click.Parameter, text: str | None) -> Path | None:
    """None for an empty variable, as for every setting; an empty option is a mistake."""
    text = (text or "").strip()
    if not text and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
        raise click.BadParameter("expected a path, got nothing")
    return Path(text) if text else None


def lines_about(error: SidecarError) -> list[str]:
    """One line for each problem, or the detail if there are none."""
    if not error.problems:
        return [f"sidecar: {error}"]
    return [
        f"{problem.pointer}: {problem.detail}" if problem.pointer else problem.detail
        for problem in error.problems
    ]
