"""The decision log: one JSON line per question, sealed, in files or on standard output.

Whoever answers only hands a line over. The loop numbers and seals what waits, and a thread writes it. What is
sealed is written or tried again; only what is not sealed yet is ever dropped, and a line tells how much.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Literal

from sidecar.audit.chain import Chain, last_sealed, shown
from sidecar.telemetry.fitted import fitted
from sidecar.telemetry.own_lines import Missing, host_name, own_line, today, writer_name
from sidecar.telemetry.unsealed import Unsealed
from sidecar.telemetry.waiters import Waiter, wait_for
from sidecar.telemetry.writing import Block, Writing

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Mapping, Sequence

    from sidecar.telemetry.writing import Sink

Sync = Literal["no", "yes", "wait"]

_GATHERING_S = 0.02  # how long lines come together
_ENOUGH_BYTES = 64 * 1024  # for a block before that
_LARGEST_BLOCK = 256 * 1024  # a millisecond of sealing: the loop has others to serve
_LAST_WAIT_S = 1.8  # for a slow reader, when the log ends; what is left then is dropped
_HUNG_S = 0.2  # beyond that: the system itself does not come back


class DecisionLog:
    """*begins_with* is what the first line says; *on_drop* is called with how many, on any thread."""

    def __init__(
        self,
        sink_of: Callable[[str], Sink],
        *,
        begins_with: Mapping[str, object] | None = None,
        sync: Sync = "no",
        on_drop: Callable[[int], None] = lambda _: None,
    ) -> None:
        """*sink_of* makes the sink of a writer, when the log starts."""
        self.written: tuple[int, bytes] | None = None  # number and seal of the last line that is out
        self.waits = sync == "wait"
        self._sink_of = sink_of
        self._begins_with = begins_with or {}
        self._syncs = sync != "no"
        self._on_drop = on_drop
        self._unsealed = Unsealed()
        self._waiters: set[Waiter] = set()  # the loop's
        self._longest: int | None = None
        self._idle = self._hurried = self._stopping = False
        self._went_on_at = monotonic()
        self._lock = Lock()  # of sealing
        self._missing = Missing()
        self._day = ""
        self._turns_day = False
        self._last: Block | None = None
        self._writing: Writing | None = None

    @property
    def waiting_bytes(self) -> int:
        """How much is noted and not written yet."""
        last = self._last
        return self._unsealed.size + (0 if last is None else len(last.text) - last.done)

    @property
    def waiting_s(self) -> float:
        """For how long there has been something to write, and nothing was written whole."""
        return 0.0 if self._idle else max(0.0, monotonic() - self._went_on_at)

    def start(self, loop: AbstractEventLoop) -> None:
        """Called in the worker, after the fork: a thread does not survive one. *loop* seals while it runs."""
        self.writer = writer_name()
        self._chain = Chain(self.writer)
        self._loop = loop
        sink = self._sink_of(self.writer)
        if sink.longest is not None:
            self._longest = sink.longest - self._chain.longest_seal
        self._writing = Writing(sink, syncs=self._syncs, finished=self._finished, failed=self._failed)
        self._unsealed.add_first(own_line("begin", {"host": host_name(), **self._begins_with}))
        self._loop.call_soon_threadsafe(self._seal)

    def note(self, line: bytes) -> None:
        """*line* is a JSON object with a field, without its last brace and without a newline."""
        self.note_all([line])

    def note_all(self, lines: Sequence[bytes]) -> None:
        """As `note`, of several."""
        longest = self._longest
        if longest is not None:
            lines = [line if len(line) <= longest else fitted(line, longest) for line in lines]
        if self._stopping:
            self._drop(len(lines))
            return
        self._unsealed.add_all(lines)
        if self._idle:
            self._arm()
        elif self._unsealed.size > _ENOUGH_BYTES:
            if not self._hurried and self._writing is not None:
                self._hurried = True
                self._soon(self._seal)
            if self._unsealed.is_too_much:
                self._drop(self._unsealed.drop_oldest())

    def tell(self, kind: str, says: Mapping[str, object]) -> None:
        """A line of the log's own."""
        self.note(own_line(kind, says))

    def skip(self) -> None:
        """A granted check was left out: a line each second tells how many were."""
        self._missing.skip()
        if self._idle:
            self._arm()

    def ask_written(
        self, since: float, *, deadline: float, done: Callable[[None, Exception | None], None]
    ) -> None:
        """Call *done* once all lines that are noted until now are written, or with LogUnavailable.

        On the loop. *since* is when the first of them can have been noted, on the monotonic clock.
        """

        def told(_: None, error: Exception | None) -> None:
            self._waiters.discard(waiter)
            done(None, error)

        waiter = Waiter(self._loop, since, deadline=deadline, done=told)
        self._waiters.add(waiter)
        if self._stopping:
            waiter.tell(written=False)
            return
        self._unsealed.add_waiter(waiter)
        self._loop.call_soon(self._seal)

    def await_written(self, since: float, *, deadline: float) -> None:
        """As `ask_written`, on another thread than the loop's. LogUnavailable."""
        wait_for(self._loop, self.ask_written, since, deadline=deadline)

    def turn_day(self) -> None:
        """On the loop, now and then: also who has nothing to say begins a new file each day."""
        if self._day and self._day != today() and self._idle:
            self._turns_day = True
            self._seal()

    def _arm(self) -> None:
        self._idle = False
        self._went_on_at = monotonic()
        self._soon(self._gather)

    def _soon(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended: `stop` does what is left
            self._loop.call_soon_threadsafe(call)

    def _gather(self) -> None:
        self._loop.call_later(_GATHERING_S, self._seal)

    def _seal(self) -> None:
        """On the loop: seal what waits, unless the block before is still being written."""
        with self._lock:
            writing = self._writing
            if self._stopping or writing is None or not writing.is_free.is_set():
                return
            block = self._block()
            if block is not None:
                writing.write(block)
                return
            self._idle = True
        if self._unsealed:  # since a moment ago
            self._arm()
        elif (told_in_s := self._missing.told_in_s()) is not None:
            self._idle = False
            self._went_on_at = monotonic() + told_in_s
            self._loop.call_later(max(_GATHERING_S, told_in_s), self._seal)

    def _finished(self, block: Block) -> None:
        """On the thread that writes."""
        self.written = block.n, block.head
        self._went_on_at = monotonic()
        self._tell(block.waiters)
        if not self._stopping:
            self._soon(self._go_on)

    def _failed(self) -> None:
        """On the thread that writes: nobody waits until it succeeds."""
        self._soon(self._tell_all)

    def _tell_all(self) -> None:
        for waiter in tuple(self._waiters):
            waiter.tell(written=False)

    def _go_on(self) -> None:
        """A block is written."""
        if self._unsealed and (self.waits or self._unsealed.size > _ENOUGH_BYTES):
            self._seal()
        else:
            self._gather()

    def _block(self) -> Block | None:
        """The next lines, sealed, and who waits for them; None if there is nothing."""
        chain, day = self._chain, today()
        before = chain.n, chain.head
        own = self._missing.lines(at_the_end=self._stopping)
        if self._day not in {"", day} and (own or self._unsealed or self._turns_day):
            own.insert(0, own_line("day", {"previous": shown(chain.head)}))
        lines, waiters = self._unsealed.take_up_to(_LARGEST_BLOCK)
        self._unsealed.set_right()
        self._hurried = self._turns_day = False
        if not own and not lines:
            self._tell(waiters)  # what they wait for is out
            return None
        self._day = day
        text = chain.seal_all([*own, *lines])
        self._last = block = Block(
            text=text, day=day, n=chain.n, head=chain.head, before=before, waiters=waiters
        )
        return block

    def _tell(self, waiters: list[Waiter]) -> None:
        """That their lines are written, unless some were dropped since they began."""
        for waiter in waiters:
            waiter.tell(written=waiter.since >= self._missing.dropped_at)

    def _drop(self, lines: int) -> None:
        if not lines:
            return
        self._missing.drop(lines)
        self._on_drop(lines)

    def stop(self) -> None:
        """Write what waits, and the end, within 2 s; what is not written by then is dropped."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        if self._writing is not None:
            self._end(self._writing)
        self._drop(self._unsealed.drop_all())

    def _end(self, writing: Writing) -> None:
        ends_at = monotonic() + _LAST_WAIT_S
        writing.end_by(ends_at)
        while writing.is_free.wait(max(0.0, ends_at - monotonic()) + _HUNG_S):
            is_out = self._last is None or self._last.done == len(self._last.text)
            block = self._block() if is_out and monotonic() < ends_at else None
            if block is None:
                break
            writing.write(block)
        if not writing.is_free.is_set():  # the system holds it up: there is nothing to write with
            self._drop(self._last.text.count(b"\n", self._last.done) if self._last else 0)
            return
        writing.end()
        lines = self._taken_back(self._last, writing.sink)
        if lines is not None:
            self._drop(self._unsealed.drop_all())
            lines += [*self._missing.lines(at_the_end=self._stopping), own_line("end", {})]
            text = self._chain.seal_all(lines)
            if writing.sink.write_last(text, self._day or today()) == len(text):
                self.written = self._chain.n, self._chain.head
        writing.sink.close()

    def _taken_back(self, block: Block | None, sink: Sink) -> list[bytes] | None:
        """Lines of the log's own that must be sealed anew, since they are not out; the others are dropped.

        As if what is not out had never been sealed. None: a line was cut off, and none may follow.
        """
        if block is None or block.done == len(block.text):
            return []
        end = block.text.rfind(b"\n", 0, block.done) + 1
        own, lines, begins_day = self._missing.unwritten(block.text[end:])
        self._drop(lines)
        self._chain.n, self._chain.head = last_sealed(block.text[:end]) or block.before
        if not sink.take_back(block.done - end):
            return None
        if begins_day:
            own.insert(0, own_line("day", {"previous": shown(self._chain.head)}))
        return own
