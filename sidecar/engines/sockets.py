"""Sockets to OPA, over TCP or a Unix socket, with a timeout for the whole answer."""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sidecar.errors import EngineMisbehaved

if TYPE_CHECKING:
    from collections.abc import Callable

    # What socket.socket takes: a family, and an address of that family.
    Address = tuple[socket.AddressFamily, Any]
    Addresses = Callable[[], list[Address]]

KIB = 1024
_MAX_ANSWER_BYTES = 1024 * KIB  # a verdict has less than one, a list of candidates some hundred
_DEFAULT_PORT = 8181


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
            raise EngineMisbehaved(
                f"OPA answers with more than {_MAX_ANSWER_BYTES} bytes: no answer is as long"
            )
        return count


def connect(addresses: Addresses, *, within_s: float) -> TimedSocket:
    """Connect to the first of *addresses* that answers. OSError, that of the last, if none does."""
    deadline = monotonic() + within_s
    failure = OSError("no address")
    for family, address in addresses():
        connecting = TimedSocket(family, socket.SOCK_STREAM)
        try:
            connecting.settimeout(max(deadline - monotonic(), 0.001))
            connecting.connect(address)
        except OSError as error:
            connecting.close()
            failure = error
            continue
        if family != socket.AF_UNIX:
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connecting
    raise failure


def addresses_of(url: str) -> Addresses:
    """Where ``http://HOST:PORT`` or ``unix:///PATH`` leads, looked up for each connection: a name may move.

    ValueError if *url* is neither.
    """
    parts = urlsplit(url)
    host, port, path = parts.hostname, parts.port or _DEFAULT_PORT, parts.path
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("it names more than a host")
    if parts.scheme == "unix" and path and not parts.netloc:
        return lambda: [(socket.AF_UNIX, path)]
    if parts.scheme == "http" and host and path in {"", "/"}:
        return lambda: [(at[0], at[4]) for at in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    raise ValueError("expected http://HOST:PORT or unix:///PATH")
