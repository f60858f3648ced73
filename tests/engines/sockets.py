"""Servers that say exactly what a test wants to be said, on real sockets."""

from __future__ import annotations

import json
import re
import socket
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Heard:
    """What a server heard: head and body of each request in order, and how many connections brought them."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.stopping = Event()
        self.listener: socket.socket


@contextmanager
def server(talk: Callable[[socket.socket, Heard], None], *, path: Path | None = None) -> Iterator[Heard]:
    """*talk* has each connection to itself, in a thread; the connection is closed when it returns.

    It listens on a free port of 127.0.0.1, or on the Unix socket *path*.
    """
    heard = Heard()
    threads: list[Thread] = []
    connections: list[socket.socket] = []

    def converse(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the caller may hang up: many of these tests are about that
            talk(connection, heard)

    def accept() -> None:
        while not heard.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            heard.connections += 1
            connections.append(connection)
            thread = Thread(target=converse, args=(connection,))
            threads.append(thread)
            thread.start()

    family, address = (socket.AF_UNIX, str(path)) if path else (socket.AF_INET, ("127.0.0.1", 0))
    with socket.create_server(address, family=family) as listener:
        heard.listener = listener
        heard.url = f"unix://{path}" if path else f"http://127.0.0.1:{listener.getsockname()[1]}"
        threads.append(Thread(target=accept))
        threads[0].start()
        try:
            yield heard
        finally:
            heard.stopping.set()
            for each in (listener, *connections):  # wakes who waits in accept or recv
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


def request_on(connection: socket.socket, heard: Heard) -> bool:
    """Whether there was another request; *heard* notes it."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65_536)
        if not more:
            return False
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    while length and len(body) < int(length[1]):
        body += connection.recv(65_536)
    heard.heads.append(head)
    heard.bodies.append(body)
    return True


def response(body: object, *, status: str = "200 OK", headers: str = "") -> bytes:
    """*body* is bytes as they are, or is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


def saying(*replies: bytes) -> Callable[[socket.socket, Heard], None]:
    """Answer the requests of each connection with *replies*, then with the last of them, for ever."""

    def talk(connection: socket.socket, heard: Heard) -> None:
        for number in range(1_000_000):
            if not request_on(connection, heard):
                return
            connection.sendall(replies[min(number, len(replies) - 1)])

    return talk


def dripping(start: bytes, drop: bytes) -> Callable[[socket.socket, Heard], None]:
    """Send *start*, then a *drop* every few milliseconds until the caller has enough."""

    def talk(connection: socket.socket, heard: Heard) -> None:
        request_on(connection, heard)
        connection.sendall(start)
        while not heard.stopping.wait(0.01):
            connection.sendall(drop)

    return talk


def hanging_up_after(reply: bytes) -> Callable[[socket.socket, Heard], None]:
    """One answer a connection, and no word that it was the last."""

    def talk(connection: socket.socket, heard: Heard) -> None:
        request_on(connection, heard)
        connection.sendall(reply)

    return talk
