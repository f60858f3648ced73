"""The backend behind a gateway: it says yes to everything, and remembers what reached it.

It changes the protocol for whoever asks, more readily than a backend should: to h2c, to HTTP/2 by prior
knowledge, to WebSocket, and to any other name, behind which it reads requests as before.
"""

from __future__ import annotations

import http.client
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from tests.gateways import http2, websocket

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


http.client._MAXHEADERS = 1_000  # type: ignore[attr-defined] # noqa: SLF001 - of no backend that gateways have


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def parse_request(self) -> bool:
        if self.raw_requestline != http2.PREFACE_LINE:
            return super().parse_request()
        self._speak_http2(first=self.raw_requestline)
        return False

    def answer(self) -> None:
        self.upstream.reached.append(
            Reached(
                method=self.command,
                target=self.path,
                headers=self.headers.items(),
                body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
            )
        )
        offers = [each.strip().lower() for each in ",".join(self.headers.get_all("Upgrade", [])).split(",")]
        # Whatever is worst is taken first.
        if "h2c" in offers:
            self._switch("h2c")
            self._speak_http2(upgraded_with=self.headers.get("HTTP2-Settings", ""))
        elif other := [each for each in offers if each not in {"", "websocket"}]:
            self._switch(other[0])  # and what follows is read like any request
        elif "websocket" in offers and self.headers.get("Sec-WebSocket-Version") == "13":
            self._switch("websocket", accept=websocket.accept_of(self.headers["Sec-WebSocket-Key"]))
            while text := websocket.read_text(self.rfile):
                self.wfile.write(websocket.a_text(text, masked=False))
            self.close_connection = True
        else:
            self._serve(426 if "websocket" in offers else 200)

    def _serve(self, status: int) -> None:
        body = b"served" if self.command != "HEAD" else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _switch(self, protocol: str, *, accept: str | None = None) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", protocol)
        if accept is not None:
            self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()

    def _speak_http2(self, *, first: bytes = b"", upgraded_with: str | None = None) -> None:
        unread = [first] if first else []
        http2.serve(
            lambda: unread.pop() if unread else self.rfile.read1(65_536),
            self.wfile.write,
            self._reached_by_http2,
            upgraded_with=upgraded_with,
        )
        self.close_connection = True

    def _reached_by_http2(self, head: list[tuple[str, str]]) -> None:
        told = dict(head)
        headers = [(name, value) for name, value in head if not name.startswith(":")]
        self.upstream.reached.append(
            Reached(method=told[":method"], target=told[":path"], headers=headers, body=b"")
        )

    def __getattr__(self, name: str):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_) -> None:
        """A gateway that is ended cuts its connections."""


@contextmanager
def an_upstream() -> Iterator[Upstream]:
    class Handler(_Handler):
        """Of this upstream."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        Handler.upstream = upstream = Upstream(server.server_address[1])
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield upstream
        finally:
            server.shutdown()
