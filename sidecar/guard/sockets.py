"""Sockets to the sidecar, over TCP, TLS or a Unix socket, with a timeout for the whole answer."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from time import monotonic
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    # What socket.socket takes: a family, and an address of that family.
    Address = tuple[socket.AddressFamily, Any]
    Addresses = Callable[[], list[Address]]

MIB = 1024 * 1024
_MAX_ANSWER_BYTES = 8 * MIB  # the longest there is: a batch of denials, or a page of workspaces
_DEFAULT_PORTS = {"http": 8080, "https": 443}
_EXPECTED = "expected http://HOST:PORT, https://HOST or unix:///PATH"


class TimedSocket(socket.socket):
    """Its timeout covers everything received until the next one is set, and so does a bound on the bytes.

    A plain socket applies the timeout to each recv, so a server that sends a byte a second would never time
    out.
    """

    received = 0
    _deadline = 0.0

    def settimeout(self, value: float | None, /) -> None:
        super().settimeout(value)
        self._deadline = monotonic() + (value or 0)
        self.received = 0

    def recv_into(self, *args: Any) -> int:  # noqa: ANN401 - socket.socket.recv_into takes it as it comes
        remaining = self._deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        super().settimeout(remaining)
        count = super().recv_into(*args)
        self.received += count
        if self.received > _MAX_ANSWER_BYTES:
            raise HTTPException(f"more than {_MAX_ANSWER_BYTES} bytes: no answer is as long")
        return count


class _TimedTls(TimedSocket, ssl.SSLSocket):
    """Shakes hands and sends within the timeout by itself: each is one call of OpenSSL's."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server proves that it is *host*."""

    context: ssl.SSLContext
    host: str


def connect(addresses: Addresses, *, within_s: float, tls: Tls | None = None) -> TimedSocket:
    """Connect to the first of *addresses* that answers. OSError, that of the last, if none does.

    With *tls* it has proven who it is, within the same time.
    """
    deadline = monotonic() + within_s
    failure = OSError("no address")
    for family, address in addresses():
        connecting = TimedSocket(family, socket.SOCK_STREAM)
        try:
            connecting.settimeout(max(deadline - monotonic(), 0.001))
            connecting.connect(address)
            if family != socket.AF_UNIX:
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is None:
                return connecting
            connecting.settimeout(max(deadline - monotonic(), 0.001))
            return cast("TimedSocket", tls.context.wrap_socket(connecting, server_hostname=tls.host))
        except OSError as error:
            connecting.close()
            failure = error
    raise failure


def addresses_of(url: str) -> Addresses:
    """Where *url* leads, looked up for each connection: a name may move.

    ValueError unless it is ``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix:///PATH``.
    """
    parts = urlsplit(url)
    host, port, path = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme), parts.path
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("it names more than a host")
    if parts.scheme == "unix" and path and not parts.netloc:
        return lambda: [(socket.AF_UNIX, path)]
    if parts.scheme in _DEFAULT_PORTS and host and path in {"", "/"}:
        return lambda: [(at[0], at[4]) for at in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    raise ValueError(_EXPECTED)


def tls_of(url: str, ca_file: str | PathLike[str] | None) -> Tls | None:
    """None unless *url* is ``https://``. *ca_file* are the certificates to trust, by default the system's.

    ValueError where *ca_file* holds none, or is given for another kind of *url*.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        if ca_file is not None:
            raise ValueError("ca_file is for https:// alone")
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ValueError(f"ca_file {ca_file} holds no certificates that can be read: {error}") from error
    context.sslsocket_class = _TimedTls
    return Tls(context, parts.hostname or "")
