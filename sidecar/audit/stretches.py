"""Lines of one writer that came in any order: those that follow each other are one stretch."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Stretch:
    """Lines from *start* to *n*, each sealed over the one before; *head* is the last one's seal.

    *first* is the first line without its seal, *first_head* its seal: they are compared with what comes
    before. *previous* is the seal before as the first line itself tells it. *file* and *line* are where that
    stands; *opens_file*: it is the first of its file, and says that a new day begins.
    """

    start: int
    n: int
    head: bytes
    file: str
    line: int
    first: bytes
    first_head: bytes
    previous: bytes | None = None
    opens_file: bool = False


class Stretches:
    """By number. Mostly there is only one."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._by_start: dict[int, Stretch] = {}

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def all(self) -> list[Stretch]:
        return [self._by_start[start] for start in self._starts]

    @property
    def last(self) -> Stretch | None:
        return self._by_start[self._starts[-1]] if self._starts else None

    def before(self, n: int) -> Stretch | None:
        """The last one that starts at *n* or before."""
        at = bisect_right(self._starts, n)
        return self._by_start[self._starts[at - 1]] if at else None

    def has(self, n: int) -> bool:
        before = self.before(n)
        return before is not None and n <= before.n

    def add(self, stretch: Stretch) -> None:
        """One that meets no other."""
        self._starts.insert(bisect_right(self._starts, stretch.start), stretch.start)
        self._by_start[stretch.start] = stretch

    def after(self, stretch: Stretch) -> Stretch | None:
        """The one that *stretch* now ends at."""
        return self._by_start.get(stretch.n + 1)

    def join(self, stretch: Stretch, after: Stretch) -> None:
        """*stretch* goes on where *after* ends."""
        stretch.n, stretch.head = after.n, after.head
        del self._starts[bisect_right(self._starts, after.start) - 1]
        del self._by_start[after.start]
