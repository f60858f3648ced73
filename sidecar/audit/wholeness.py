"""Whether a decision log is whole: every seal fits, no number is missing, every known head is where it was.

Lines may come in any order, as a collector merges them. Those that follow each other are one stretch, so what
is kept of a writer is one number and one seal, however long its log is. In a file of a log folder, which one
writer has written, the order must be that of the numbers.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from sidecar.audit.chain import first_head, head_in, next_head
from sidecar.audit.findings import Finding
from sidecar.audit.stretches import Stretch
from sidecar.audit.written import SEAL_IS_WRONG, Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sidecar.audit.findings import Anchor

_DIGITS = 43
_SEAL, _END = b',"h":"', b'"}'
_SEAL_BYTES = len(_SEAL) + _DIGITS + len(_END)
_DIGITS_FROM, _DIGITS_TO = -_DIGITS - len(_END), -len(_END)
_MOST_TOLD = 20  # lines that are none, of each file
_AMONG_SEALED = "it has no seal, in a file in which every line has one"


class Sealed(Protocol):
    """The fields of a line that its seal needs."""

    kind: str
    writer: str
    n: int
    previous: str


class Wholeness:
    """Call `enter`, then `add`, `unsealed` or `not_a_line` for each line, then `leave`; at last `findings`.

    *anchors* are of each writer, by number. *begins_later*: a log may begin in the middle, at a new day.
    """

    def __init__(
        self, anchors: Mapping[str, Sequence[Anchor]] | None = None, *, begins_later: bool = False
    ) -> None:
        self.unsealed_lines = 0
        self._anchors = anchors or {}
        self._begins_later = begins_later
        self._written: dict[str, Written] = {}
        self._of_nobody: list[Finding] = []
        self.enter("", stem="")

    @property
    def writers(self) -> list[str]:
        return sorted(self._written)

    def heads(self) -> dict[str, tuple[int, bytes]]:
        """The last number and seal of each writer."""
        ends = {name: written.stretches.last for name, written in sorted(self._written.items())}
        return {name: (end.n, end.head) for name, end in ends.items() if end is not None}

    def enter(self, file: str, *, stem: str, day: str = "") -> None:
        """What comes now is of *file*; *stem* is its name without endings, *day* that of its folder."""
        self._file, self._stem, self._day = file, stem, day
        self._own: Written | None = None  # whose file it is
        self._is_new = True  # no sealed line so far
        self._unsealed_at = self._told = 0
        self._of: Written | None = None
        self._at: Stretch | None = None  # where lines are being added
        self._name = ""

    def add(self, number: int, line: bytes, sealed: Sealed) -> None:
        """A line of version 1, without its newline; *number* is its place in the file."""
        at, of, n = self._at, self._of, sealed.n
        if at is not None and of is not None and n == at.n + 1 and sealed.writer == self._name:
            head = sha256(at.head + line[:-_SEAL_BYTES]).digest()
            if line.endswith(b'%b%b"}' % (_SEAL, urlsafe_b64encode(head)[:_DIGITS])):
                at.n = n
                at.head = head
                if n in of.heads:
                    of.compare(n, head)
                if len(of.stretches) > 1:
                    of.join(at)
                if self._own is not None:
                    of.ordered = n
                return
        self._add_apart(number, line, sealed)

    def unsealed(self, number: int) -> None:
        """A line without a seal: what older releases wrote, but never in a file that one writer has."""
        self.unsealed_lines += 1
        if self._own is not None:
            self.not_a_line(number, _AMONG_SEALED)
        elif self._is_new:
            self._unsealed_at = self._unsealed_at or number

    def not_a_line(self, number: int, why: str) -> None:
        if self._own is not None:
            self._own.broken(self._own.ordered + 1, "not_a_line", why, at=(self._file, number))
            return
        self._told += 1
        if self._told <= _MOST_TOLD:
            finding = Finding(writer=None, file=self._file, line=number, what="not_a_line", detail=why)
            self._of_nobody.append(finding)

    def leave(self, *, lines: int, torn: bool, damage: str | None) -> str | None:
        """The file ends after *lines* lines. Whose line may be torn: None if that is not known."""
        end = self._file, lines + 1
        if self._told > _MOST_TOLD:
            why = f"{self._told - _MOST_TOLD:,} more of this file are no lines of a decision log"
            self._of_nobody.append(
                Finding(writer=None, file=self._file, line=lines, what="not_a_line", detail=why)
            )
        if damage is not None and self._own is not None:
            self._own.broken(self._own.ordered + 1, "cut_off", damage, at=end)
        elif damage is not None:
            self._of_nobody.append(
                Finding(writer=None, file=self._file, line=lines + 1, what="cut_off", detail=damage)
            )
        whose = self._own or self._of
        if torn and whose is not None:
            whose.torn = end
        return whose.name if whose else None

    def findings(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        active: frozenset[str] | None = None,
    ) -> list[Finding]:
        """The first break of each writer, and what belongs to none. Asked once, at the end.

        *active* are the writers that must have lines if they have anchors; None: all. Anchors younger than
        *until* are not looked at; those of lines before the first that is here are from *since* on.
        """
        for written in self._written.values():
            written.close(begins_later=self._begins_later, since=since, until=until)
        found = [each.finding for _, each in sorted(self._written.items()) if each.finding is not None]
        for name in sorted(self._anchors.keys() - self._written.keys()):
            known = [each for each in self._anchors[name] if not each.removed and each.is_by(until)]
            if known and (active is None or name in active):
                detail = f"whole file missing: its line {known[-1].number:,} is known, and none is here"
                found.append(Finding(writer=name, what="file_missing", detail=detail))
        return found + self._of_nobody

    # A line that does not simply follow the one before it.

    def _add_apart(self, number: int, line: bytes, sealed: Sealed) -> None:
        at, n = (self._file, number), sealed.n
        written = self._turn_to(sealed.writer)
        seal = head_in(line[_DIGITS_FROM:_DIGITS_TO].decode(errors="replace"))
        is_sealed = line[-_SEAL_BYTES:_DIGITS_FROM] == _SEAL and line.endswith(_END)
        if n < 1 or seal is None or not is_sealed:
            why = "its number is that of no line" if n < 1 else "it does not end in a seal"
            written.broken(max(n, 1), "edited", why, at=at)
            return
        opens_file = number == 1 and sealed.kind == "day"
        if self._own is written:
            written.order(n, at, day=self._day, opens_file=opens_file)
        elif self._own is not None:
            why = f"a line of {written.name} stands in the file of {self._own.name}"
            self._own.broken(self._own.ordered + 1, "removed_or_moved", why, at=at)
        body = line[:-_SEAL_BYTES]
        before = written.stretches.before(n)
        if before is not None and n <= before.n:
            written.broken(n, "removed_or_moved", f"line {n:,} is there twice", at=at)
            return
        if before is not None and n == before.n + 1:
            if next_head(before.head, body) != seal:
                written.broken(n, "edited", SEAL_IS_WRONG, at=at)
            before.n, before.head = n, seal
            self._at = before
        else:
            if n == 1 and next_head(first_head(written.name), body) != seal:
                written.broken(n, "edited", "its seal does not fit: it was edited", at=at)
            previous = head_in(sealed.previous) if sealed.kind == "day" else None
            self._at = Stretch(
                start=n,
                n=n,
                head=seal,
                file=self._file,
                line=number,
                first=body,
                first_head=seal,
                previous=previous,
                opens_file=opens_file,
            )
            written.stretches.add(self._at)
        if n in written.heads:
            written.compare(n, seal)
        written.join(self._at)

    def _turn_to(self, name: str) -> Written:
        """The writer of this line; the first one's may be the writer of the file."""
        written = self._written.get(name)
        if written is None:
            written = self._written[name] = Written(name, self._anchors.get(name, ()))
        if self._is_new:
            self._is_new = False
            if name == self._stem:
                self._own = written
                self._claim()
        self._of, self._name, self._at = written, name, None
        return written

    def _claim(self) -> None:
        """What stood in the file before its first sealed line is its writer's."""
        if self._unsealed_at:
            self.not_a_line(self._unsealed_at, _AMONG_SEALED)
        told = min(self._told, _MOST_TOLD)
        for each in self._of_nobody[len(self._of_nobody) - told :]:
            self.not_a_line(each.line or 0, each.detail)
        del self._of_nobody[len(self._of_nobody) - told :]
        self._told = 0
