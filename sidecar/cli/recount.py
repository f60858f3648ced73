"""`sidecar recount`: is every counter the sum of its ledger?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sidecar.cli import EXIT_FOUND, owner_option
from sidecar.store.upkeep import miscounts

if TYPE_CHECKING:
    from sidecar.store.upkeep import Miscount


@click.command(name="recount")
@click.option("--fix", is_flag=True, help="Put right what is found: the ledger holds, and the memberships.")
@owner_option()
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
    mended = sum(each.mended for each in found)
    if as_json:
        document = {
            "miscounts": [_document_of(each) for each in found],
            "fixed": bool(found) and mended == len(found),
        }
        print(json.dumps(document, indent=2))
    elif not found:
        print("every counter is the sum of its ledger")
    else:
        print(f"{len(found)} miscounts, {_what_was_done(len(found), mended, fix=fix)}", file=sys.stderr)
    if found:
        sys.exit(EXIT_FOUND)


def _document_of(miscount: Miscount) -> dict[str, object]:
    document = asdict(miscount)
    del document["mended"]  # "fixed" says it of all
    if miscount.period_start is None:
        del document["period_start"]
    return document


def _what_was_done(found: int, mended: int, *, fix: bool) -> str:
    if not fix:
        return "left as they are: --fix puts them right"
    if mended == found:
        return "put right"
    left = "a counter below 0 needs a line of kind adjust in authz.usage_ledger"
    return f"{mended} put right, {found - mended} cannot be put right by a recount: {left}"


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
