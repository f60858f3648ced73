"""Maintenance: compare counters with their ledger, and delete expired rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from sidecar.errors import Interrupted
from sidecar.store.migrate import owner_connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

_WORKSPACES_AT_ONCE = 500
_PAGES_AT_ONCE = 1_000  # of a table: 8 MB
_LEDGER_PAGES_AT_ONCE = 100  # some 7,000 lines
_LINES_AT_ONCE = 10_000
_NO_ID = UUID(int=0)  # before all others

MISCOUNTS = """
    SELECT w.id, w.slug, m.kind, m.meter, m.resource, m.counted, m.expected,
        CASE m.kind WHEN 'period' THEN m.period_start END
    FROM (SELECT id, slug FROM authz.workspaces WHERE id > %s ORDER BY id LIMIT %s) AS w
    LEFT JOIN LATERAL authz.miscounts(w.id) AS m ON true
    ORDER BY w.id, m.kind, m.meter, m.resource, m.period_start
"""
STILL_WRONG = "SELECT kind, meter, resource FROM authz.miscounts(%s)"
RECOUNT = "SELECT authz.recount(%s)"
TIDY = "SELECT authz.tidy(%s, %s, clock_timestamp() - make_interval(days => %s))"
MONTHS_AGO = "SELECT clock_timestamp() - make_interval(months => %s)"
OLD_USAGE = """
    SELECT DISTINCT ((l.ctid::text::point)[0]::bigint / %(pages)s) * %(pages)s
    FROM authz.usage_ledger AS l
    WHERE l.at < %(before)s -- what the index can answer
      AND authz.is_old_usage(l, %(before)s)
    ORDER BY 1
"""
FOLD_USAGE = "SELECT authz.fold_usage(%s, %s, %s, %s)"
LOG_REMOVED = "SELECT authz.log_removed(%s)"
THIN_ANCHORS = "SELECT authz.thin_anchors()"
PRUNE = "SELECT authz.prune_history(clock_timestamp() - make_interval(months => %s))"
ACCEPT_CLOCK = "SELECT authz.accept_clock()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miscount:
    """*counted* is the stored count, *expected* the sum of ledger or memberships.

    *period_start*, of kind ``period`` alone, is when it began; *counted* is what the ledger has of it, and
    *expected* what was used in it.
    *mended* is true if it was put right, and was not found again afterwards.
    """

    workspace: str
    kind: Literal["counter", "period", "resource", "members"]
    meter: str | None
    resource: str | None
    counted: int
    expected: int
    mended: bool
    period_start: str | None = None


def miscounts(url: str, /, *, fix: bool) -> Iterator[Miscount]:
    """Workspace by workspace, as they are found; with *fix* each is corrected first, where that can be done.

    It compares without locks: counter and ledger are read in one snapshot. Interrupted as owner_connection.
    """
    with owner_connection(url) as connection:
        last = _NO_ID
        while page := connection.execute(MISCOUNTS, (last, _WORKSPACES_AT_ONCE)).fetchall():
            wrong = [row for row in page if row[2] is not None]
            left = set()
            for id_ in dict.fromkeys(row[0] for row in wrong) if fix else ():
                connection.execute(RECOUNT, (id_,))
                left |= {(id_, *row) for row in connection.execute(STILL_WRONG, (id_,))}
            for id_, workspace, kind, meter, resource, counted, expected, period_start in wrong:
                yield Miscount(
                    workspace=workspace,
                    kind=kind,
                    meter=meter,
                    resource=resource,
                    counted=counted,
                    expected=expected,
                    period_start=None if period_start is None else period_start.astimezone(UTC).isoformat(),
                    mended=fix and (id_, kind, meter, resource) not in left,
                )
            last = page[-1][0]


def accept_clock(url: str, /) -> datetime:
    """Let every worker trust the database's clock again, within seconds; what it says."""
    with owner_connection(url) as connection:
        (at,) = connection.execute(ACCEPT_CLOCK).fetchone() or (None,)
    if at is None:
        raise Interrupted("the table authz.clock has no row: run `sidecar migrate`")
    return at  # type: ignore[no-any-return] # a timestamptz


def tidy(url: str, /, *, key_days: int) -> int:
    """Remove what is over and return the number of rows. Transactions are short and skip rows in use.

    Keys that nothing resets go *key_days* after they were taken, unless something is given back by them.
    """
    total = page = 0
    with owner_connection(url) as connection:
        while True:
            (removed,) = connection.execute(TIDY, (page, _PAGES_AT_ONCE, key_days)).fetchone() or (None,)
            if removed is None:
                return total
            total += removed
            page += _PAGES_AT_ONCE


def fold_usage(url: str, /, *, keep_months: int) -> int:
    """Replace the lines of usage of periods that ended before that by one for each meter and period.

    Returns how many were deleted, at most 10,000 in a transaction. Nobody who spends waits; a second one that
    runs at the same time deletes what the first has not.
    """
    total = 0
    with owner_connection(url) as connection:
        (before,) = connection.execute(MONTHS_AGO, (keep_months,)).fetchone() or (None,)
        parts = connection.execute(OLD_USAGE, {"before": before, "pages": _LEDGER_PAGES_AT_ONCE}).fetchall()
        for (page,) in parts:
            gone = _LINES_AT_ONCE
            while gone == _LINES_AT_ONCE:
                batch = (before, page, _LEDGER_PAGES_AT_ONCE, _LINES_AT_ONCE)
                (gone,) = connection.execute(FOLD_USAGE, batch).fetchone() or (0,)
                total += gone
    return total


def prune(url: str, /, *, keep_months: int) -> int:
    """Delete the history of before that and return the number of rows. What then stood is kept as found."""
    with owner_connection(url) as connection:
        (pruned,) = connection.execute(PRUNE, (keep_months,)).fetchone() or (0,)
    return int(pruned)


def thin_anchors(url: str, /) -> int:
    """Delete anchors older than a day, but for the last one of each hour and writer; how many it was."""
    with owner_connection(url) as connection:
        (gone,) = connection.execute(THIN_ANCHORS).fetchone() or (0,)
        return int(gone)


def note_removed(url: str, writer: str, /) -> None:
    """Before the files of *writer* are deleted: they are not missing."""
    with owner_connection(url) as connection:
        connection.execute(LOG_REMOVED, (writer,))
