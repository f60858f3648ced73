"""`sidecar audit access-review`: every right that anybody holds, to be confirmed or revoked."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.audit.answers import Answers
from sidecar.audit.made import Made
from sidecar.audit.moments import moment_text
from sidecar.audit.quotas import RoomNow
from sidecar.audit.review import FLAGS, KINDS, SEPARATE, Review, callers_of, logins_of
from sidecar.audit.review_forms import review_csv, review_html, review_lines
from sidecar.audit.rights import Rights
from sidecar.cli import EXIT_FOUND
from sidecar.cli.audit.asking import engine_for
from sidecar.cli.audit.options import (
    at_option,
    database_option,
    engine_option,
    files_options,
    required_url,
)
from sidecar.cli.audit.report import json_text, made_by, report_options, say, say_csv
from sidecar.cli.audit.ruling import by_database, differs_here
from sidecar.cli.audit.workspaces import no_collections, people_in, refuse_unknown, refuse_unknown_moment
from sidecar.errors import NotAsked
from sidecar.identity.callers import callers_in
from sidecar.store.audited_facts import AuditedFacts
from sidecar.store.auditing import looking
from sidecar.store.grants import logins_that_write, people_in_sum, unaccounted
from sidecar.store.told import founders, own_changes, setters
from sidecar.telemetry.last_used import LastUsed, last_used
from sidecar.telemetry.log_files import log_files

if TYPE_CHECKING:
    from sidecar.audit.review import Row
    from sidecar.catalog.catalog import Catalog
    from sidecar.store.auditing import Looked
    from sidecar.workspaces.holders import Workspace

_PATH = click.Path(path_type=Path)
_MOST_IN_ONE = 2**31 - 1


@click.command(name="access-review")
@click.option("--workspace", metavar="WS", help="Of this workspace alone: a slug or a UUID.")
@click.option("--roles", metavar="ROLE,…", help="Of members and invitations, those with these roles.")
@at_option()
@click.option(
    "--log", "logs", metavar="PATH", multiple=True, help="Decision logs: last_used and dormant. Repeatable."
)
@click.option("--tokens", metavar="FILE", type=_PATH, help="The tokens file: callers, by name and scope.")
@click.option(
    "--fail-on",
    metavar="FLAG",
    multiple=True,
    help=f"Exit code 1 if a row has it. Repeatable.  [{', '.join(FLAGS)}, separate]",
)
@files_options
@engine_option()
@database_option()
@report_options("csv", "html")
@no_collections()
def command(  # noqa: PLR0913 - click gives each option
    *,
    workspace: str | None,
    roles: str | None,
    at: datetime | None,
    logs: tuple[str, ...],
    tokens: Path | None,
    fail_on: tuple[str, ...],
    plans: Path | None,
    policies: Path | None,
    revision: str | None,
    archive: Path | None,
    engine: str | None,
    database_url: str | None,
    form: str,
    output: Path | None,
) -> None:
    """Who holds which rights and who gave them: members, open invitations, overrides, callers, logins.

    All of it is read from the grants. At a moment that has been, only the members of then are listed. A right
    with * has no room now.
    """
    for flag in fail_on:
        refuse_unknown("--fail-on: flag", flag.partition(":")[0], [*FLAGS, SEPARATE.rstrip(":")])
    used = _used(logs)
    callers = callers_in(tokens).known if tokens else ()
    with looking(required_url(database_url)) as looked:
        refuse_unknown_moment(looked, at)
        ruling = by_database(
            looked, at=at, revision=revision, plans=plans, policies=policies, archive=archive
        )
        catalog = ruling.compiled.catalog
        store = AuditedFacts(looked.connection, catalog=catalog, revision=ruling.compiled.revision)
        workspaces = people_in(looked, workspace, at=at, spoken=store.spoken)
        named = _roles_in(roles, workspaces, catalog)
        id_ = workspaces[0].id if workspace else None
        with engine_for(ruling.compiled, engine) as (asked, name):
            rights = Rights(ruling.compiled, Answers(asked), context={})
            review = Review(
                rights=rights,
                as_of=at or datetime.now(UTC),
                is_full=(lambda *_: False) if at else RoomNow(rights, store, workspaces).is_full,
                no_gain=_without_gain(looked, workspaces, id_, catalog),
                setters={} if at else setters(looked.connection, id_),
                last_used=(lambda user, of: used.of(user, of.id, of.slug)) if logs else None,
                masked=used.masked > 0,
            )
            rows = [*review.members(workspaces, roles=named)]
            if at is None:
                _compare(looked, store, workspaces, id_)
                rows += [*review.invitations(workspaces, roles=named), *review.overrides(workspaces)]
                rows += callers_of(callers, last_used=used.callers)
                rows += logins_of(logins_that_write(looked.connection))
        differing = unaccounted(looked.connection, id_) if at is None else None
    counts = Counter(row.kind for row in rows)
    made = Made(
        **made_by(looked),
        as_of=moment_text(at),
        revision=ruling.compiled.revision,
        catalog=ruling.catalog,
        engine=name,
        population={"workspaces": len(workspaces), **{kind: counts[kind] for kind in KINDS}},
    )
    notes = [*_notes(used, logs, at, differing), *filter(None, [differs_here(ruling)])]
    _say(rows, made, notes, form=form, output=output, unaccounted=differing)
    if any(_fails(row, fail_on) for row in rows):
        sys.exit(EXIT_FOUND)


def _say(
    rows: list[Row], made: Made, notes: list[str], *, form: str, output: Path | None, unaccounted: int | None
) -> None:
    documents = [row.document(number) for number, row in enumerate(rows, start=1)]
    counts = {kind: made.population[kind] for kind in KINDS}
    about = {"unaccounted": unaccounted, "notes": notes}
    match form:
        case "json":
            say(json_text({"made": made.document, "rows": documents, **about}), output=output)
        case "csv":
            meta = {"made": made.document, "rows": counts, **about}
            say_csv(review_csv(documents), output=output, meta=meta)
        case "html":
            say(review_html(documents, made, notes), output=output)
        case _:
            kinds = ", ".join(
                f"{count:,} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items() if count
            )
            head = [f"access review, revision {made.revision}: {kinds or 'nothing'}", *notes, ""]
            say("\n".join([*head, *review_lines(documents)]), output=output)


def _used(logs: tuple[str, ...]) -> LastUsed:
    if not logs:
        return LastUsed()
    files = log_files(logs)
    used = last_used(files)
    if not used.lines:
        raise click.UsageError(f"--log: there is no line in {', '.join(logs)}: nothing would be looked at")
    return used


def _roles_in(roles: str | None, workspaces: list[Workspace], catalog: Catalog) -> set[str] | None:
    if roles is None:
        return None
    names = {name.strip() for name in roles.split(",")}
    held = {member.role for each in workspaces for member in each.members}
    for name in sorted(names):
        refuse_unknown("--roles: role", name, [*catalog.roles, *sorted(held - set(catalog.roles))])
    return names


def _without_gain(looked: Looked, workspaces: list[Workspace], id_: str | None, catalog: Catalog) -> set[int]:
    """Changes by which users gave themselves nothing: they made the workspace, or had a higher role.

    Read only where somebody seems to have given something to themselves.
    """
    if not any(
        member.grant and member.grant.by == member.user for each in workspaces for member in each.members
    ):
        return set()
    lowered = {
        event
        for event, (before, after) in own_changes(looked.connection, id_).items()
        if all(before in action.roles for action in catalog.actions.values() if after in action.roles)
    }
    return founders(looked.connection, id_) | lowered


def _compare(looked: Looked, store: AuditedFacts, workspaces: list[Workspace], id_: str | None) -> None:
    """NotAsked unless as many members were read as there are, counted another way."""
    members = [member for each in workspaces for member in each.members]
    if id_ is None:
        found, counted = sum(member.exists is True for member in members), people_in_sum(looked.connection)
    else:
        roster = store.members_of(id_, after=None, limit=_MOST_IN_ONE, deadline=0.0)
        found, counted = len(members), len(roster.members)
    if found != counted:
        raise NotAsked(f"{found:,} members were read and {counted:,} are there: nothing is said")


def _notes(used: LastUsed, logs: tuple[str, ...], at: datetime | None, differing: int | None) -> list[str]:
    notes = []
    if at:
        notes.append("of then: members alone, without e-mail addresses and quotas")
    if differing:
        notes.append(f"{differing:,} rows of the database are not as the history tells: see unaccounted")
    if logs:
        notes.append(f"last_used is by {used.lines:,} lines of {used.since} to {used.until}")
    if used.unread:
        notes.append(f"{used.unread:,} lines could not be read")
    if used.masked:
        notes.append(f"{used.masked:,} lines do not name their user: they are masked")
    return notes


def _fails(row: Row, fail_on: tuple[str, ...]) -> bool:
    return any(flag in fail_on or flag.partition(":")[0] in fail_on for flag in row.flags)
