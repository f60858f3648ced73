"""The guard of a worker's connections: how many there are, and how long a peer may take for each step.

It stands between every socket and the protocol that reads it, so that no peer can hold up anybody else. The
protocol tells the guard where it is: the head has ended, the request is whole, the reply is sent.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Literal, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IDLE_S = 75.0  # gateways keep a connection for less, so that it is they who close it
HEAD_S = 5.0
BODY_S = 10.0
SENDING_S = 10.0
ENDING_S = 2.0  # for a peer to read the last reply before its connection is gone
SILENCE_S = 1.0  # when the worker stops: who has a request on its way is heard within it

_CANDIDATES = 8  # to go for a new one: an idle connection may have a request that is not read yet

State = Literal["idle", "head", "body", "answering", "sending", "ending", "gone"]


class Reader(Protocol):
    """The protocol behind the guard: it reads requests and writes replies."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def time_out(self) -> None:
        """The request has not arrived in time: say so, and end the connection."""
        ...


class Connections:
    """All of a worker, at most *most* of them. *reader* makes the protocol that a new one begins with.

    *changed* is called whenever their number is another one.
    """

    def __init__(
        self,
        most: int,
        *,
        reader: Callable[[Connection], Reader],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.most = most
        self.stopping = False
        self.coming = 0
        self._reader = reader
        self._changed = changed
        self._all: dict[Connection, None] = {}
        # Those whose request is not being answered, with the one that has waited longest first.
        self._waiting: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    def make_room(self, *, full: bool = False) -> bool:
        """For one more: at the expense of the one that is idle, or without a whole request, for longest.

        False when there is no room and every connection is waiting for its answer. *full*: there is no room,
        however many there are.
        """
        if len(self._all) < self.most and not full:
            return True
        longest = list(islice(self._waiting, _CANDIDATES))
        for connection in longest:
            if connection.state != "idle" or not connection.has_unread():
                connection.abort()
                return True
        for connection in longest[:1]:
            connection.abort()
        return bool(longest)

    def new(self) -> Connection:
        """One that has been accepted, and is coming until it is made, or given up."""
        connection = Connection(self)
        connection.reader = self._reader(connection)
        self.coming += 1
        self._changed()
        return connection

    def give_up(self, connection: Connection) -> None:
        """It was never made."""
        self.coming -= 1
        self.forget(connection)

    def sweep(self) -> None:
        """Call it once a second: whoever has taken too long is dealt with."""
        now = monotonic()
        for connection in self:
            if connection.until <= now:
                connection.expire()

    def stop(self) -> None:
        """From now on who is silent for a second is closed."""
        self.stopping = True
        until = monotonic() + SILENCE_S
        for connection in self:
            if connection.state == "idle":
                connection.until = until

    def abort(self) -> None:
        for connection in self:
            connection.abort()

    def add(self, connection: Connection) -> None:
        self._all[connection] = None
        self.coming -= 1
        self._changed()

    def forget(self, connection: Connection) -> None:
        self._all.pop(connection, None)
        self._waiting.pop(connection, None)
        self._changed()

    def add_waiting(self, connection: Connection) -> None:
        """It goes to the end of the line, unless it stands in it already."""
        self._waiting.setdefault(connection, None)

    def remove_waiting(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)


class Connection(asyncio.Protocol):
    """The guard of one. While an answer is due nothing more is read, so that answers keep their order.

    More precisely, reading stops when something more comes. Most peers wait for their answer, and to stop and
    resume for each request would cost two system calls.
    """

    __slots__ = (
        "_connections",
        "_ended",
        "_more",
        "_reading",
        "_whole",
        "reader",
        "state",
        "transport",
        "until",
    )

    reader: Reader
    transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._reading = True
        self._whole = False  # the request that has come last
        self._more = False  # what has been read may hold another whole request
        self._ended = False  # the peer sends no more
        self.state: State = "idle"
        self.until = 0.0

    @property
    def is_made(self) -> bool:
        return hasattr(self, "transport")

    # What the protocol tells.

    def begin_head(self) -> None:
        """The first bytes of a request are there."""
        if self.state == "idle":
            self._enter("head", HEAD_S)

    def begin_body(self) -> None:
        if self.state == "head":
            self._enter("body", BODY_S)

    def wants_more(self) -> None:
        """What has been read is taken."""
        if self._whole:
            return
        self._more = False
        if self._ended:
            self.transport.close()  # the rest of this request will not come
        elif self.state in {"head", "body"}:
            self._go_on_reading()

    def finish_request(self) -> None:
        self._whole = True

    def begin_answer(self) -> None:
        """Its request is on its way to an answer, which has a deadline of its own."""
        if self.state not in {"ending", "gone"}:
            self._whole = True
            self._more = False
            self.state = "answering"
            self.until = float("inf")
            self._connections.remove_waiting(self)

    def begin_sending(self) -> None:
        if self.state == "answering":
            self._enter("sending", SENDING_S)

    def finish_sending(self, *, more: bool) -> None:
        """The reply is with the kernel; *more*: what has been read holds more than that request."""
        if self.state not in {"answering", "sending"}:
            return
        self._whole = False
        self._more = more
        if more:
            self._enter("head", HEAD_S)
            return
        self._be_idle()
        if self._ended:
            self.transport.close()
        else:
            self._go_on_reading()

    def finish_answer(self, now: float) -> None:
        """The reply is with the kernel, as mostly at once, and no more than its request has been read."""
        self._whole = False
        if self._ended or not self._reading or self._connections.stopping:
            self.finish_sending(more=False)
            return
        self.state = "idle"
        self.until = now + IDLE_S
        self._connections.add_waiting(self)

    def end(self) -> None:
        """Nothing more is answered here. What has been written is sent, and what still comes is thrown away.

        To close at once would reset the connection where anything has arrived unread, and a reset takes the
        reply away from a peer that is still reading it.
        """
        if self.state in {"ending", "gone"}:
            return
        self._enter("ending", SENDING_S if self.transport.get_write_buffer_size() else ENDING_S)
        with suppress(OSError, RuntimeError):  # it has gone meanwhile
            self.transport.write_eof()
            self._go_on_reading()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._be_idle()
        self.reader.connection_made(self.transport)
        self.transport.set_write_buffer_limits(high=0)  # to know when all of a reply has been taken

    def data_received(self, data: bytes) -> None:
        if self.state == "ending":
            return
        if self._whole:
            self._stop_reading()
        self.reader.data_received(data)

    def eof_received(self) -> bool:
        """Who has sent whole requests and no more gets the answers; nothing else can become of the rest."""
        self._ended = True
        keeps_open = (self._whole or self._more) and self.state != "ending"
        if keeps_open:
            self._reading = False  # the transport stops by itself, and would tell the end once more
        return keeps_open

    def pause_writing(self) -> None:
        self.reader.pause_writing()

    def resume_writing(self) -> None:
        if self.state == "ending":
            self.until = monotonic() + ENDING_S
        self.reader.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = "gone"
        self._connections.forget(self)
        self.reader.connection_lost(exc)
        self.reader.resume_writing()  # whoever waits for that need not any more

    # What time tells.

    def expire(self) -> None:
        match self.state:
            case "head" | "body":
                self.reader.time_out()
            case "idle" if not self.has_unread():
                self.transport.close()
            case "sending" | "ending":
                self.abort()
            case "idle" | "answering" | "gone":
                pass

    def abort(self) -> None:
        self._connections.forget(self)
        if self.state != "gone":
            self.transport.abort()

    def _enter(self, state: State, within_s: float) -> None:
        self.state = state
        self.until = monotonic() + within_s
        if state in {"idle", "ending"}:
            self._connections.remove_waiting(self)  # to the end of the line
        self._connections.add_waiting(self)

    def _be_idle(self) -> None:
        self._enter("idle", SILENCE_S if self._connections.stopping else IDLE_S)

    def _go_on_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()

    def _stop_reading(self) -> None:
        if self._reading and self.state not in {"ending", "gone"}:
            self._reading = False
            self.transport.pause_reading()

    def has_unread(self) -> bool:
        """A request may have arrived that the loop has not read yet: it should not be lost."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))
