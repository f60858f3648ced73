"""A relay between a gateway and the sidecar that can lose an answer, hold it, or ask twice."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.store.proxy import RESET_ON_CLOSE, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADERS = 1  # the type of HTTP/2's frame with which an answer begins
_WITHIN_S = 5


class Relay(Proxy):
    """Of the next *cuts* answers none arrives, and its connection is reset. `lag_s` holds answers.

    While it *repeats*, the sidecar gets each question a second time, on a connection of its own (HTTP/1.1
    alone). *questions* are those of the gateway, as they came.
    """

    def __init__(self, url: str, *, is_http2: bool = False) -> None:
        self.cuts = 0
        self.repeats = False
        self.questions: list[bytes] = []
        self._is_http2 = is_http2
        super().__init__(url)

    def be_good(self) -> None:
        self.cuts, self.repeats, self.lag_s = 0, False, 0.0

    def _ask(self, server: socket.socket, chunk: bytes) -> None:
        self.questions.append(chunk)
        if self.repeats:
            with self._server() as another:
                another.settimeout(_WITHIN_S)
                another.sendall(chunk)
                assert another.recv(65_536)
        super()._ask(server, chunk)

    def _answer(self, client: socket.socket, chunk: bytes) -> None:
        if self.cuts and (not self._is_http2 or _HEADERS in _frames_in(chunk)):
            self.cuts -= 1
            with suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                client.shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it: only then it is closed
            client.close()
            return
        super()._answer(client, chunk)


def _frames_in(chunk: bytes) -> Iterator[int]:
    """The types of those that begin in it, where it begins with one."""
    at = 0
    while at + 9 <= len(chunk):
        yield chunk[at + 3]
        at += 9 + int.from_bytes(chunk[at : at + 3])
