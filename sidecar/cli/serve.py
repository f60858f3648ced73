"""`sidecar serve`: production."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sidecar.cli import plans_option, policies_option
from sidecar.cli.sources import PLANS, own_plans, policies_or_shipped
from sidecar.engines.installed import import_first
from sidecar.settings import PREFIX, Settings


@click.command("serve")
@plans_option(demo=False)
@policies_option()
@click.option(
    "--authzen-policy",
    type=click.Path(path_type=Path),
    help="As SIDECAR_AUTHZEN_POLICY, and before it.",
)
def command(plans: Path | None, policies: Path | None, authzen_policy: Path | None) -> None:
    """Serve the API as the SIDECAR_… variables say (docs/configuration.md).

    SIGHUP takes up new plans, policies and tokens; SIGTERM finishes what has begun and stops.
    """
    plans = own_plans(plans)  # without any, the settings say so, together with all else that is wrong
    given = {
        "PLANS": plans,
        "POLICIES": policies_or_shipped(policies, plans=plans or PLANS),
        "AUTHZEN_POLICY": authzen_policy,
    }
    chosen = {PREFIX + name: str(path) for name, path in given.items() if path}
    settings = Settings.from_environ({**os.environ, **chosen})
    import_first(settings.engine)
    from sidecar.serving.master import serve  # noqa: PLC0415 - a second's worth of imports

    serve(settings)
