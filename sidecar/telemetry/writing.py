"""The thread that writes a decision log: it only writes and syncs, and seals nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.telemetry.waiters import Waiter

_RETRY_S = 0.1


class Sink(Protocol):
    """Where the lines go. Only one thread calls it at a time.

    *longest* is the most bytes that a line may have, its newline included; None: any number. From *ends_at*
    on, by the monotonic clock, nothing waits for a reader.
    """

    longest: int | None
    ends_at: float

    def write(self, block: bytes, day: str) -> int:
        """How many bytes of *block* were written: all, unless something failed."""
        ...

    def write_last(self, block: bytes, day: str) -> int:
        """As `write`, when no more will come."""
        ...

    def sync(self) -> None:
        """OSError if what was written is not on the disk."""
        ...

    def take_back(self, size: int) -> bool:
        """Whether the last *size* bytes, the begin of a line, are gone again."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Block:
    """Sealed lines of one *day* that are written together; *n* and *head* are the last one's.

    *before* are the number and the seal before them. *waiters* are told once they are written, or that they
    could not be.
    """

    text: bytes
    day: str
    n: int
    head: bytes
    before: tuple[int, bytes]
    waiters: list[Waiter] = field(default_factory=list)
    done: int = 0  # bytes of *text*


class Writing:
    """One block at a time. What fails is tried again, from the byte on at which it failed."""

    def __init__(
        self, sink: Sink, *, syncs: bool, finished: Callable[[Block], None], failed: Callable[[], None]
    ) -> None:
        """On the thread *finished* is called with a block that is written, *failed* after each failure."""
        self.sink = sink
        self.is_free = Event()
        self.is_free.set()
        self._syncs = syncs
        self._finished = finished
        self._failed = failed
        self._blocks: SimpleQueue[Block | None] = SimpleQueue()
        self._ending = Event()
        self._thread = Thread(target=self._write_on, name="decision-log", daemon=True)
        self._thread.start()

    def write(self, block: Block) -> None:
        """While it `is_free`."""
        self.is_free.clear()
        self._blocks.put(block)

    def end_by(self, ends_at: float) -> None:
        """From now on nothing is tried again, and from *ends_at* on nothing waits for a reader."""
        self.sink.ends_at = ends_at
        self._ending.set()

    def end(self) -> None:
        """Once it `is_free`: the caller's own thread may use the sink afterwards."""
        self._blocks.put(None)
        self._thread.join()

    def _write_on(self) -> None:
        while (block := self._blocks.get()) is not None:
            is_written = self._is_written(block)
            self.is_free.set()  # first: who is told may have the next one
            if is_written:
                self._finished(block)

    def _is_written(self, block: Block) -> bool:
        while True:
            written = self.sink.write(block.text[block.done :] if block.done else block.text, block.day)
            block.done += written
            if block.done == len(block.text) and self._is_synced():
                return True
            if written and block.done < len(block.text):
                continue
            self._failed()
            if self._ending.is_set() or self._ending.wait(_RETRY_S):
                return False

    def _is_synced(self) -> bool:
        if self._syncs:
            try:
                self.sink.sync()
            except OSError:
                return False
        return True
