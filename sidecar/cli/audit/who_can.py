"""`sidecar audit who-can`: who may perform an action, now or then."""

from __future__ import annotations

import sys
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from sidecar.audit.answers import Answers
from sidecar.audit.forms import shown, text_table
from sidecar.audit.made import Made
from sidecar.audit.moments import moment_text, seconds_text
from sidecar.audit.quotas import Now
from sidecar.audit.rights import Rights
from sidecar.audit.whocan import counted, differing, others_than, rows_of
from sidecar.audit.whocan_forms import lines_of
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.options import (
    amounts_option,
    at_option,
    context_option,
    database_option,
    engine_option,
    files_options,
    refuse_undeclared,
    required_url,
)
from sidecar.cli.audit.report import json_text, made_by, report_options, say
from sidecar.cli.audit.ruling import by_database, differs_here
from sidecar.cli.audit.workspaces import no_collections, people_in, refuse_unknown, refuse_unknown_moment
from sidecar.errors import BadQuestion
from sidecar.reports.ruling import by_publication
from sidecar.store.audited_facts import AuditedFacts
from sidecar.store.auditing import looking
from sidecar.store.grants import members_now, not_understood
from sidecar.store.published import publications

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from sidecar.audit.whocan import Row
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Json, Verdict
    from sidecar.reports.ruling import Ruling
    from sidecar.store.auditing import Looked
    from sidecar.workspaces.holders import Member, Workspace

_NowOf: TypeAlias = "Callable[[Member, Workspace, Verdict], Verdict | None]"
_ABOUT = timedelta(minutes=10)  # how long workers may go on with the revision before


@click.command(name="who-can")
@click.argument("action")
@click.option("--workspace", metavar="WS", help="In this workspace: a slug or a UUID.")
@click.option("--everywhere", is_flag=True, help="In every workspace.")
@at_option()
@amounts_option()
@click.option(
    "--only",
    metavar="ROLE|USER,…",
    help="A control: exit code 1 if anybody else may.",
)
@click.option("--limit", type=click.IntRange(min=1), help="List at most so many; all are counted.")
@context_option()
@files_options
@engine_option()
@database_option()
@report_options()
@no_collections()
def command(  # noqa: PLR0913 - click gives each option
    *,
    action: str,
    workspace: str | None,
    everywhere: bool,
    at: datetime | None,
    amounts: dict[str, int] | None,
    only: str | None,
    limit: int | None,
    context: dict[str, Json],
    plans: Path | None,
    policies: Path | None,
    revision: str | None,
    archive: Path | None,
    engine: str | None,
    database_url: str | None,
    form: str,
    output: Path | None,
) -> None:
    """Who may perform ACTION: now with quotas, or at a moment as the history tells it, by the policy of then.

    Exit code 1 if --only is given and others may.
    """
    if everywhere == bool(workspace):
        raise click.UsageError("name a workspace by --workspace, or say --everywhere")
    with looking(required_url(database_url)) as looked:
        refuse_unknown_moment(looked, at)
        ruling = by_database(
            looked, at=at, revision=revision, plans=plans, policies=policies, archive=archive
        )
        catalog = ruling.compiled.catalog
        refuse_unknown("action", action, catalog.declared_actions)
        refuse_undeclared(context, ruling.compiled.context_fields)
        store = AuditedFacts(looked.connection, catalog=catalog, revision=ruling.compiled.revision)
        workspaces = people_in(looked, workspace, at=at, spoken=store.spoken, now=members_now)
        with engine_for(ruling.compiled, engine) as (asked, name):
            rights = Rights(ruling.compiled, Answers(asked), context=context)
            now: _NowOf = _unknown
            if at is None:
                try:
                    now = Now(rights, store, workspaces, action=action, amounts=amounts).of
                except BadQuestion as bad:
                    raise click.UsageError(f"--amounts: {_faults_of(bad)}") from bad
            rows = list(rows_of(action, workspaces, rights, now=now))
        others = others_than(_named_in(only, rows, catalog), rows) if only else []
        also = _also(looked, ruling, rows, at=at, action=action, engine=engine, context=context)
        unread = not_understood(looked.connection, at, workspaces[0].id if workspace else None)
    made = Made(
        **made_by(looked),
        as_of=moment_text(at),
        revision=ruling.compiled.revision,
        catalog=ruling.catalog,
        engine=name,
        population={
            "workspaces": len(workspaces),
            "members": len(rows),
            "may": sum(row.may for row in rows),
            "not_understood": unread,
        },
    )
    if form == "json":
        report = {
            "made": made.document,
            "action": action,
            "quotas_looked_at": at is None,
            "rows": [row.document for row in islice(rows, limit)],
            "others": [row.document for row in islice(others, limit)],
            "also": also,
        }
        say(json_text(report), output=output)
    else:
        lines = _header(
            action, workspaces if workspace else None, ruling, made, context=context, unread=unread
        )
        if everywhere:
            lines += _summary(rows, catalog)
        if only:
            lines += _control(others, only, limit=limit)
        shown_rows = sorted(rows, key=lambda row: not row.may)[:limit]
        lines += lines_of(shown_rows, total=len(rows), may=made.population["may"], everywhere=everywhere)
        lines += [
            f"revision {each['revision']}, published {each['published']}, says otherwise of:"
            f" {shown(', '.join(each['differs'])) or 'nobody'}"
            for each in also
        ]
        say("\n".join(lines), output=output)
    if others:
        sys.exit(EXIT_FOUND)


