"""Connections to the sidecar: HTTP/1.1 with keep-alive, over TCP, TLS or a Unix socket, with deadlines.

The standard library alone: docs/decisions/0030-ask-with-the-standard-library.md has the reasons and figures.
"""

from __future__ import annotations

import os
import re
import ssl
from collections import deque
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar.guard.errors import Unavailable
from sidecar.guard.sockets import addresses_of, connect, tls_of

if TYPE_CHECKING:
    from os import PathLike

    from sidecar.guard.sockets import Addresses, Tls

_MOST_IDLE = 64  # further ones are closed after their call
_LONGEST_WAIT_S = 60.0  # a socket takes no infinity
_HANGS_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. *repeatable*: it is idempotent."""

    method: str
    target: str
    body: bytes | None
    request_id: str
    repeatable: bool


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content_type: str
    request_id: str | None
    body: bytes


class Connections:
    def __init__(self, url: str, *, token: str | None, ca_file: str | PathLike[str] | None = None) -> None:
        """*url* and *ca_file* are as in Client; it is connected to by the first call."""
        self.url = url
        try:
            self._addresses = addresses_of(url)
            self._tls = tls_of(url, ca_file)
        except ValueError as error:
            raise ValueError(f"{url!r} is no address of a sidecar: {error}") from error
        if token is not None and not _TOKEN.fullmatch(token):
            raise ValueError("the token holds what no token of `sidecar token` has: a blank, a line break?")
        self._head = f"Host: {urlsplit(url).netloc or 'localhost'}\r\nAccept-Encoding: identity\r\n" + (
            f"Authorization: Bearer {token}\r\n" if token is not None else ""
        )
        # The last one used is the next one used. A deque, since its two ends need no lock.
        self._idle: deque[_Connection] = deque()
        self._owner = os.getpid()

    def reply(self, call: Call, /, *, deadline: float) -> Reply:
        """Unavailable when there is none by *deadline*.

        The other side may close an idle connection in the moment of its use: then there is one retry of a
        *repeatable* call, on a new connection. No other call is ever sent twice.
        """
        sent = False
        if (kept := self._take_idle()) is not None:
            try:
                return self._exchange(kept, call, deadline=deadline)
            except _Broken as broken:
                self._forget()  # the others are as old
                if not call.repeatable:
                    raise self._failure(broken, sent=True) from broken
                sent = True
            except (OSError, HTTPException) as error:
                raise self._failure(error, sent=True) from error
        try:
            connection = _Connection(self._addresses, self._tls, deadline=deadline)
        except OSError as error:
            raise self._failure(error, sent=sent) from error
        try:
            return self._exchange(connection, call, deadline=deadline)
        except (OSError, HTTPException) as error:
            raise self._failure(error, sent=True) from error

    def close(self) -> None:
        """Close idle connections; a later call opens another."""
        self._forget()

    def _exchange(self, connection: _Connection, call: Call, *, deadline: float) -> Reply:
        reusable = False
        try:
            reply, reusable = connection.reply(_request(call, self._head), call.method, deadline=deadline)
            return reply
        finally:
            # After a timeout it is closed: a late answer can never be read as that of another question.
            if reusable and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
            else:
                connection.close()

    def _take_idle(self) -> _Connection | None:
        if self._owner != os.getpid():
            # After a fork these are our parent's too: both would read each other's answers.
            self._owner = os.getpid()
            self._forget()
        while (connection := self._pop()) is not None:
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _forget(self) -> None:
        while (connection := self._pop()) is not None:
            connection.close()

    def _pop(self) -> _Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _failure(self, error: OSError | HTTPException, *, sent: bool) -> Unavailable:
        """*sent*: the sidecar may have received the call and carried it out."""
        if isinstance(error, TimeoutError):
            code, detail = "sidecar_unreachable", "no answer in time from"
        elif isinstance(error, OSError):
            code, detail = "sidecar_unreachable", f"no answer ({error}) from"
        else:
            code, detail = "sidecar_misbehaved", f"no HTTP ({error!r}) from"
        return Unavailable(code, f"{detail} the sidecar at {self.url}", uncertain=sent)


class _Broken(OSError):
    """The other side closed before the first byte of an answer."""


class _Connection:
    def __init__(self, addresses: Addresses, tls: Tls | None, *, deadline: float) -> None:
        self._socket = connect(addresses, within_s=_remaining_s(deadline), tls=tls)

    def reply(self, request: bytes, method: str, *, deadline: float) -> tuple[Reply, bool]:
        """Also says whether the connection can be used again."""
        self._socket.settimeout(_remaining_s(deadline))
        with HTTPResponse(self._socket, method=method) as response:
            try:
                self._socket.sendall(request)
                response.begin()
            except (*_HANGS_UP, HTTPException) as error:
                if self._socket.received == 0:
                    raise _Broken(f"the connection was closed: {error!r}") from error
                raise
            reply = Reply(
                status=response.status,
                content_type=response.headers.get("Content-Type", ""),
                request_id=response.headers.get("X-Request-ID"),
                body=response.read(),
            )
        return reply, not response.will_close

    def is_quiet(self) -> bool:
        """False once the other side has closed it, or sent data that nobody asked for."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):  # TLS has messages of its own, which nobody asks for
            return True
        except OSError:
            pass  # reset: as good as closed
        return False

    def close(self) -> None:
        self._socket.close()


def _remaining_s(deadline: float) -> float:
    remaining = deadline - monotonic()
    if remaining <= 0:
        raise TimeoutError("timed out")
    return min(remaining, _LONGEST_WAIT_S)


def _request(call: Call, head: str) -> bytes:
    """Head and body in one piece: the server sees the whole request at once."""
    lines = f"{call.method} {call.target} HTTP/1.1\r\n{head}X-Request-ID: {call.request_id}\r\n"
    if call.body is None:
        return f"{lines}Content-Length: 0\r\n\r\n".encode()
    return (
        f"{lines}Content-Type: application/json\r\nContent-Length: {len(call.body)}\r\n\r\n".encode()
        + call.body
    )
