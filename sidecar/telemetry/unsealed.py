"""What waits to be sealed: lines, and those who wait for them, in order, from any thread."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from sidecar.telemetry.waiters import Waiter

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_LINES = 20_000
_MOST_BYTES = 32 * 1024 * 1024


class Unsealed:
    """*size* is in bytes. With several threads it is not exact: it is for bounds, and `set_right` helps."""

    def __init__(self) -> None:
        self.size = 0
        self._items: deque[bytes | Waiter] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def is_too_much(self) -> bool:
        return len(self._items) > _MOST_LINES or self.size > _MOST_BYTES

    def add_all(self, lines: Sequence[bytes]) -> None:
        self._items.extend(lines)
        self.size += sum(map(len, lines))

    def add_first(self, line: bytes) -> None:
        self._items.appendleft(line)

    def add_waiter(self, waiter: Waiter) -> None:
        self._items.append(waiter)

    def take(self) -> bytes | Waiter | None:
        """The oldest; None if there is none."""
        try:
            item = self._items.popleft()
        except IndexError:  # another thread has dropped it meanwhile
            return None
        if not isinstance(item, Waiter):
            self.size -= len(item)
        return item

    def take_up_to(self, size: int) -> tuple[list[bytes], list[Waiter]]:
        """The oldest lines until they have that *size* together, and who waits for them or before them."""
        lines: list[bytes] = []
        waiters: list[Waiter] = []
        items, taken = self._items, 0
        with suppress(IndexError):  # there are no more
            while taken < size:
                item = items.popleft()
                if isinstance(item, Waiter):
                    waiters.append(item)
                else:
                    lines.append(item)
                    taken += len(item)
        self.size -= taken
        return lines, waiters

    def set_right(self) -> None:
        """Now and then: an error of the size must not grow."""
        if not self._items:
            self.size = 0

    def drop_oldest(self) -> int:
        """Until there is no more than may wait; how many lines it was. Who waits for them is told."""
        dropped = 0
        while self.is_too_much and (item := self.take()) is not None:
            dropped += _is_dropped(item)
        return dropped

    def drop_all(self) -> int:
        dropped = 0
        while (item := self.take()) is not None:
            dropped += _is_dropped(item)
        return dropped


def _is_dropped(item: bytes | Waiter) -> bool:
    if isinstance(item, Waiter):
        item.tell(written=False)
        return False
    return True
