"""Whether a decision log is whole: every seal fits, no number is missing, and every known head is where it was.

Lines may come in any order, as a collector merges them: those that follow each other become stretches, which
are joined where they meet. So what is kept of a writer is one number and one seal, however long its log is.
In a file of a log folder, which one writer has written, the order must be that of the numbers.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, Protocol

from sidecar.audit.chain import first_head, head_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

What = Literal[
    "edited", "removed_or_moved", "cut_off", "rewritten", "file_missing", "not_a_line", "torn"
]
SEAL_BYTES = 52  # ,"h":"…"} at the end of a line
_SEAL, _END, _DIGITS = b',"h":"', b'"}', 43
_MOST_TOLD = 20  # of lines that belong to no writer, of each file


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """*writer* is None where a line says none; *file* and *line* are None of what is not there."""

    writer: str | None
    file: str | None
    line: int | None
    what: What
    detail: str

    @property
    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("writer", "file", "line", "what", "detail")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A head that is known from elsewhere; *at* is None where that does not tell when."""

    number: int
    head: bytes
    at: datetime | None = None
    ended: bool = False
    removed: bool = False


class Sealed(Protocol):
    """The fields of a line that its seal needs."""

    kind: str
    writer: str
    n: int
    previous: str


@dataclass(slots=True)
class _Stretch:
    """Lines from *start* to *n*, each sealed over the one before; *head* is the last one's seal.

    *first* is the first line without its seal, *first_head* its seal: they are compared with what comes before.
    """

    start: int
    n: int
    head: bytes
    file: str
    line: int
    first: bytes = b""
    first_head: bytes = b""
    previous: bytes | None = None  # the seal before, as the first line itself says
    opens_file: bool = False


@dataclass(slots=True)
class _Broken:
    n: int
    finding: Finding
    may_be_edited: int = 0  # it is an edited number if this number comes next


@dataclass(slots=True)
class _Writer:
    stretches: list[_Stretch] = field(default_factory=list)
    broken: _Broken | None = None
    heads: Mapping[int, bytes] = field(default_factory=dict)
    torn: tuple[str, int] | None = None
    ordered: int = 0  # the number of the last line in the writer's own files

    @property
    def last(self) -> int:
        return max((each.n for each in self.stretches), default=0)


