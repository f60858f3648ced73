"""What one writer has written, as far as it was read: its first break, and what only the end shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from sidecar.audit.chain import next_head
from sidecar.audit.findings import Finding
from sidecar.audit.stretches import Stretches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sidecar.audit.findings import Anchor, What
    from sidecar.audit.stretches import Stretch

_ANCHORED_WITHIN = timedelta(seconds=10)
SEAL_IS_WRONG = "its seal does not fit: it was edited, or the seal of the line before it was"


@dataclass(slots=True, kw_only=True)
class _Break:
    n: int
    finding: Finding
    may_be_edited: int  # if the line of this number comes next, it is the broken one's number that was edited


class Written:
    """*ordered* is the number of the last line in the writer's own files, where numbers rise."""

    def __init__(self, name: str, anchors: Sequence[Anchor]) -> None:
        self.name = name
        self.stretches = Stretches()
        self.heads = {each.number: each.head for each in anchors}
        self.torn: tuple[str, int] | None = None
        self.ordered = 0
        self._day = ""
        self._anchors = anchors
        self._break: _Break | None = None

    @property
    def finding(self) -> Finding | None:
        return None if self._break is None else self._break.finding

    @property
    def last(self) -> int:
        end = self.stretches.last
        return end.n if end else 0

    def broken(
        self,
        n: int,
        what: What,
        detail: str,
        *,
        at: tuple[str, int] | None = None,
        may_be_edited: int = 0,
    ) -> None:
        """Line *n* is not as it was written. Only the first such is told: others may be its consequences."""
        if self._break is None or n < self._break.n:
            file, line = at or (None, None)
            finding = Finding(writer=self.name, file=file, line=line, what=what, detail=detail)
            self._break = _Break(n=n, finding=finding, may_be_edited=may_be_edited)

    def order(self, n: int, at: tuple[str, int], *, day: str, opens_file: bool) -> None:
        """Line *n* is the next one in the writer's own files."""
        expected = self.ordered + 1
        known = self._break
        if known is not None and known.may_be_edited == n == known.n + 1:
            place = (known.finding.file or "", known.finding.line or 0)
            self._break = None
            self.broken(known.n, "edited", f"its number was edited: it should be {known.n:,}", at=place)
        elif n < expected and self.stretches.has(n):
            return  # it is there twice, which is told by who adds it
        elif n > expected and self.ordered:
            is_file = opens_file and _days_apart(self._day, day) > 1
            what: What = "file_missing" if is_file else "removed_or_moved"
            detail = f"{are_missing(expected, n - 1)} before it"
            self.broken(expected, what, detail, at=at, may_be_edited=expected + 1)
        elif n < expected:
            self.broken(n, "removed_or_moved", f"line {n:,} stands behind line {self.ordered:,}", at=at)
        self.ordered, self._day = n, day

    def compare(self, n: int, head: bytes) -> None:
        """Line *n*, whose head is known."""
        if self.heads[n] != head:
            detail = f"rewritten: line {n:,} has another seal than the one that is known of it"
            self.broken(n, "rewritten", detail)

    def join(self, stretch: Stretch) -> None:
        """Make one of the stretches that now meet."""
        while (after := self.stretches.after(stretch)) is not None:
            if next_head(stretch.head, after.first) != after.first_head:
                self.broken(after.start, "edited", SEAL_IS_WRONG, at=(after.file, after.line))
            self.stretches.join(stretch, after)

    # What only the end shows.

    def close(self, *, begins_later: bool, since: datetime | None, until: datetime | None) -> None:
        """All has been read. Anchors that are younger than *until* are not looked at."""
        anchors = [each for each in self._anchors if each.is_by(until)]
        stretches = self.stretches.all
        if stretches and stretches[0].start > 1:
            self._begin(stretches[0], anchors, begins_later=begins_later, since=since)
        for before, after in pairwise(stretches):
            detail = f"{are_missing(before.n + 1, after.start - 1)} before it"
            self.broken(before.n + 1, "removed_or_moved", detail, at=(after.file, after.line))
        last = self.last
        if any(each.number > last and not each.removed for each in anchors):
            self._cut_off(last, anchors[-1].number)
        for each in anchors:
            if each.ended and last > each.number:
                detail = (
                    f"rewritten: it ended at line {each.number:,}, as is known, and {last:,} lines are here"
                )
                self.broken(each.number + 1, "rewritten", detail)

    def _begin(
        self, first: Stretch, anchors: Sequence[Anchor], *, begins_later: bool, since: datetime | None
    ) -> None:
        """The log begins in the middle."""
        at = first.file, first.line
        earlier = [each for each in anchors if each.number < first.start]
        is_allowed = begins_later or (bool(earlier) and all(each.removed for each in earlier))
        if since is not None and any(_is_of(each, since) for each in earlier):
            is_allowed = False
        known = next((each.head for each in earlier if each.number == first.start - 1), None)
        previous = first.previous or known
        if not is_allowed:
            detail = f"{are_missing(1, first.start - 1)}: it begins at line {first.start:,}"
            self.broken(1, "file_missing" if first.opens_file else "removed_or_moved", detail, at=at)
        elif previous is None:
            detail = f"it begins at line {first.start:,}, which does not say what stood before it"
            self.broken(1, "removed_or_moved", detail, at=at)
        elif next_head(previous, first.first) != first.first_head:
            detail = "its seal does not fit the one that it tells as the seal before it"
            self.broken(first.start, "edited", detail, at=at)
        elif known is not None and known != previous:
            detail = f"rewritten: line {first.start - 1:,} had another seal than line {first.start:,} tells"
            self.broken(first.start, "rewritten", detail)

    def _cut_off(self, last: int, known: int) -> None:
        if self.torn is None:
            missing = known - last
            detail = f"cut off: {missing:,} line{'' if missing == 1 else 's'} or more after line {last:,}"
            self.broken(last + 1, "cut_off", detail)
        else:
            detail = f"torn: line {known:,} is known, and the last whole line is {last:,}"
            self.broken(last + 1, "torn", detail, at=self.torn)


def are_missing(first: int, last: int) -> str:
    return f"line {first:,} is missing" if first == last else f"lines {first:,} to {last:,} are missing"


def _is_of(anchor: Anchor, since: datetime) -> bool:
    """Whether its line was written since then."""
    return anchor.at is not None and not anchor.removed and anchor.at >= since + _ANCHORED_WITHIN


def _days_apart(before: str, after: str) -> int:
    """0 where a file is in no folder of a day."""
    return (date.fromisoformat(after) - date.fromisoformat(before)).days if before and after else 0
