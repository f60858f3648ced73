"""`sidecar migrate`: the database's schema, and the catalog in it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from sidecar.cli import owner_option, plans_option, policies_option, say
from sidecar.cli.sources import policies_or_shipped, required_plans
from sidecar.rego.bundle import served_bundle
from sidecar.rego.load import compiled_at, plans_text
from sidecar.store.migrate import WAIT_S, migrate
from sidecar.store.pending import pending
from sidecar.store.publish import Files

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.rego.compile import Compiled


@click.command(name="migrate")
@plans_option(demo=False)
@policies_option()
@owner_option(directly=True)
@click.option(
    "--accept",
    type=click.Choice(["loss"]),
    help="loss: publish although rows lose what they refer to; they are dead from then on.",
)
@click.option(
    "--check", is_flag=True, help="Change nothing: say what would be done. Exit code 1 if there is something."
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86400),
    default=WAIT_S,
    show_default=True,
    help="Seconds to wait in sum for locks that others hold.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(
    plans: Path | None,
    policies: Path | None,
    database_url: str,
    accept: str | None,
    *,
    check: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """Bring the database to this version's schema and publish the catalog; a second time changes nothing.

    The policies are a part of the revision that is published. It waits for locks in attempts of 50 ms, so
    that questions are answered meanwhile.

    Exit codes: 0 done, or with --check nothing to do; 1 with --check there is something to do; 69 not done:
    the database was not reached, or others held a lock for too long, and it may be tried again; 78 refused,
    and nothing is published: the catalog lacks a name that rows refer to or counts a meter with usage
    otherwise, or the database was migrated by other files.
    """
    plans = required_plans(plans)
    compiled = compiled_at(plans, policies_or_shipped(policies, plans=plans))
    if check:
        _check(database_url, revision=compiled.revision, as_json=as_json)
        return
    migrated = migrate(
        database_url,
        catalog=compiled.catalog,
        revision=compiled.revision,
        accept_loss=accept == "loss",
        files=files_of(plans, compiled),
        wait_s=wait_s,
        says=partial(say, level="info"),
    )
    if as_json:
        print(json.dumps(asdict(migrated), indent=2, ensure_ascii=False))
        return
    for name in migrated.applied:
        print(f"applied {name}")
    for statement in migrated.repaired:
        print(f"repaired: {statement}")
    if migrated.replaced == migrated.revision:
        print(f"the catalog is {migrated.revision} as before")
    else:
        print(f"published {migrated.revision}, before: {migrated.replaced or 'none'}")
    for warning in migrated.warnings:
        say(f"warning: {warning}", level="warning")
    for finding in migrated.findings:
        say(f"differs: {finding}", level="warning")


def _check(database_url: str, *, revision: str, as_json: bool) -> None:
    found = pending(database_url, revision=revision)
    if as_json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        for name in found.migrations:
            print(f"would apply {name}")
        if found.revision != found.published:
            print(f"would publish {found.revision}, now: {found.published or 'none'}")
        for finding in found.findings:
            print(f"differs: {finding}")
        if found.is_nothing:
            print(f"nothing to do: the catalog is {found.revision}")
    if not found.is_nothing:
        sys.exit(1)


def files_of(plans: Path, compiled: Compiled) -> Files:
    """What is kept of a publication."""
    return Files(
        plans=plans_text(plans), bundle=served_bundle(compiled, None), version=version("policy-sidecar")
    )
