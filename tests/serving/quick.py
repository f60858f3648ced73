"""A client of one connection that costs so little that a few dozen of them keep a sidecar busy.

They run in processes of their own: `in_processes` starts those, each with its part of the order.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from tests.serving.peers import RESETS

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_S = 20.0
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Quick(asyncio.Protocol):
    """*at* is a port of this machine, or the path of a Unix socket.

    It connects when it has to, and asks one question at a time.
    """

    def __init__(self, at: int | str) -> None:
        self._at = at
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waits: asyncio.Future[tuple[int, bytes]] | None = None

    async def connect(self) -> None:
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            self._received = b""
            if isinstance(self._at, str):
                self._transport, _ = await loop.create_unix_connection(lambda: self, self._at)
            else:
                self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._at)

    def send(self, content: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Once connected: what it sends it sends now. The status and the body; ConnectionError if it ends."""
        assert self._transport is not None
        self._waits = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        return self._waits

    async def ask(self, content: bytes) -> tuple[int, bytes]:
        await self.connect()
        return await asyncio.wait_for(self.send(content), PATIENCE_S)

    def reset(self) -> None:
        """Whatever is on its way is lost."""
        if self._transport is not None and not self._transport.is_closing():
            plain = self._transport.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
            self._transport.abort()
        self._transport = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(_END)
        if end < 0:
            return
        head = received[: end + 2]
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(received) >= whole:
            self._received = b""
            assert len(received) == whole, "more came than was asked for"
            if self._waits is not None and not self._waits.done():
                self._waits.set_result((int(head[9:12]), received[end + 4 :]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waits is not None and not self._waits.done():
            self._waits.set_exception(exc or ConnectionResetError("it was closed"))


def in_processes(module: str, orders: Sequence[dict[str, Any]], *, within_s: float) -> list[dict[str, Any]]:
    """What `python -m MODULE ORDER` prints for each of *orders*, as JSON, when all have run at once."""
    with ExitStack() as stack:
        # Files: what is said may be more than a pipe holds, and uvloop leaves pipes non-blocking.
        said = [stack.enter_context(TemporaryFile()) for _ in orders]
        processes = [
            subprocess.Popen([sys.executable, "-m", module, json.dumps(order)], stdout=stdout)
            for order, stdout in zip(orders, said, strict=True)
        ]
        try:
            for process in processes:
                process.wait(within_s)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert [process.returncode for process in processes] == [0] * len(processes)
        for stdout in said:
            stdout.seek(0)
        return [json.load(stdout) for stdout in said]
