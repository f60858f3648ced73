"""A client that sends what it is told to, octet for octet: others would put a path right first."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self,
        target="/",
        *headers: str,
        method="GET",
        host="app.example",
        bearer=None,
        body="",
        timeout=10.0,
    ) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
        if bearer is not None:
            lines.append(f"Authorization: {bearer}")
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join([*lines, "", body]).encode("latin-1")
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(raw)
            received = b""
            while not _is_whole(received, head_only=method == "HEAD"):
                more = connection.recv(65_536)
                if not more:
                    break
                received += more
        first, by_name = _head_in(received)
        return Answer(
            status=int(first.split(" ")[1]), headers=by_name, body=received.partition(b"\r\n\r\n")[2]
        )

    def is_asking(self) -> bool:
        """Whether the sidecar is asked already: the root is no route, and it says so."""
        try:
            return self.ask("/", timeout=2).status == 403
        except (OSError, IndexError, ValueError):
            return False


def _head_in(received: bytes) -> tuple[str, dict[str, str]]:
    first, *rest = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    split = [line.partition(":") for line in rest]
    return first, {name.lower(): value.strip() for name, _, value in split}


def _is_whole(received: bytes, *, head_only: bool) -> bool:
    """Some gateways leave the connection open for a while where a client may still be sending."""
    if b"\r\n\r\n" not in received:
        return False
    length = _head_in(received)[1].get("content-length")
    body = received.partition(b"\r\n\r\n")[2]
    return head_only or (length is not None and len(body) >= int(length))
