"""Connections to the sidecar: HTTP/1.1 with keep-alive, over TCP or a Unix socket, each call by a deadline.

The standard library alone: docs/decisions/0030-ask-with-the-standard-library.md has the reasons and figures.
"""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sidecar.guard.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    # What socket.socket takes: a family, and an address of that family.
    Address = tuple[socket.AddressFamily, Any]

MIB = 1024 * 1024
_MAX_ANSWER_BYTES = 8 * MIB  # the longest there is: a batch of denials, or a page of workspaces
_MOST_IDLE = 64  # further ones are closed when their call is over
_DEFAULT_PORT = 8080
_LONGEST_WAIT_S = 60.0  # a socket takes no infinity
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. *repeatable*: to carry it out twice is to carry it out once."""

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
    def __init__(self, url: str, *, token: str | None) -> None:
        """*url* is ``http://HOST:PORT`` or ``unix:///PATH``; it is connected to by the first call."""
        self.url = url
        self._addresses, host = _addresses_of(url)
        if token is not None and not _TOKEN.fullmatch(token):
            raise ValueError("the token holds what no token of `sidecar token` has: a blank, a line break?")
        self._head = f"Host: {host}\r\nAccept-Encoding: identity\r\n" + (
            f"Authorization: Bearer {token}\r\n" if token is not None else ""
        )
        # The last one used is the next one used. A deque, since its two ends need no lock.
        self._idle: deque[_Connection] = deque()
        self._owner = os.getpid()

    def reply(self, call: Call, /, *, deadline: float) -> Reply:
        """Unavailable when there is none by *deadline*.

        A connection that was kept may have been closed by the other side in the very moment of its use: then
        a call that is *repeatable* is sent once more, on a new connection. No other call is ever sent twice.
        """
        sent = False
        if (kept := self._kept()) is not None:
            try:
                return self._exchanged(kept, call, deadline=deadline)
            except _Broken as broken:
                self._forget()  # the others are as old
                if not call.repeatable:
                    raise self._failure(broken, sent=True) from broken
                sent = True
            except (OSError, HTTPException) as error:
                raise self._failure(error, sent=True) from error
        try:
            connection = _Connection(self._addresses, deadline=deadline)
        except OSError as error:
            raise self._failure(error, sent=sent) from error
        try:
            return self._exchanged(connection, call, deadline=deadline)
        except (OSError, HTTPException) as error:
            raise self._failure(error, sent=True) from error

    def close(self) -> None:
        """Close what is idle; a later call opens another."""
        self._forget()

    def _exchanged(self, connection: _Connection, call: Call, *, deadline: float) -> Reply:
        reusable = False
        try:
            reply, reusable = connection.reply(_request(call, self._head), call.method, deadline=deadline)
            return reply
        finally:
            # One that was given up is closed: its late answer can never be read as that of another question.
            if reusable and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
            else:
                connection.close()

    def _kept(self) -> _Connection | None:
        if self._owner != os.getpid():
            # After a fork these are our parent's too: both would read each other's answers.
            self._owner = os.getpid()
            self._forget()
        while (connection := self._popped()) is not None:
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _forget(self) -> None:
        while (connection := self._popped()) is not None:
            connection.close()

    def _popped(self) -> _Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _failure(self, error: OSError | HTTPException, *, sent: bool) -> Unavailable:
        """*sent*: the sidecar may have heard the call, and done what it asks for."""
        if isinstance(error, TimeoutError):
            code, detail = "sidecar_unreachable", "no answer in time from"
        elif isinstance(error, OSError):
            code, detail = "sidecar_unreachable", f"no answer ({error}) from"
        else:
            code, detail = "sidecar_misbehaved", f"no HTTP ({error!r}) from"
        return Unavailable(code, f"{detail} the sidecar at {self.url}", uncertain=sent)


class _Broken(OSError):
    """The other side closed before the first byte of an answer."""


class _Oversized(HTTPException):
    pass


class _Connection:
    def __init__(self, addresses: Callable[[], list[Address]], *, deadline: float) -> None:
        self._socket = _connected(addresses, deadline=deadline)

    def reply(self, request: bytes, method: str, *, deadline: float) -> tuple[Reply, bool]:
        """And whether the connection can be used again."""
        self._socket.begin(deadline=deadline)
        with HTTPResponse(self._socket, method=method) as response:
            try:
                self._socket.sendall(request)
                response.begin()
            except (ConnectionError, HTTPException) as error:
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
        """False once the other side has closed it, or said what nobody asked for."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass  # reset: as good as closed
        return False

    def close(self) -> None:
        self._socket.close()


class _Socket(socket.socket):
    """All that one call sends and receives ends by its deadline, and has a bound.

    The timeout of a plain socket is for each recv: a server that sends a byte a second would be waited for
    until it is through.
    """

    received = 0
    _deadline = 0.0

    def begin(self, *, deadline: float) -> None:
        self._deadline = deadline
        self.received = 0
        self.settimeout(self._remaining())

    def recv_into(self, *args: Any) -> int:  # noqa: ANN401 - socket.socket.recv_into takes it as it comes
        self.settimeout(self._remaining())
        count = super().recv_into(*args)
        self.received += count
        if self.received > _MAX_ANSWER_BYTES:
            raise _Oversized(f"more than {_MAX_ANSWER_BYTES} bytes: no answer is as long")
        return count

    def _remaining(self) -> float:
        remaining = self._deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        return min(remaining, _LONGEST_WAIT_S)


def _connected(addresses: Callable[[], list[Address]], *, deadline: float) -> _Socket:
    failure: OSError = OSError("its name leads to no address")
    for family, address in addresses():
        connecting = _Socket(family, socket.SOCK_STREAM)
        try:
            connecting.begin(deadline=deadline)
            connecting.connect(address)
        except OSError as error:
            connecting.close()
            failure = error
            continue
        if family != socket.AF_UNIX:
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connecting
    raise failure


def _request(call: Call, head: str) -> bytes:
    """Head and body in one piece: the server sees the whole request at once."""
    lines = f"{call.method} {call.target} HTTP/1.1\r\n{head}X-Request-ID: {call.request_id}\r\n"
    if call.body is None:
        return f"{lines}Content-Length: 0\r\n\r\n".encode()
    return (
        f"{lines}Content-Type: application/json\r\nContent-Length: {len(call.body)}\r\n\r\n".encode()
        + call.body
    )


def _addresses_of(url: str) -> tuple[Callable[[], list[Address]], str]:
    """Where *url* leads, looked up for each connection since a name may move, and what Host says."""
    expected = f"{url!r} is no address of a sidecar: expected http://HOST:PORT or unix:///PATH"
    parts = urlsplit(url)
    try:
        host, port, path = parts.hostname, parts.port or _DEFAULT_PORT, parts.path
    except ValueError as error:
        raise ValueError(expected) from error
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(expected)
    if parts.scheme == "unix" and path.startswith("/") and not parts.netloc:
        return lambda: [(socket.AF_UNIX, path)], "localhost"
    if parts.scheme == "http" and host and path in {"", "/"}:
        return lambda: [(at[0], at[4]) for at in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)], (
            parts.netloc
        )
    raise ValueError(expected)
