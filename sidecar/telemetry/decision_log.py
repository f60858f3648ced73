"""The decision log: one JSON line per question on standard output, after the answer.

Lines are handed over by the thread that answers and written by another, so that a slow or closed output
costs no caller anything. What cannot be written is counted and dropped.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Event, Thread
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STDOUT = 1
_MOST_WAITING = 20_000  # lines; beyond that the oldest are dropped
_GATHERING_S = 0.02  # how long the writer lets lines come together, to write many at once
# Up to this size a pipe takes a write as one: lines of several workers do not mix.
_PIPE_BUF = 4_096


class DecisionLog:
    def __init__(self, *, output: int = STDOUT, on_drop: Callable[[int], None] = lambda _: None) -> None:
        self._output = output
        self._on_drop = on_drop
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._some = Event()
        self._stopping = False
        self._writer: Thread | None = None

    def start(self) -> None:
        """Called in the worker, after the fork: a thread does not survive one."""
        self._writer = Thread(target=self._write_on, name="decision-log", daemon=True)
        self._writer.start()

    def stop(self) -> None:
        """Write what is waiting and end."""
        self._stopping = True
        self._some.set()
        if self._writer is not None:
            self._writer.join(timeout=2)

    def note(self, line: bytes) -> None:
        if len(self._waiting) == _MOST_WAITING:
            self._on_drop(1)
        self._waiting.append(line)
        if not self._some.is_set():
            self._some.set()

    def _write_on(self) -> None:
        while not self._stopping:
            self._some.wait()
            if not self._stopping:
                sleep(_GATHERING_S)
            self._some.clear()
            self._write_waiting()

    def _write_waiting(self) -> None:
        block = bytearray()
        while self._waiting:
            line = self._waiting.popleft() + b"\n"
            if block and len(block) + len(line) > _PIPE_BUF:
                self._write(block)
                block = bytearray()
            block += line
        self._write(block)

    def _write(self, block: bytearray) -> None:
        rest = memoryview(bytes(block))
        while rest:
            try:
                rest = rest[os.write(self._output, rest) :]
            except OSError:  # closed, full, or not ours any more: an answer is worth more than its line
                self._on_drop(bytes(rest).count(b"\n"))
                return