def _header(
    action: str,
    workspaces: list[Workspace] | None,
    ruling: Ruling,
    made: Made,
    *,
    context: dict[str, Json],
    unread: int,
) -> list[str]:
    where = "everywhere"
    if workspaces:
        (each,) = workspaces
        where = f"in {each.slug} ({each.name}, {each.plan}, {each.status})"
    by = f"by revision {ruling.compiled.revision}"
    if ruling.publication:
        by += f", published {seconds_text(ruling.publication.at)} by {ruling.publication.login}"
    lines = [shown(f"{action} {where} {f'at {made.as_of}' if made.as_of else 'now'}"), shown(by)]
    if differs := differs_here(ruling):
        lines.append(differs)
    if left_out := sorted(ruling.compiled.context_fields - context.keys()):
        lines.append(f"rules may look at {', '.join(left_out)}: asked without")
    if made.as_of:
        lines.append("quotas are not looked at: how much room there was then is not kept")
    if unread:
        lines.append(f"{unread:,} rows of the history are of a kind that is not known: left out")
    return [*lines, ""]


def _summary(rows: list[Row], catalog: Catalog) -> list[str]:
    table = [["plan", "role", "may", "members"]]
    for plan, role, may, there in counted(rows, plans=tuple(catalog.plans), roles=tuple(catalog.roles)):
        table.append([plan, role, f"{may:,}", f"{there:,}"])
    return [*text_table(table), ""]


def _control(others: list[Row], only: str, *, limit: int | None) -> list[str]:
    if not others:
        return [shown(f"nobody else than {only} may"), ""]
    count = "1 other member" if len(others) == 1 else f"{len(others):,} other members"
    lines = [shown(f"not only {only}: {count} may")]
    table = [[row.member.user, row.member.role, f"in {row.workspace.slug}"] for row in islice(others, limit)]
    return [*lines, *text_table(table, indent="  "), ""]


def _named_in(only: str, rows: list[Row], catalog: Catalog) -> set[str]:
    names = {name.strip() for name in only.split(",") if name.strip()}
    if not names:
        raise click.UsageError("--only: expected roles or users, got nothing")
    known = [*catalog.roles, *(row.member.user for row in rows), *(row.member.role for row in rows)]
    for name in sorted(names):
        refuse_unknown("--only: role or member", name, known)
    return names


def _also(
    looked: Looked,
    ruling: Ruling,
    rows: list[Row],
    *,
    at: datetime | None,
    action: str,
    engine: str | None,
    context: dict[str, Json],
) -> list[dict[str, Any]]:
    """Other policies that were published about *at*: for some minutes workers may have answered by either."""
    if at is None or ruling.publication is None:
        return []
    found: dict[str, dict[str, Any]] = {}
    for each in publications(looked.connection, at - _ABOUT, at + _ABOUT):
        if each.revision == ruling.compiled.revision or each.revision in found:
            continue
        other = by_publication(looked, each)
        with engine_for(other.compiled, engine) as (asked, _):
            differs = differing(rows, action, Rights(other.compiled, Answers(asked), context=context))
        found[each.revision] = {
            "revision": each.revision,
            "published": moment_text(each.at),
            "differs": differs,
        }
    return list(found.values())


def _unknown(_member: Member, _workspace: Workspace, _right: Verdict) -> None:
    """Quotas are not looked at."""


def _faults_of(bad: BadQuestion) -> str:
    return "; ".join(fault.detail for fault in bad.faults) or str(bad)
