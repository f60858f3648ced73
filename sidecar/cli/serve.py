"""`sidecar serve`: production."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.cli import plans_option, policies_option
from sidecar.cli.sources import PLANS, own_plans, policies_or_shipped
from sidecar.engines.installed import import_first
from sidecar.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    environ = environ_with(os.environ, plans=plans, policies=policies, authzen_policy=authzen_policy)
    settings = Settings.from_environ(environ)
    import_first(settings.engine)
    from sidecar.serving.master import serve  # noqa: PLC0415 - a second's worth of imports

    serve(settings)


def environ_with(
    environ: Mapping[str, str],
    *,
    plans: Path | None,
    policies: Path | None,
    authzen_policy: Path | None = None,
) -> dict[str, str]:
    """*environ* with the files that are served: those named, else those here.

    Without a catalog anywhere the settings say so, together with all else that is wrong.
    """
    plans = own_plans(plans)
    given = {
        "PLANS": plans,
        "POLICIES": policies_or_shipped(policies, plans=plans or PLANS),
        "AUTHZEN_POLICY": authzen_policy,
    }
    return {**environ, **{PREFIX + name: str(path) for name, path in given.items() if path}}
