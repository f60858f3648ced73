"""`sidecar recount`: is every counter the sum of its ledger?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sidecar.cli import EXIT_FOUND
from sidecar.store.upkeep import miscounts

if TYPE_CHECKING:
    from sidecar.store.upkeep import Miscount


@click.command(name="recount")
@click.option("--fix", is_flag=True, help="Put right what is found: the ledger holds, and the memberships.")
@click.option(
    "--database-url",
    envvar="SIDECAR_DATABASE_URL",
    required=True,
    help="Of the schema's owner.  [env: SIDECAR_DATABASE_URL]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(database_url: str, *, fix: bool, as_json: bool) -> None:
    """Compare every counter with its ledger, things that exist by name too, and members with memberships.

    Exit code 1 if one differs, put right or not. Nobody who spends waits for it.
    """
    found = []
    for miscount in miscounts(database_url, fix=fix):
        found.append(miscount)
        if not as_json:
            print(_line_about(miscount), flush=True)
    if as_json:
        print(
            json.dumps(
                {"miscounts": [_document_of(each) for each in found], "fixed": fix and bool(found)}, indent=2
            )
        )
    elif not found:
        print("every counter is the sum of its ledger")
    else:
        done = "put right" if fix else "left as they are: --fix puts them right"
        print(f"{len(found)} miscounts, {done}", file=sys.stderr)
    if found:
        sys.exit(EXIT_FOUND)


def _document_of(miscount: Miscount) -> dict[str, object]:
    document = asdict(miscount)
    if miscount.period_start is None:
        del document["period_start"]
    return document


def _line_about(miscount: Miscount) -> str:
    counted, expected = miscount.counted, miscount.expected
    match miscount.kind:
        case "counter":
            what = f'"{miscount.meter}" counts {counted}, its ledger adds up to {expected}'
        case "period":
            since = f"in the period from {miscount.period_start}"
            what = f'"{miscount.meter}" has {counted} in its ledger {since}, and {expected} were used then'
        case "resource":
            what = f'"{miscount.meter}" has {counted} of "{miscount.resource}", its ledger {expected}'
        case "members":
            what = f"{counted} members are counted, and there are {expected} memberships"
    return f"{miscount.workspace}: {what}"
