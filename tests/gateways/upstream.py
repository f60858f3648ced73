"""The backend behind a gateway: it says yes to everything, and remembers what reached it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Of every header that a backend may take for *name*."""
        alike = name.lower().replace("_", "-")
        return [value for given, value in self.headers if given.lower().replace("_", "-") == alike]


class Upstream:
    def __init__(self, port: int) -> None:
        self.port = port
        self.reached: list[Reached] = []


@contextmanager
def an_upstream() -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            upstream.reached.append(
                Reached(
                    method=self.command,
                    target=self.path,
                    headers=self.headers.items(),
                    body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
                )
            )
            body = b"served" if self.command != "HEAD" else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def __getattr__(self, name: str):
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, *_) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_) -> None:
            """A gateway that is ended cuts its connections."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    upstream = Upstream(server.server_address[1])
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
