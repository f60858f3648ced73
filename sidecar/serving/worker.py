"""A worker of gunicorn: one event loop, which never waits for a peer, the database or the policy engine."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import uvloop  # noqa: F401 - gunicorn imports it after the fork: so whoever replaces a dead worker has it
from gunicorn.workers.gasgi import ASGIWorker  # type: ignore[import-untyped] # it ships none

from sidecar.local.children import bound_to_us
from sidecar.serving.connections import Connections
from sidecar.serving.heads import Heads
from sidecar.serving.http1 import Http1, refusal
from sidecar.serving.lane import Lane

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sidecar.serving.application import Application
    from sidecar.serving.connections import Connection, Reader
    from sidecar.serving.shares import Share
    from sidecar.serving.threads import Threads

_SWEEP_S = 1.0
_SWEEP_WHILE_STOPPING_S = 0.05
_RESERVE_S = 0.5  # of the grace, for what is closed at its end
_CUT_OFF_WITHIN_S = 0.2
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_S = 0.1
_OTHERS_TURN_S = 0.004  # to take a connection, of which they have fewer
_HELD_UP_S = 0.05
_SILENCE_S = 10.0
_GARBAGE_AFTER = 10_000  # objects more than before: a turn of the loop that answers hundreds makes no garbage


class Worker(ASGIWorker):  # type: ignore[misc] # gunicorn has no types
    """Of gunicorn's own it keeps signals, heartbeat and life; how it accepts, serves and stops is here."""

    alive: bool
    born: float  # on the monotonic clock, of the master
    application: Application
    threads: Threads
    share: Share  # of the connections of all workers

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's
        """In the master, before the fork."""
        super().__init__(*args, **kwargs)
        # A master that is killed tells nobody, and whoever starts it again needs the port at once.
        self._bind_to_master = bound_to_us(signal.SIGTERM)

    def init_process(self) -> None:
        self._bind_to_master()
        super().init_process()

    def load_wsgi(self) -> None:
        self.asgi = None
        self.application = self.app.wsgi()

    def handle_exit_signal(self) -> None:
        super().handle_exit_signal()
        self._stopping.set()

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._stopping.set()

    def init_signals(self) -> None:
        """Those of the time before the loop runs: only then uvloop hears of signals."""
        self._stopping = asyncio.Event()
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._stop_before_serving)

    def _stop_before_serving(self, number: int, _: object) -> None:
        self.alive = False
        self._quick_shutdown = number != signal.SIGTERM

    async def _serve(self) -> None:
        super().init_signals()
        gc.freeze()
        gc.set_threshold(_GARBAGE_AFTER)
        self.threads = self.app.worker.threads
        self._connections = Connections(
            self.app.most_connections, reader=self._reader(), changed=self._show_share
        )
        self._opening: set[asyncio.Task[Any]] = set()
        self._others: list[int] = []
        self._others_until = 0.0
        self._silent_until = 0.0
        self._listeners = [listener.sock for listener in self.sockets]
        self._show_share()
        for listener in self._listeners:
            listener.settimeout(0)
            self.loop.add_reader(listener, self._accept_if_it_is_our_turn, listener)
        while self.alive:
            self.notify()
            if self.ppid != os.getppid():  # where the kernel does not tell
                break
            self._connections.sweep()
            self._show()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _SWEEP_S)
        if self.ppid != os.getppid():
            self.log.info("the master is gone: stopping")
        self.alive = False
        await self._stop()

    def _show(self) -> None:
        there = list(self._connections)
        in_flight = sum(each.state in {"answering", "sending"} for each in there)
        self.app.worker.show(in_flight=in_flight, connections=len(there))
        self.app.worker.publish()

    def _reader(self) -> Callable[[Connection], Reader]:
        """What a connection begins with."""

        def http1(connection: Connection) -> Reader:
            reader: Reader = Http1(self, connection)
            return reader

        if not self.app.settings.lane:
            return http1
        return partial(
            Lane,
            application=self.application,
            driver=self.app.worker.driver,
            heads={kind: Heads(self.application, by_socket=kind) for kind in (False, True)},
            otherwise=http1,
            plain=self.app.worker.plain_questions,
            read_facts=self.app.worker.read_facts,
            is_stopping=lambda: not self.alive,
        )

    async def _stop(self) -> None:
        """Answer what has come and end what is silent; whoever is left when the grace is over is cut off."""
        self.app.worker.listen_no_more()
        self.share.take_no_more()
        for listener in self._listeners:
            self.loop.remove_reader(listener)
            # Who has connected has been promised an answer: closing the socket would reset them.
            while self._accept(listener):
                pass
            listener.close()
        ending = self.loop.time() + self.cfg.graceful_timeout - _RESERVE_S
        while self._opening and not self._quick_shutdown:
            await asyncio.wait(self._opening, timeout=_SWEEP_WHILE_STOPPING_S)
        self._connections.stop()
        parts = self.app.worker
        while (len(self._connections) or not parts.has_ended()) and not self._quick_shutdown:
            if self.loop.time() >= ending:
                break
            self.notify()
            self._connections.sweep()
            await asyncio.sleep(_SWEEP_WHILE_STOPPING_S)
        self._connections.abort()
        await asyncio.sleep(0)
        with suppress(TimeoutError):
            await asyncio.wait_for(parts.cut_off(), _CUT_OFF_WITHIN_S)
        await parts.end_log()

    def _show_share(self) -> None:
        if self.alive:
            self.share.show(len(self._connections) + self._connections.coming)

    def _accept_if_it_is_our_turn(self, listener: socket.socket) -> None:
        """One connection, unless a worker that has fewer may take it.

        It is looked for at each turn of the loop, as the socket stays readable. If none of the others has
        taken any for OTHERS_TURN_S, they are held up, and are not waited for again for a while.
        """
        if others := self.share.others_if_one_has_fewer():
            now = monotonic()
            if others != self._others or now > self._others_until + _HELD_UP_S:
                self._others, self._others_until = others, now + _OTHERS_TURN_S
            if now < self._others_until:
                os.sched_yield()
                return
        self._accept(listener)

    def _accept(self, listener: socket.socket) -> bool:
        """One connection; False where there was none."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
            self._wait_for_descriptors(listener, error)
            return False
        if not self._connections.make_room():
            accepted.settimeout(0)
            with suppress(OSError):
                accepted.send(refusal(self.application, "overloaded"))
            accepted.close()
            return True
        accepted.settimeout(0)
        connection = self._connections.new()
        opening = self.loop.create_task(self.loop.connect_accepted_socket(lambda: connection, accepted))
        self._opening.add(opening)
        opening.add_done_callback(partial(self._opened, connection))
        return True

    def _opened(self, connection: Connection, opening: asyncio.Task[Any]) -> None:
        self._opening.discard(opening)
        if not connection.is_made:
            self._connections.give_up(connection)
        if not opening.cancelled() and (error := opening.exception()) is not None:
            self.log.debug("a connection ended while it was opened: %s", error)

    def _wait_for_descriptors(self, listener: socket.socket, error: OSError) -> None:
        """The socket stays readable: to ask again at once would be all that the loop does."""
        if self.loop.time() >= self._silent_until:  # it is met ten times a second while it lasts
            self._silent_until = self.loop.time() + _SILENCE_S
            self.log.error("cannot accept connections: %s", error.strerror)
        self._connections.make_room(full=True)
        self.loop.remove_reader(listener)
        if self.alive:
            self.loop.call_later(_PAUSE_S, self._accept_again, listener)

    def _accept_again(self, listener: socket.socket) -> None:
        if self.alive:
            self.loop.add_reader(listener, self._accept_if_it_is_our_turn, listener)
