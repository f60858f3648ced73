"""`sidecar serve`: production."""

from __future__ import annotations

import os

import click

from sidecar.settings import Settings


@click.command("serve")
def command() -> None:
    """Serve the API as the SIDECAR_… variables say (docs/configuration.md).

    SIGHUP takes up new plans, policies and tokens; SIGTERM finishes what has begun and stops.
    """
    settings = Settings.from_environ(os.environ)
    from sidecar.web.gunicorn_conf import serve  # noqa: PLC0415 - a second's worth of imports

    serve(settings)
