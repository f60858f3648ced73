"""Who may perform an action, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.audit.forms import shown, text_table
from sidecar.audit.moments import seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sidecar.audit.whocan import Row
    from sidecar.decisions.model import Verdict
    from sidecar.workspaces.holders import Grant

_MOST_NAMED = 20  # of those who may not, in a line of text


def lines_of(rows: Sequence[Row], *, total: int, may: int, everywhere: bool) -> list[str]:
    """Those of *rows* who may, then in one line for each reason those who may not.

    *total* and *may* count all members, also those that *rows* leave out.
    """
    table = [
        [
            *([row.workspace.slug] if everywhere else []),
            row.member.user,
            row.member.role,
            *granted_in_words(row.member.grant),
            _room_in_words(row),
        ]
        for row in rows
        if row.may
    ]
    left = list(_who_may_not(rows, everywhere=everywhere))
    counts = f"{may:,} of {total:,} members"
    if may == total:
        return [*text_table(table), f"{counts}: all"]
    if len(left) == 1 and not everywhere:
        return [*text_table(table), f"{counts}; {left[0]}"]
    return [*text_table(table), counts, *left]


def granted_in_words(grant: Grant | None) -> list[str]:
    """Three cells: since when, by whom, and where the history tells it."""
    if grant is None:
        return ["not in the history", "", ""]
    given = (
        "found: nobody saw it being given" if grant.kind == "found" else f"given by {grant.kind} {grant.by}"
    )
    return [f"since {seconds_text(grant.since)}", given, f"outbox {grant.event}"]


def verdict_in_words(verdict: Verdict) -> str:
    """`403 role_insufficient, needs owner`."""
    needs = ", ".join(verdict.needs_roles) or verdict.needs_feature or verdict.detail
    text = f"{verdict.status} {verdict.reason}" + (f", needs {needs}" if needs and not verdict.detail else "")
    return f"{text} ({verdict.detail})" if verdict.detail else text


def _room_in_words(row: Row) -> str:
    if row.now is None or row.now.allow:
        return ""
    offer = f" → {row.now.upgrade[0]}" if row.now.upgrade else ""
    if row.now.reason == "quota_exceeded":
        return f"yes, but no room now ({row.now.status}{offer})"
    return f"yes, but not now: {verdict_in_words(row.now)}"


def _who_may_not(rows: Sequence[Row], *, everywhere: bool) -> Iterator[str]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        if not row.may:
            found.setdefault(_why(row.right), []).append(row)
    for why, who in found.items():
        *some, last = (_named(row, everywhere=everywhere) for row in who[:_MOST_NAMED])
        if len(who) > _MOST_NAMED:
            some, last = [*some, last], f"{len(who) - _MOST_NAMED:,} more"
        yield f"{', '.join(some) + ' and ' if some else ''}{last} may not: {why}"


def _named(row: Row, *, everywhere: bool) -> str:
    where = f" in {row.workspace.slug}" if everywhere else ""
    return shown(f"{row.member.user} ({row.member.role}){where}")


def _why(verdict: Verdict) -> str:
    needs = ", ".join(verdict.needs_roles) or verdict.needs_feature
    if verdict.detail:
        return f"{verdict.reason}, {verdict.detail}"
    return f"{verdict.reason}, needs {needs}" if needs else verdict.reason
