"""The options that several commands of `sidecar audit` share, and their values."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar.cli import plans_option, policies_option
from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.decisions.model import Json

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def files_options(function: Callable[..., None]) -> Callable[..., None]:
    """--plans, --policies, --revision, --archive: see ruling.py."""
    for option in reversed(
        (
            plans_option(demo=True),
            policies_option(),
            click.option("--revision", metavar="REV", help="By a revision that was published, as kept."),
            archive_option(),
        )
    ):
        function = option(function)
    return function


def archive_option() -> Callable[[Any], Any]:
    return click.option(
        "--archive",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="A folder of kept revisions, <revision>.tar.gz as by sidecar compile -o.",
    )


def engine_option() -> Callable[[Any], Any]:
    return click.option(
        "--engine",
        type=click.Choice(["embedded", "opa"]),
        help="Who evaluates.  [default: opa where its binary is, else embedded]",
    )


def database_option() -> Callable[[Any], Any]:
    """The value is None where neither the option nor a variable names one."""
    return click.option(
        "--database-url",
        envvar=["SIDECAR_AUDIT_URL", "SIDECAR_DATABASE_URL"],
        help="A login that has the role authz_audit.  [env: SIDECAR_AUDIT_URL, SIDECAR_DATABASE_URL]",
    )


def required_url(url: str | None) -> str:
    if url:
        return url
    raise click.UsageError("--database-url is required, or SIDECAR_AUDIT_URL: who is a member stands there")


def at_option() -> Callable[[Any], Any]:
    """The value may be no moment that is known: see workspaces.refuse_unknown_moment."""
    return click.option(
        "--at", metavar="TIME", callback=_read, help="RFC 3339 with a zone, or a date: its 00:00 UTC."
    )


def moment_option(name: str, says: str) -> Callable[[Any], Any]:
    """As --at, for --since and --until."""
    return click.option(name, metavar="TIME", callback=_moment, help=says)


def context_option() -> Callable[[Any], Any]:
    """The value is a mapping of fields to JSON values."""
    return click.option(
        "--context", metavar="K=JSON", multiple=True, callback=_context, help="Ask with this context."
    )


def refuse_undeclared(context: dict[str, Json], declared: frozenset[str]) -> None:
    for field in context:
        if field not in declared:
            raise click.UsageError(
                f'--context: no policy declares the field "{field}"{did_you_mean(field, declared)}'
            )


def amounts_option() -> Callable[[Any], Any]:
    """The value is a mapping of meters to amounts, or None."""
    says = "How much of each meter; may be repeated.  [default: what the action takes]"
    return click.option("--amounts", metavar="METER=N,…", multiple=True, callback=_amounts, help=says)


def _amounts(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, int] | None:
    found = {}
    for text in ",".join(texts).split(",") if texts else ():
        meter, _, number = text.strip().partition("=")
        if not meter or not re.fullmatch(r"[0-9]{1,15}", number, re.ASCII):
            raise click.BadParameter(f"{text!r}: expected METER=N, as minutes=5", context, parameter)
        found[meter] = int(number)
    return found or None


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """In UTC. A moment that has not come is refused: nothing is known of it."""
    moment = _read(context, parameter, text)
    if moment is not None and (wrong := what_is_wrong_with(moment)):
        raise click.BadParameter(f"{text!r} {wrong}", context, parameter)
    return moment


def _read(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """In UTC, or without a zone."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{text}T00:00:00+00:00" if _DAY.fullmatch(text) else text)
        return moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is no RFC 3339 time, as 2026-10-01T00:00:00Z, and no date", context, parameter
        ) from error


def what_is_wrong_with(moment: datetime) -> str | None:
    if moment.tzinfo is None:
        return f"has no zone: write {moment.isoformat()}Z for UTC"
    return "is in the future" if moment > datetime.now(UTC) else None


def _context(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r}: expected FIELD=JSON, as mfa=true", context, parameter)
        try:
            found[name] = json.loads(value)
        except ValueError as error:
            says = f'{value!r} is no JSON; for a text write {name}="{value}" with its quotes'
            raise click.BadParameter(says, context, parameter) from error
    return found
