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

import uvloop

from sidecar.identity.callers import Callers
from sidecar.serving.application import Application
from sidecar.serving.connections import Connections
from sidecar.serving.driver import Driver
from sidecar.serving.heads import Heads
from sidecar.serving.lane import Lane
from sidecar.serving.threads import Threads
from tests.api.stage import a_stage

BACKLOG = 2_048
MOST = 2_000
SWEEP_S = 1.0


def _application(body: bytes):
    """The real one, but for what an endpoint answers."""
    application = Application(replace(a_stage().service, callers=Callers(None)))
    reply = 200, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], body

    def answering(request, endpoint):
        return reply
        yield

    application.answering = answering
    application.plain.question_in = lambda _: None
    return application


async def _serve(listener: socket.socket, body: bytes) -> None:
    loop = asyncio.get_running_loop()
    application = _application(body)
    reader = partial(
        Lane,
        application=application,
        driver=Driver(loop=loop, threads=Threads(1, loop=loop), starts={}),
        heads={kind: Heads(application, by_socket=kind) for kind in (False, True)},
        otherwise=lambda connection: sys.exit(f"not for the lane: {connection}"),
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
