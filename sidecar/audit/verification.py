"""Reading a whole decision log for its two verdicts: whole, and complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sidecar.audit.chain import head_in, shown
from sidecar.audit.completeness import Told
from sidecar.audit.findings import Anchor
from sidecar.audit.wholeness import Sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sidecar.audit.completeness import Completeness
    from sidecar.audit.wholeness import Wholeness

HEADS_BEGIN = "# heads of a policy-sidecar decision log: writer, number of its last line, its seal"
_HEAD = re.compile(r"(\S+)\s+([0-9]{1,18})\s+(\S+)")
_VERSION = 1


class Line(Sealed, Told, Protocol):
    v: int
    h: str


class File(Protocol):
    """As telemetry.log_files.LogFile."""

    @property
    def name(self) -> str: ...
    @property
    def stem(self) -> str: ...
    @property
    def day(self) -> str: ...
    @property
    def torn(self) -> bytes | None: ...
    @property
    def damage(self) -> str | None: ...
    @property
    def is_open(self) -> bool: ...

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    files: int
    lines: int


def read(
    files: Iterable[File],
    *,
    decode: Callable[[bytes], Line],
    longest: int,
    whole: Wholeness,
    complete: Completeness,
) -> Read:
    """Each line once, into *whole* and *complete*.

    *decode* raises ValueError or RecursionError for what is no line; longer than *longest* none is.
    """
    count = lines = 0
    for file in files:
        count += 1
        whole.enter(file.name, stem=file.stem, day=file.day)
        lines += (number := _read_file(file, decode, longest, whole, complete))
        whose = whole.leave(lines=number, torn=file.torn is not None, damage=file.damage)
        if whose is not None and file.torn is not None:
            complete.torn(whose)
        if whose is not None and file.is_open:
            complete.open(whose)
    return Read(files=count, lines=lines)


def _read_file(
    file: File, decode: Callable[[bytes], Line], longest: int, whole: Wholeness, complete: Completeness
) -> int:
    """How many lines it has."""
    name, number = file.name, 0
    add, tell = whole.add, complete.add
    for number, text in enumerate(file, 1):
        try:
            line = decode(text)
        except (ValueError, RecursionError) as error:
            whole.not_a_line(number, _why(text, error, longest))
            continue
        if line.v == _VERSION and line.writer:
            add(number, text, line)
            tell(name, number, text, line)
        elif line.v == 0 and not line.h:
            whole.unsealed(number)
        elif line.v not in {0, _VERSION}:
            whole.not_a_line(number, f"it is of version {line.v}, which this release does not know")
        else:
            whole.not_a_line(number, "it does not say whose line it is")
    return number


def heads_text(heads: Mapping[str, tuple[int, bytes]]) -> str:
    """For a ticket, a mail, or git; `heads_in` reads it."""
    return "\n".join(
        [HEADS_BEGIN, *(f"{writer} {n} {shown(head)}" for writer, (n, head) in sorted(heads.items()))]
    )


def heads_in(text: str) -> dict[str, list[Anchor]]:
    """ValueError for text that is not from `heads_text`; what a mail adds around it does no harm."""
    found: dict[str, list[Anchor]] = {}
    for line in text.splitlines():
        match = _HEAD.fullmatch(line.strip(" \t>"))
        head = head_in(match[3]) if match else None
        if match and head is not None:
            found.setdefault(match[1], []).append(Anchor(number=int(match[2]), head=head))
    if not found:
        raise ValueError("no line of it is a writer, a number and a seal")
    return found


def merged(*known: Mapping[str, Iterable[Anchor]]) -> dict[str, list[Anchor]]:
    """All anchors of each writer, by number."""
    writers = {writer for each in known for writer in each}
    return {
        writer: sorted((a for each in known for a in each.get(writer, ())), key=lambda a: a.number)
        for writer in sorted(writers)
    }


def _why(text: bytes, error: Exception, longest: int) -> str:
    if len(text) > longest:
        return f"it is longer than {longest:,} bytes"
    if text.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark"
    if b"\0" in text:
        return "it has a NUL"
    return f"it is no line of a decision log: {error}" if text.strip() else "it is empty"
