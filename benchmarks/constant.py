"""The limit: the lane, with one answer, read from standard input, to any request for a hot endpoint.

python -m benchmarks.constant PORT PROCESSES
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import uvloop

from sidecar.api.plain import PlainChecks
from sidecar.identity.callers import Callers
from sidecar.serving.application import Application
from sidecar.serving.connections import Connections
from sidecar.serving.driver import Driver
from sidecar.serving.heads import Heads
from sidecar.serving.lane import Lane
from sidecar.serving.threads import Threads
from tests.api.stage import a_stage

if TYPE_CHECKING:
    from sidecar.api.endpoint import Endpoint
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.decisions.steps import Steps

BACKLOG = 2_048
MOST = 2_000
SWEEP_S = 1.0


class _Constant(Application):
    """The real one, but for what an endpoint answers."""

    def __init__(self, body: bytes) -> None:
        super().__init__(replace(a_stage().service, callers=Callers(None)))
        self.plain = _NothingPlain(self.service)
        self._reply = 200, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], body

    def answering(self, request: Request, endpoint: Endpoint) -> Steps[Reply]:
        yield from ()
        return self._reply


class _NothingPlain(PlainChecks):
    def alike_in_bodies(self, *_: object, **__: object) -> None:
        """For there are no facts here to read."""


async def _serve(listener: socket.socket, body: bytes) -> None:
    loop = asyncio.get_running_loop()
    application = _Constant(body)
    reader = partial(
        Lane,
        application=application,
        driver=Driver(loop=loop, threads=Threads(1, loop=loop), starts={}),
        heads={kind: Heads(application, by_socket=kind) for kind in (False, True)},
        otherwise=lambda connection: sys.exit(f"not for the lane: {connection}"),
        plain=None,  # type: ignore[arg-type] # nothing is plain
        read_facts=sys.exit,
        is_stopping=lambda: False,
    )
    connections = Connections(MOST, reader=reader)
    await loop.create_server(connections.new, sock=listener, backlog=BACKLOG)
    while True:
        await asyncio.sleep(SWEEP_S)
        connections.sweep()
        application.service.metrics.publish()


def main() -> None:
    port, processes = map(int, sys.argv[1:])
    body = sys.stdin.buffer.read().partition(b"\r\n\r\n")[2]
    listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    listener.settimeout(0)
    others = [
        get_context("fork").Process(target=lambda: uvloop.run(_serve(listener, body)), daemon=True)
        for _ in range(processes)
    ]
    for other in others:
        other.start()

    def end(*_: object) -> None:
        for other in others:
            other.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    for other in others:
        other.join()


if __name__ == "__main__":
    main()
