"""The limit: httptools and uvloop with one answer, read from standard input, to any request.

python -m benchmarks.constant PORT PROCESSES
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from multiprocessing import get_context

import httptools
import uvloop

BACKLOG = 2_048


class Constant(asyncio.Protocol):
    answer = b""

    def connection_made(self, transport):
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_complete(self):
        self._transport.write(self.answer)


async def _serve(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Constant, sock=listener, backlog=BACKLOG)
    await server.serve_forever()


def main() -> None:
    port, processes = map(int, sys.argv[1:])
    Constant.answer = sys.stdin.buffer.read()
    listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    listener.settimeout(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # which ends the others too
    others = [
        get_context("fork").Process(target=lambda: uvloop.run(_serve(listener)), daemon=True)
        for _ in range(processes)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join()


if __name__ == "__main__":
    main()
