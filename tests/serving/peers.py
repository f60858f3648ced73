"""Ill-behaved peers of a sidecar: each is one connection, and all of them live on one thread's loop."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Self

from tests.serving.meanwhile import ASK, QUESTION, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

CHECK_HEAD = b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
RESETS = struct.pack("ii", 1, 0)
_SMALLEST_SEGMENT = 536  # with it and a small buffer, the other side's kernel takes some 50 KiB, not 2.6 MiB
_SMALL_BUFFER = 2_048
_CONNECTIONS = Path("/proc/net/tcp")
_LOOK_EVERY_S = 0.5
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


class Line:
    """One connection: what it has *received* so far, and after how many seconds the sidecar *ended* it.

    They count from *began*; None while it is open.
    """

    def __init__(self, port: int, *, tiny: bool) -> None:
        self.port = port
        self.received = b""
        self.ended_s: float | None = None
        self.began = monotonic()
        self.failed = ""
        self.socket = socket.socket()
        self.socket.setblocking(False)  # noqa: FBT003 - the socket's own
        if tiny:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SMALLEST_SEGMENT)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def statuses(self) -> list[int]:
        """Of the answers that have come, but for those that only say to go on."""
        return [int(status) for status in _STATUS.findall(self.received) if status != b"100"]

    async def connect(self) -> None:
        await self._loop.sock_connect(self.socket, ("127.0.0.1", self.port))
        self.began = monotonic()

    async def send(self, content: bytes) -> None:
        await self._loop.sock_sendall(self.socket, content)

    async def drip(self, content: bytes, *, every_s: float) -> None:
        for byte in content:
            await self.send(bytes([byte]))
            await asyncio.sleep(every_s)

    async def answered(self, times: int = 1) -> None:
        """Until that many answers have begun; the clock of what comes now begins here."""
        while len(self.statuses) < times:  # noqa: ASYNC110 - bytes have no event
            await asyncio.sleep(0.01)
        self.began = monotonic()

    async def receive_all(self) -> None:
        with suppress(ConnectionError):
            while more := await self._loop.sock_recv(self.socket, 65_536):
                self.received += more
        self.ended_s = monotonic() - self.began

    async def unread_until_ended(self) -> None:
        """Look at the other end's state, as who does not read learns of nothing."""
        # Its states ESTABLISHED and CLOSE_WAIT.
        own = self.socket.getsockname()[1]
        is_open = re.compile(rb":%04X [0-9A-F]{8}:%04X (01|08) " % (self.port, own))
        while is_open.search(await asyncio.to_thread(_CONNECTIONS.read_bytes)):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(_LOOK_EVERY_S)
        self.ended_s = monotonic() - self.began

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        self.socket.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What one does on its connection. One that does not read has a tiny window too."""

    acts: Callable[[Line], Awaitable[None]]
    reads: bool = True


class Peers:
    """All of them until the context is left, *every_s* after one another. *lines* are in their order."""

    def __init__(self, port: int, *peers: Peer, every_s: float = 0.0) -> None:
        self._every_s = every_s
        self.lines = [Line(port, tiny=not peer.reads) for peer in peers]
        self._peers = peers
        self._begun = Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        for line in self.lines:
            line.socket.close()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        lives = [
            asyncio.create_task(self._live(peer, line, after_s=number * self._every_s))
            for number, (peer, line) in enumerate(zip(self._peers, self.lines, strict=True))
        ]
        self._begun.set()
        await self._stop.wait()
        for life in lives:
            life.cancel()
        for line, problem in zip(
            self.lines, await asyncio.gather(*lives, return_exceptions=True), strict=True
        ):
            line.failed = "" if isinstance(problem, asyncio.CancelledError | None) else repr(problem)

    async def _live(self, peer: Peer, line: Line, *, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await line.connect()
        watch = asyncio.create_task(line.receive_all() if peer.reads else line.unread_until_ended())
        try:
            with suppress(ConnectionError, BrokenPipeError):
                await peer.acts(line)
            if line.socket.fileno() >= 0:
                await watch
        finally:
            watch.cancel()


def slow_head(every_s: float) -> Peer:
    async def acts(line: Line) -> None:
        await line.drip(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 10_000, every_s=every_s)

    return Peer(acts=acts)


def endless_head() -> Peer:
    """On a kept connection: all the server needs to know how long the body is, and then nothing."""

    async def acts(line: Line) -> None:
        await line.send(ASK)
        await line.answered()
        await line.send(b"POST /v1/authorize HTTP/1.1\r\nContent-Length: 0\r\nHost: x")

    return Peer(acts=acts)


def slow_body(every_s: float = 4.0) -> Peer:
    async def acts(line: Line) -> None:
        await line.send(CHECK_HEAD + b"Content-Length: 1000\r\n\r\n")
        await line.drip(QUESTION + b" " * 1_000, every_s=every_s)

    return Peer(acts=acts)


def slow_chunks(every_s: float = 1.0) -> Peer:
    async def acts(line: Line) -> None:
        await line.send(CHECK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(1_000):
            await line.send(b"1\r\n \r\n")
            await asyncio.sleep(every_s)

    return Peer(acts=acts)


def absent_body(path: str = "/v1/authorize", length: int = 1_000) -> Peer:
    async def acts(line: Line) -> None:
        line_of = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        await line.send(line_of.encode() + b"Content-Length: %d\r\n\r\n" % length)

    return Peer(acts=acts)


def silent() -> Peer:
    async def acts(line: Line) -> None:
        """Connected, and that is all."""

    return Peer(acts=acts)


def unread(content: bytes) -> Peer:
    """One request whose answer is not read."""

    async def acts(line: Line) -> None:
        await line.send(content)

    return Peer(acts=acts, reads=False)


def unread_pipeline(content: bytes = ASK, times: int = 20_000) -> Peer:
    """As many requests as the other side takes."""

    async def acts(line: Line) -> None:
        for _ in range(times // 100):
            await line.send(content * 100)

    return Peer(acts=acts, reads=False)


def a_batch(questions: int = 1_000) -> bytes:
    body = b'{"questions":[%s]}' % b",".join([QUESTION] * questions)
    return request("POST", "/v1/authorize/batch", body)


def resetting(content: bytes, times: int = 50) -> Peer:
    """Sends and is gone, again and again."""

    async def acts(line: Line) -> None:
        for _ in range(times):
            other = Line(line.port, tiny=False)
            await other.connect()
            await other.send(content)
            await asyncio.sleep(0.005)
            other.reset()

    return Peer(acts=acts)


def sends(
    content: bytes, *, slowly: bytes = b"", every_s: float = 0.5, then_half_closes: bool = False
) -> Peer:
    """*content* at once, then *slowly* a byte at a time."""

    async def acts(line: Line) -> None:
        await line.send(content)
        await line.drip(slowly, every_s=every_s)
        if then_half_closes:
            line.socket.shutdown(socket.SHUT_WR)

    return Peer(acts=acts)


def asks_again(*, after_s: float) -> Peer:
    async def acts(line: Line) -> None:
        await line.send(ASK)
        await line.answered()
        await asyncio.sleep(after_s)
        await line.send(ASK)
        await line.answered(2)

    return Peer(acts=acts)
