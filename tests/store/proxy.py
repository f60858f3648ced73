"""A TCP proxy in front of PostgreSQL, or of another server, that can be as bad as a network."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_QUERIES = {b"P", b"B", b"Q"}  # Parse, Bind and Query: how what is no login begins
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """*url* leads to the server through here.

    While *silent*, what is sent is taken and goes nowhere; *mute*: all but logins goes nowhere, as with a
    pooler before a dead server; *trickle_s* is the pause after each byte of the server's, *lag_s* before all
    that it sends at once, *slow_s* before each 64 KiB of the client's. `silence` is for one connection
    alone.
    """

    def __init__(self, url: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.lead_to(url)
        self.silent = False
        self.mute = False
        self.trickle_s = 0.0
        self.lag_s = 0.0
        self.slow_s = 0.0
        self.accepted = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silenced: set[socket.socket] = set()
        self._last: socket.socket | None = None
        self._host = host
        self._listener = socket.create_server((host, port))
        self.port = self._listener.getsockname()[1]
        user, password = self._target.get("user", "postgres"), self._target.get("password", "")
        login = f"{quote(str(user))}:{quote(str(password))}"
        self.url = f"postgresql://{login}@{host}:{self.port}{urlsplit(url).path}?sslmode=disable"
        self._serve()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()

    def lead_to(self, url: str) -> None:
        self._target = conninfo_to_dict(url)

    def refuse(self) -> None:
        """Nobody listens any more, and whoever was connected is cut off."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    @property
    def refuses(self) -> bool:
        return self._listener.fileno() < 0

    def accept(self) -> None:
        self._listener = socket.create_server((self._host, self.port))
        self._serve()

    def cut(self) -> None:
        """Resets every connection, as a server does that has gone away."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def silence(self, number: int) -> None:
        """What is sent on the connection of this number, from 0, goes nowhere from now on."""
        self._silenced |= set(self._pairs[number])

    def silence_last(self) -> None:
        """As `silence`, of the connection on which something was asked last."""
        self._silenced |= {end for pair in self._pairs if self._last in pair for end in pair}

    def _serve(self) -> None:
        threading.Thread(target=self._accepting, args=(self._listener,), daemon=True).start()

    def _accepting(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client = self._client(listener)
                self.accepted += 1
                try:
                    server = self._server()
                except OSError:  # the server behind us is down: so are we
                    client.close()
                    continue
                self._pairs.append((client, server))
                if listener.fileno() < 0:  # refused since
                    self.cut()
                for pump, source, sink in ((self._ask, client, server), (self._answer, server, client)):
                    threading.Thread(target=self._pump, args=(pump, source, sink), daemon=True).start()

    def _pump(
        self, pump: Callable[[socket.socket, bytes], None], source: socket.socket, sink: socket.socket
    ) -> None:
        with suppress(OSError):
            try:
                while chunk := source.recv(65_536):
                    if not self.silent and source not in self._silenced:
                        pump(sink, chunk)
            finally:  # also of one that was reset
                sink.shutdown(socket.SHUT_RDWR)

    def _ask(self, server: socket.socket, chunk: bytes) -> None:
        sleep(self.slow_s)
        self._last = server
        if not (self.mute and chunk[:1] in _QUERIES):
            server.sendall(chunk)

    def _answer(self, client: socket.socket, chunk: bytes) -> None:
        sleep(self.lag_s)
        if not self.trickle_s:
            client.sendall(chunk)
            return
        for byte in chunk:
            client.sendall(bytes([byte]))
            sleep(self.trickle_s)

    def _client(self, listener: socket.socket) -> socket.socket:
        return listener.accept()[0]

    def _server(self) -> socket.socket:
        host, port = str(self._target.get("host") or "/tmp"), int(self._target.get("port") or 5432)  # noqa: S108
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(Path(host) / f".s.PGSQL.{port}"))
        except OSError:
            server.close()
            raise
        return server
