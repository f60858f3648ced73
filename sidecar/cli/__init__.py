"""The command line: one file per command, loaded when it is called.

A command reads its options, calls one function of another room and prints what it says.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sidecar.errors import ConfigError, DependencyError, NotAsked, SidecarError
from sidecar.settings import PREFIX
from sidecar.telemetry.stderr import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sidecar.telemetry.stderr import LogFormat

EXIT_FOUND = 1
EXIT_USAGE = 2
EXIT_NOT_ASKED = 69
EXIT_NOT_CONVERGED = 75
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class _NobodyReads(Exception):
    """Standard output is a pipe that was closed: click would make that exit code 1, which is a finding."""


class Commands(click.Group):
    """Each module of *package* is a command of its name, but for *helpers*: its `command`."""

    def __init__(self, *, package: str, helpers: Collection[str], **settings: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(**settings)
        self._package = package
        self._helpers = helpers

    def invoke(self, ctx: click.Context) -> object:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _NobodyReads from error
        return code

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        modules = (module.name for module in iter_modules(import_module(self._package).__path__))
        return sorted(name.replace("_", "-") for name in modules if name not in self._helpers)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"{self._package}.{cmd_name.replace('-', '_')}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"{self._package}.{cmd_name}.command is not a click command")
        return command


@click.command(
    cls=Commands,
    package=__name__,
    helpers={"checking", "sources"},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="policy-sidecar")
def commands() -> None:
    """May this user, in this workspace, perform this action now?"""


def main(
    run: Callable[[], object] = lambda: commands.main(prog_name="sidecar", standalone_mode=False),
) -> None:
    """Ends the process: 0 fine, 1 found something, 2 usage, 69 an outage, 75 not converged, 78 configuration.

    130 after SIGINT, 141 where nobody reads standard output any more.
    """
    try:
        code = run()
    except click.ClickException as error:
        if _log_format() == "json":
            say(error.format_message())
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except _NobodyReads:
        sys.stdout = None  # else Python flushes it once more, and complains
        sys.exit(EXIT_BROKEN_PIPE)
    except SidecarError as error:
        for line in lines_about(error):
            say(line)
        sys.exit(_exit_code_of(error))
    sys.exit(code if isinstance(code, int) else 0)


def _log_format() -> LogFormat:
    return "json" if os.environ.get(f"{PREFIX}LOG_FORMAT", "").strip() == "json" else "text"


def say(line: str, *, level: str = "error") -> None:
    """On standard error, as SIDECAR_LOG_FORMAT says."""
    print(line_of(line, level=level, log_format=_log_format()), file=sys.stderr)


def _exit_code_of(error: SidecarError) -> int:
    """An outage is no finding."""
    match error:
        case ConfigError():
            return EXIT_CONFIGURATION
        case NotAsked() | DependencyError():
            return EXIT_NOT_ASKED
        case _:
            return EXIT_FOUND


def plans_option(*, demo: bool) -> Callable[[Any], Any]:
    """--plans: a Path if it or SIDECAR_PLANS names one, else None; *demo*: fall back to the shipped one."""
    default = "./plans.yaml, else the shipped demo" if demo else "./plans.yaml"
    return _file_option("--plans", "The catalog.", default)


def policies_option() -> Callable[[Any], Any]:
    """--policies, as plans_option."""
    default = "./policies, or that folder beside the catalog, else the shipped ones"
    return _file_option("--policies", "The folder of policies.", default)


def owner_option(*, directly: bool = False) -> Callable[[Any], Any]:
    """--database-url, which is required; *directly*: a pooler would be in the way."""
    without = ", without a pooler between" if directly else ""
    return click.option(
        "--database-url",
        envvar="SIDECAR_DATABASE_URL",
        required=True,
        help=f"Of the schema's owner{without}.  [env: SIDECAR_DATABASE_URL]",
    )


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
