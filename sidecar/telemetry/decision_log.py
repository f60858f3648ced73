"""The decision log: one JSON line per question on standard output, after the answer.

Lines are handed over by the thread that answers and written by another, so that a slow or closed output
costs no caller anything. What cannot be written is counted and dropped.
"""

from __future__ import annotations

from threading import Event, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from sidecar.telemetry.output import Output
from sidecar.telemetry.waiting import taken_from

if TYPE_CHECKING:
    from collections.abc import Callable

STDOUT = 1
# As much waits, and the writer has as much again in hand. What is noted beyond that is dropped.
_MOST_LINES = 20_000
_MOST_BYTES = 8 * 1024 * 1024
_GATHERING_S = 0.02  # how long the writer lets lines come together: it rarely takes the interpreter
_STOPPED_WITHIN_S = 2.0
_LAST_WAIT_S = 1.8  # for a slow reader; what is left then is dropped


class DecisionLog:
    def __init__(self, *, output: int = STDOUT, on_drop: Callable[[int], None] = lambda _: None) -> None:
        """*on_drop* is called with a number of lines, on any thread."""
        self._descriptor = output
        self._on_drop = on_drop
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._most_lines = _MOST_LINES
        self._idle = False
        self._wake = Event()
        self._stopping = False
        self._given_up = False
        self._running: tuple[Thread, Output] | None = None

    def start(self) -> None:
        """Called in the worker, after the fork: a thread does not survive one."""
        output = Output(self._descriptor)
        writer = Thread(target=self._write_on, args=(output,), name="decision-log", daemon=True)
        self._running = writer, output
        writer.start()

    def stop(self) -> None:
        """Write what waits and end, within 2 s; what is not written by then or comes later is dropped."""
        self._most_lines = 0
        if self._running is not None:
            writer, output = self._running
            output.ends_at = monotonic() + _LAST_WAIT_S
            self._stopping = True
            self._wake.set()
            writer.join(timeout=_STOPPED_WITHIN_S)
            self._given_up = writer.is_alive()
            if self._given_up:  # a disk or a terminal holds it up
                self._dropped(output.unwritten)
            else:
                output.close()
            self._running = None
        self._dropped(len(taken_from(self._waiting)))

    def note(self, line: bytes) -> None:
        """*line* has no newline, neither in it nor at its end."""
        waiting = self._waiting
        if len(waiting) < self._most_lines and self._waiting_bytes < _MOST_BYTES:
            waiting.append(line)
            # Not exact with several threads; the writer sets it to 0 again, and it is only for a bound.
            self._waiting_bytes += len(line)
        else:
            self._on_drop(1)
        if self._idle:
            self._idle = False
            self._wake.set()

    def _write_on(self, output: Output) -> None:
        while self._waiting or not self._stopping:
            self._idle = True  # before it looks: who adds a line afterwards wakes it
            if not self._waiting and not self._stopping:
                self._wake.wait()
            self._idle = False
            self._wake.clear()
            if not self._stopping:
                sleep(_GATHERING_S)
            lines = taken_from(self._waiting)
            self._waiting_bytes = 0
            if lines:
                dropped = output.write(b"\n".join([*lines, b""]))
                if not self._given_up:
                    self._dropped(dropped)

    def _dropped(self, lines: int) -> None:
        if lines:
            self._on_drop(lines)
