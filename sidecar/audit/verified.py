"""The two verdicts on a decision log, as a document and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.audit.forms import shown, text_table
from sidecar.audit.gaps import OF_THE_DATABASE
from sidecar.audit.moments import shown_moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sidecar.audit.findings import Finding
    from sidecar.audit.gaps import Gap, Source

_MOST_NAMED = 20
_OF_ROWS = {
    "usage_ledger": ("effect has no line", "effects have no line"),
    "outbox": (
        "change by a user has no line of its decision",
        "changes by users have no line of their decision",
    ),
    "history": ("digest of the history has no line", "digests of the history have no line"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """*since* and *until* are what was looked at, *anchored_at* is the time of the last anchor.

    *headless* are the writers of whom no head is known, where some were asked for.
    """

    files: int
    writers: int
    lines: int
    unsealed: int
    since: datetime | None
    until: datetime | None
    findings: Sequence[Finding]
    gaps: Sequence[Gap]
    not_looked_at: Sequence[Source]
    still_written: Sequence[str] = ()
    headless: Sequence[str] = ()
    anchored_at: datetime | None = None
    has_heads: bool = False
    last_line_at: datetime | None = None

    @property
    def is_whole(self) -> bool:
        return not self.findings

    @property
    def is_complete(self) -> bool:
        return not self.gaps

    @property
    def document(self) -> dict[str, object]:
        """All but `made`."""
        return {
            "files": self.files,
            "writers": self.writers,
            "lines": self.lines,
            "unsealed": self.unsealed,
            "since": self.since and shown_moment(self.since),
            "until": self.until and shown_moment(self.until),
            "headless": list(self.headless),
            "whole": {"ok": self.is_whole, "findings": [each.document for each in self.findings]},
            "complete": {
                "ok": self.is_complete,
                "findings": [each.document for each in self.gaps],
                "not_looked_at": list(self.not_looked_at),
            },
        }

    @property
    def text(self) -> str:
        counts = [
            _counted(self.files, "file"),
            _counted(self.writers, "writer"),
            _counted(self.lines, "line"),
        ]
        if self.since and self.until:
            counts.append(f"{shown_moment(self.since)} to {shown_moment(self.until)}")
        lines = [", ".join(counts)]
        if self.unsealed:
            are = "is" if self.unsealed == 1 else "are"
            lines.append(f"not sealed {self.unsealed:,} of them {are}: nothing can be said of those")
        lines += ["whole      " + (f"yes: {self._anchored}" if self.is_whole else "NO")]
        lines += text_table([_row_of(each) for each in self.findings], indent="  ")
        if self.headless:
            names = ", ".join(map(shown, self.headless[:_MOST_NAMED]))
            more = len(self.headless) - _MOST_NAMED
            lines.append(
                f"           no head is known of {names}{f' and {more:,} more' if more > 0 else ''}: whether"
                " their logs were made up would not show"
            )
        lines += ["complete   " + ("yes" if self.is_complete else "NO")]
        lines += text_table(_rows_of(self.gaps), indent="  ")
        if self.not_looked_at:
            lines.append(f"not looked at: {', '.join(self.not_looked_at)}")
        if self.still_written:
            lines.append(f"still being written: {', '.join(map(shown, self.still_written))}")
        return "\n".join(lines)

    @property
    def _anchored(self) -> str:
        if self.unsealed and self.unsealed == self.lines:
            return "but no line has a seal"
        if self.anchored_at is None or self.last_line_at is None:
            if self.has_heads:
                return "every seal fits, and every known head"
            return "every seal fits; no head is known from elsewhere: a cut end would not show"
        age_s = round((self.last_line_at - self.anchored_at).total_seconds())
        if age_s <= 0:
            return "every seal fits; the last anchor is not older than the last line"
        return f"every seal fits; the last anchor is {age_s:,} s older than the last line"


def not_looked_at(*, database: bool) -> tuple[Source, ...]:
    return () if database else OF_THE_DATABASE


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _row_of(finding: Finding) -> tuple[str, ...]:
    place = "" if finding.file is None else f"{finding.file}:{finding.line}"
    return (finding.writer or "", place, finding.what.replace("_", " "), finding.detail)


def _rows_of(gaps: Sequence[Gap]) -> list[tuple[str, str]]:
    """A writer's gaps as they are; rows of a table of the database together."""
    rows: list[tuple[str, str]] = []
    for source in dict.fromkeys(gap.source for gap in gaps):
        of = [gap for gap in gaps if gap.source == source]
        if source in _OF_ROWS:
            names = [str(gap.decision_id if source == "usage_ledger" else gap.id) for gap in of]
            more = f", and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
            says = _OF_ROWS[source][len(of) > 1]
            rows.append((source, f"{len(of):,} {says}: {', '.join(names[:_MOST_NAMED])}{more}"))
            continue
        rows += [(gap.writer or source, gap.detail) for gap in of]
    return rows