class Wholeness:
    """Give it each file by `enter`, its lines by `add`, `unsealed` or `not_a_line`, and then ask `findings`.

    *anchors* are by writer, by number. *begins_later*: a log may begin in the middle, at a new day.
    """

    def __init__(
        self, anchors: Mapping[str, Sequence[Anchor]] | None = None, *, begins_later: bool = False
    ) -> None:
        self._anchors = anchors or {}
        self._begins_later = begins_later
        self._writers: dict[str, _Writer] = {}
        self._loose: list[Finding] = []
        self._told = 0
        self._file, self._stem = "", ""
        self._own: str | None = None  # whose file this is
        self._at: _Stretch | None = None  # where lines are being added
        self._of: _Writer | None = None
        self._name = ""
        self._starts = True
        self.unsealed_lines = 0

    @property
    def writers(self) -> list[str]:
        return sorted(self._writers)

    def last_of(self, writer: str) -> int:
        return self._writers[writer].last

    def heads(self) -> dict[str, tuple[int, bytes]]:
        """The last number and seal of each writer."""
        return {
            name: (end.n, end.head)
            for name, writer in sorted(self._writers.items())
            if (end := max(writer.stretches, key=lambda each: each.n, default=None))
        }

    def enter(self, file: str, *, stem: str) -> None:
        """The lines that come now are of *file*; *stem* is its name without endings."""
        self._file, self._stem = file, stem
        self._own, self._starts, self._told = None, True, 0
        self._at, self._name = None, ""

    def add(self, number: int, line: bytes, sealed: Sealed) -> None:
        """A line of version 1; *number* is its place in the file."""
        n = sealed.n
        at = self._at
        text = line[-45:-2]
        if at is not None and sealed.writer == self._name and n == at.n + 1 and self._of is not None:
            head = sha256(at.head + line[:-SEAL_BYTES]).digest()
            if urlsafe_b64encode(head)[:_DIGITS] == text and line[-SEAL_BYTES:-45] == _SEAL and line[-2:] == _END:
                at.n = n
                at.head = head
                of = self._of
                if n in of.heads:
                    self._compare(of, n, head)
                if len(of.stretches) > 1:
                    self._join(of, at)
                if self._own is not None:
                    of.ordered = n
                return
        self._add_apart(number, line, sealed)

    def unsealed(self, number: int, what: str) -> None:
        """A line without a seal: what older releases have written, but never what stands in a writer's own file."""
        self.unsealed_lines += 1
        if self._own is not None:
            self.not_a_line(number, f"{what}, in a file in which every line is sealed")

    def not_a_line(self, number: int, why: str) -> None:
        finding = Finding(writer=self._own, file=self._file, line=number, what="not_a_line", detail=why)
        if self._own is not None:
            writer = self._writers[self._own]
            self._break(writer, writer.ordered + 1, finding)
            return
        self._told += 1
        if self._told <= _MOST_TOLD:
            self._loose.append(finding)
        self._starts = False

    def leave(self, *, lines: int, torn: bool, damage: str | None) -> str | None:
        """The file ends, after *lines* lines. Whose torn line it ends with, if it is known."""
        if self._told > _MOST_TOLD:
            more = f"{self._told - _MOST_TOLD:,} more lines of this file are no lines of a decision log"
            self._loose.append(
                Finding(writer=None, file=self._file, line=lines, what="not_a_line", detail=more)
            )
        whose = self._own or (self._name or None)
        if damage is not None:
            finding = Finding(
                writer=self._own, file=self._file, line=lines + 1, what="cut_off", detail=damage
            )
            if self._own is None:
                self._loose.append(finding)
            else:
                self._break(self._writers[self._own], self._writers[self._own].ordered + 1, finding)
        if torn and whose is not None:
            self._writers[whose].torn = self._file, lines + 1
        return whose

    def findings(self, *, until: datetime | None = None, active: frozenset[str] | None = None) -> list[Finding]:
        """The first break of each writer, and what belongs to none. Call it once, at the end.

        *active*: the writers whose anchors are looked at even if they have no line; None: all. Anchors that are
        younger than *until* are not.
        """
        for name, anchors in self._anchors.items():
            if name not in self._writers and (active is None or name in active):
                known = [each for each in anchors if not each.removed and _is_by(each, until)]
                if known:
                    lines = f"{known[-1].number:,} lines" if known[-1].number > 1 else "1 line"
                    self._loose.append(
                        Finding(
                            writer=name,
                            file=None,
                            line=None,
                            what="file_missing",
                            detail=f"whole file missing: its head at line {known[-1].number:,} is known, and"
                            f" none of its {lines} is here",
                        )
                    )
        for name, writer in self._writers.items():
            self._close(name, writer, [each for each in self._anchors.get(name, ()) if _is_by(each, until)])
        broken = [
            found.broken.finding for _, found in sorted(self._writers.items()) if found.broken is not None
        ]
        return broken + self._loose

    # Lines that do not simply follow.

    def _add_apart(self, number: int, line: bytes, sealed: Sealed) -> None:
        name, n = sealed.writer, sealed.n
        writer = self._writers.get(name)
        if writer is None:
            heads = {each.number: each.head for each in self._anchors.get(name, ())}
            writer = self._writers[name] = _Writer(heads=heads)
        if self._starts:
            self._starts = False
            self._own = name if name == self._stem else None
        self._of, self._name, self._at = writer, name, None
        seal = head_in(line[-45:-2].decode(errors="replace"))
        if n < 1 or seal is None or line[-SEAL_BYTES:-45] != _SEAL or line[-2:] != _END:
            detail = "its number is no number of a line" if n < 1 else "it does not end in a seal"
            self._break(writer, max(n, 1), self._finding(name, number, "edited", detail))
            if seal is None or n < 1:
                return
        self._order(writer, name, n, number)
        body = line[:-SEAL_BYTES]
        before = next((each for each in writer.stretches if each.start <= n <= each.n + 1), None)
        if before is not None and n <= before.n:
            self._break(writer, n, self._finding(name, number, "removed_or_moved", f"line {n:,} is there twice"))
            if self._own is None:
                return
            self._at = before if n == before.n else None
            return
        if before is not None:
            if sha256(before.head + body).digest() != seal:
                detail = "its seal does not fit: it was edited, or the seal of the line before it was"
                self._break(writer, n, self._finding(name, number, "edited", detail))
            at = before
            at.n, at.head = n, seal
        else:
            at = _Stretch(
                start=n,
                n=n,
                head=seal,
                file=self._file,
                line=number,
                first=body,
                first_head=seal,
                previous=head_in(sealed.previous) if sealed.kind == "day" else None,
                opens_file=number == 1 and sealed.kind == "day",
            )
            writer.stretches.append(at)
            if n == 1 and sha256(first_head(name) + body).digest() != seal:
                self._break(writer, 1, self._finding(name, number, "edited", "its seal does not fit: it was edited"))
        if n in writer.heads:
            self._compare(writer, n, seal)
        self._join(writer, at)
        self._at = at

    def _order(self, writer: _Writer, name: str, n: int, number: int) -> None:
        """In a writer's own file one line follows the other."""
        if self._own is None:
            return
        if name != self._own:
            own = self._writers[self._own]
            detail = f"a line of {name} stands in the file of {self._own}"
            self._break(own, own.ordered + 1, self._finding(self._own, number, "removed_or_moved", detail))
            return
        expected = writer.ordered + 1
        broken = writer.broken
        if broken is not None and broken.may_be_edited == n and broken.n == n - 1:
            said = broken.finding
            detail = f"its number was edited: it should be {n - 1:,}"
            writer.broken = _Broken(
                n - 1, Finding(writer=name, file=said.file, line=said.line, what="edited", detail=detail)
            )
        elif n < expected and any(each.start <= n <= each.n for each in writer.stretches):
            return  # it is there twice
        elif n != expected and (writer.ordered or n < expected):
            what = "is" if abs(n - expected) == 1 else f"to {n - 1:,} are"
            detail = (
                f"line {expected:,} {what} missing here"
                if n > expected
                else f"line {n:,} stands behind line {writer.ordered:,}"
            )
            finding = self._finding(name, number, "removed_or_moved", detail)
            self._break(writer, min(n, expected), finding, may_be_edited=expected + 1)
        writer.ordered = n

    def _join(self, writer: _Writer, at: _Stretch) -> None:
        """The stretches that now meet become one."""
        while len(writer.stretches) > 1:
            after = next((each for each in writer.stretches if each.start == at.n + 1), None)
            if after is None or after is at:
                return
            if sha256(at.head + after.first).digest() != after.first_head:
                detail = "its seal does not fit: it was edited, or the seal of the line before it was"
                self._break(
                    writer,
                    after.start,
                    Finding(writer=self._name, file=after.file, line=after.line, what="edited", detail=detail),
                )
            at.n, at.head = after.n, after.head
            writer.stretches.remove(after)

    def _compare(self, writer: _Writer, n: int, head: bytes) -> None:
        if writer.heads[n] != head:
            detail = f"rewritten: line {n:,} has another seal than the one that is known of it"
            self._break(
                writer, n, Finding(writer=self._name, file=None, line=None, what="rewritten", detail=detail)
            )

    def _finding(self, writer: str, number: int, what: What, detail: str) -> Finding:
        return Finding(writer=writer, file=self._file, line=number, what=what, detail=detail)

    def _break(self, writer: _Writer, n: int, finding: Finding, *, may_be_edited: int = 0) -> None:
        """Only the first is told: what comes after it may be its consequence."""
        if writer.broken is None or n < writer.broken.n:
            writer.broken = _Broken(n, finding, may_be_edited)

    # What only the end shows.

    def _close(self, name: str, writer: _Writer, anchors: Sequence[Anchor]) -> None:
        self._name = name
        stretches = sorted(writer.stretches, key=lambda each: each.start)
        if stretches and stretches[0].start > 1:
            self._begin(name, writer, stretches[0], anchors)
        for before, after in zip(stretches, stretches[1:], strict=False):
            missing = _lines(before.n + 1, after.start - 1)
            self._break(
                writer,
                before.n + 1,
                Finding(
                    writer=name,
                    file=after.file,
                    line=after.line,
                    what="removed_or_moved",
                    detail=f"{missing} missing before it",
                ),
            )
        last = writer.last
        for anchor in anchors:
            if anchor.number > last and not anchor.removed:
                self._cut_off(name, writer, anchors[-1].number, last)
                break
            if anchor.ended and last > anchor.number:
                detail = f"rewritten: it ended at line {anchor.number:,}, as is known, and {last:,} lines are here"
                self._break(
                    writer,
                    anchor.number + 1,
                    Finding(writer=name, file=None, line=None, what="rewritten", detail=detail),
                )

    def _begin(self, name: str, writer: _Writer, first: _Stretch, anchors: Sequence[Anchor]) -> None:
        """The log of a writer begins in the middle."""
        earlier = [each for each in anchors if each.number < first.start]
        is_allowed = self._begins_later or (bool(earlier) and all(each.removed for each in earlier))
        known = next((each.head for each in earlier if each.number == first.start - 1), None)
        previous = first.previous or known
        detail = ""
        if not is_allowed:
            detail = f"{_lines(1, first.start - 1)} missing: it begins at line {first.start:,}"
        elif previous is None:
            detail = f"it begins at line {first.start:,}, and nothing says what stood before it"
        elif sha256(previous + first.first).digest() != first.first_head:
            self._break(
                writer,
                first.start,
                Finding(
                    writer=name,
                    file=first.file,
                    line=first.line,
                    what="edited",
                    detail="its seal does not fit the one that it names as the seal before it",
                ),
            )
        elif known is not None and known != previous:
            self._break(
                writer,
                first.start,
                Finding(
                    writer=name,
                    file=None,
                    line=None,
                    what="rewritten",
                    detail=f"rewritten: line {first.start - 1:,} had another seal than line {first.start:,} says",
                ),
            )
        if detail:
            what: What = "file_missing" if first.opens_file and not is_allowed else "removed_or_moved"
            self._break(
                writer,
                1,
                Finding(writer=name, file=first.file, line=first.line, what=what, detail=detail),
            )

    def _cut_off(self, name: str, writer: _Writer, number: int, last: int) -> None:
        what: What = "cut_off"
        file = line = None
        missing = number - last
        detail = f"cut off: {missing:,} line{'s' if missing > 1 else ''} or more after line {last:,}"
        if writer.torn is not None:
            what, (file, line) = "torn", writer.torn
            detail = f"torn: the head at line {number:,} is known, and the last whole line is {last:,}"
        self._break(writer, last + 1, Finding(writer=name, file=file, line=line, what=what, detail=detail))


def _is_by(anchor: Anchor, until: datetime | None) -> bool:
    return until is None or anchor.at is None or anchor.at <= until


def _lines(first: int, last: int) -> str:
    return f"line {first:,} is" if first == last else f"lines {first:,} to {last:,} are"


