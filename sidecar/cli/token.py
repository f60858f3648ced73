"""`sidecar token`: a new caller token."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path

import click

from sidecar.errors import Interrupted
from sidecar.identity.callers import SCOPES, append_line, new_token, token_line


@click.command("token")
@click.option("--name", required=True, help="Who will use it; the decision log names it.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="May be given again."
)
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The tokens file (SIDECAR_TOKENS) to add it to; else its line is printed too.",
)
def command(name: str, scopes: tuple[str, ...], file: Path | None) -> None:
    """Make a token and show it, once: only its hash is kept, with the time and your login.

    A running sidecar takes it up within three seconds.
    """
    token = new_token()
    line = token_line(name, sorted(set(scopes)), token, made_at=datetime.now(UTC), made_by=_login())
    if file is None:
        click.echo(line, err=True)
    else:
        try:
            append_line(file, line)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise Interrupted(f"{file} cannot be written: {reason}") from error
    click.echo(token)


def _login() -> str:
    """Whoever types it, behind sudo too."""
    try:
        return os.environ.get("SUDO_USER") or getuser()
    except (OSError, KeyError):  # a user without a name, as containers have them
        return f"uid-{os.getuid()}"
