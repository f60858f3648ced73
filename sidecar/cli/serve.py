"""`sidecar serve`: production."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sidecar.settings import PREFIX, Settings


@click.command("serve")
@click.option(
    "--authzen-policy",
    type=click.Path(path_type=Path),
    help="As SIDECAR_AUTHZEN_POLICY, and before it.",
)
def command(authzen_policy: Path | None) -> None:
    """Serve the API as the SIDECAR_… variables say (docs/configuration.md).

    SIGHUP takes up new plans, policies and tokens; SIGTERM finishes what has begun and stops.
    """
    given = {f"{PREFIX}AUTHZEN_POLICY": str(authzen_policy)} if authzen_policy else {}
    settings = Settings.from_environ({**os.environ, **given})
    from sidecar.serving.master import serve  # noqa: PLC0415 - a second's worth of imports

    serve(settings)
