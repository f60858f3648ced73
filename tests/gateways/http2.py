"""HTTP/2 on a plain connection, by the library h2: the end that serves, and a client's."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, RequestReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

Head = list[tuple[str, str]]
PREFACE_LINE = b"PRI * HTTP/2.0\r\n"
SETTINGS = "AAMAAABkAAQAAP__"  # what a client may say in HTTP2-Settings: 100 streams, a window of 64 KiB


def serve(
    read: Callable[[], bytes],
    write: Callable[[bytes], object],
    reached: Callable[[Head], object],
    *,
    upgraded_with: str | None = None,
) -> None:
    """Answer every request with 200 until the client goes.

    *upgraded_with* is the client's HTTP2-Settings, if the connection comes from an upgrade.
    """
    connection = H2Connection(H2Configuration(client_side=False))
    if upgraded_with is None:
        connection.initiate_connection()
    else:
        connection.initiate_upgrade_connection(upgraded_with.encode())
        _answer(connection, 1)  # the request that asked for the upgrade
    write(connection.data_to_send())
    while received := read():
        for event in connection.receive_data(received):
            if isinstance(event, RequestReceived):
                reached([(name.decode(), value.decode()) for name, value in event.headers])
                _answer(connection, event.stream_id)
        write(connection.data_to_send())


def _answer(connection: H2Connection, stream: int) -> None:
    connection.send_headers(stream, [(":status", "200")])
    connection.send_data(stream, b"served", end_stream=True)


def frames_of(*heads: Head, upgraded: bool = False) -> bytes:
    """What a client sends that does not wait for anything: the preface and a stream for each of *heads*."""
    return _asking(*heads, upgraded=upgraded)[0].data_to_send()


def exchange(
    connection: socket.socket, *heads: Head, then: bytes | None = None, within_s: float = 5
) -> list[str | None]:
    """The status of each stream, None where there is none.

    With *then* the streams stay open, and it is sent in those that are answered.
    """
    client, streams = _asking(*heads, ended=then is None)
    status: dict[int, str] = {}
    waiting = set(streams)
    ending = monotonic() + within_s
    try:
        connection.sendall(client.data_to_send())
        while waiting and (left := ending - monotonic()) > 0:
            connection.settimeout(left)
            if not (received := connection.recv(65_536)):
                break
            for event in client.receive_data(received):
                if isinstance(event, ResponseReceived):
                    status[event.stream_id] = dict(event.headers)[b":status"].decode()
                    if then is not None:
                        client.send_data(event.stream_id, then, end_stream=True)
                elif isinstance(event, StreamEnded | StreamReset):
                    waiting.discard(event.stream_id)
                elif isinstance(event, ConnectionTerminated):
                    waiting.clear()
            connection.sendall(client.data_to_send())
    except (ProtocolError, OSError):
        pass  # it speaks no HTTP/2, or not to such a client
    return [status.get(stream) for stream in streams]


def _asking(*heads: Head, upgraded: bool = False, ended: bool = True) -> tuple[H2Connection, list[int]]:
    # A client that attacks does not keep to what the library finds proper.
    configuration = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    client = H2Connection(configuration)
    if upgraded:
        client.initiate_upgrade_connection()
    else:
        client.initiate_connection()
    streams = []
    for head in heads:
        streams.append(client.get_next_available_stream_id())
        client.send_headers(streams[-1], head, end_stream=ended)
    return client, streams


def a_head(method: str, path: str, *headers: tuple[str, str]) -> Head:
    scheme, authority = (":scheme", "http"), (":authority", "app.example")
    # Pseudo-headers come first: `:protocol` may be among the others.
    return [
        (":method", method),
        scheme,
        authority,
        (":path", path),
        *sorted(headers, key=lambda each: each[0][0] != ":"),
    ]
