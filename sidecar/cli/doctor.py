"""`sidecar doctor`: what would keep a sidecar from serving here."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from sidecar.cli import EXIT_FOUND, plans_option, policies_option
from sidecar.cli.serve import environ_with

if TYPE_CHECKING:
    from pathlib import Path


@click.command(name="doctor")
@plans_option(demo=False)
@policies_option()
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(plans: Path | None, policies: Path | None, *, as_json: bool) -> int:
    """Look at all that `sidecar serve` would need, with the same settings, and say what to do.

    Settings, files, database, OPA or the embedded engine, the identity provider's keys, tokens, addresses and
    the disk: a line each, within 5 seconds. Nothing is changed. Exit code 1 if there is a finding; a warning
    is none.
    """
    from sidecar.serving.doctor import examine  # noqa: PLC0415 - a second's worth of imports

    checks = examine(environ_with(os.environ, plans=plans, policies=policies))
    count = sum(check.state == "finding" for check in checks)
    if as_json:
        document = {"findings": count, "checks": [check.document for check in checks]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print("\n".join(map(str, checks)))
    return EXIT_FOUND if count else 0
