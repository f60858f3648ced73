"""A client that sends the very bytes it is given, and tells answers apart as the protocol does."""

from __future__ import annotations

import json
import re
import socket
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.serving.meanwhile import QUESTION, request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.serving.serving import Sidecar

_WITHIN_S = 9.0  # longer than a head or its answer may take
_QUIET_S = 0.15
_WITHOUT_BODY = {204, 304}
_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    line: str  # the first one
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """None too where it is there twice: no client would know which one is meant."""
        values = [value for each, value in self.headers if each == name]
        return values[0] if len(values) == 1 else None

    @property
    def closes(self) -> bool:
        return "close" in (self.header("connection") or "").lower()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.json.get("code") if self.header("content-type") == "application/problem+json" else None


class Talk:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.stream = connection.makefile("rb")

    def send(self, content: bytes) -> None:
        """As much as the other side takes: it may have answered already, and closed."""
        with suppress(ConnectionError):
            self._connection.sendall(content)

    def half_close(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def answer(self, method: str = "POST") -> Answer:
        """The next one, to a request by *method*. Fails if the connection ends, or nothing comes."""
        answer = self.answer_if_any(method)
        assert answer is not None, "the connection has ended"
        return answer

    def answer_if_any(self, method: str = "POST") -> Answer | None:
        """None: the connection has ended. Fails if nothing comes at all."""
        with suppress(ConnectionError):
            if line := self.stream.readline():
                return self._rest(line, method)
        return None

    def has_ended(self) -> bool:
        """Without another byte. Fails if it goes on, and nothing comes."""
        with suppress(ConnectionError):
            return self.stream.read(1) == b""
        return True

    def _rest(self, line: bytes, method: str) -> Answer:
        assert line.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), line
        assert line.endswith(b"\r\n"), line
        first, status, headers = line.decode().strip(), int(line[9:12]), []
        while (line := self.stream.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), line
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon, line
            headers.append((name.lower(), value.strip()))
        answer = Answer(line=first, status=status, headers=tuple(headers), body=b"")
        if status < 200 or status in _WITHOUT_BODY or method == "HEAD":
            return answer
        length = answer.header("content-length")
        assert length is not None, headers
        body = self.stream.read(int(length))
        assert len(body) == int(length)
        return Answer(line=first, status=status, headers=tuple(headers), body=body)

    def is_quiet(self) -> bool:
        """Whether nothing more comes by itself; the end of the connection is nothing too."""
        self._connection.settimeout(_QUIET_S)
        try:
            with suppress(ConnectionError):
                return self.stream.read(1) in {b"", None}
        except TimeoutError:
            return True
        finally:
            self._connection.settimeout(_WITHIN_S)
        return True


@contextmanager
def talking(sidecar: Sidecar) -> Iterator[Talk]:
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=_WITHIN_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk = Talk(connection)
        with closing(talk.stream):
            yield talk


def counted_at(place: Path, names: Sequence[str]) -> dict[str, int]:
    """The counters of one worker with these *names*, by its Unix socket: by name and labels.

    This request is one of those that it counts.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_WITHIN_S)
        connection.connect(str(place))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as stream:
            text = stream.read().decode()
    found = re.findall(rf"^((?:{'|'.join(names)})(?:{{[^}}]*}})?) (\S+)$", text, re.MULTILINE)
    return {name: int(float(count)) for name, count in found}  # from a million on it is 1e+06


def read_by(place: Path) -> dict[str, int]:
    """How many requests the lane and gunicorn's protocol have read; this one, by gunicorn, included."""
    found = counted_at(place, ["sidecar_requests_total"])
    return {name.split('"')[1]: count for name, count in found.items()}


def a_question(*lines: str, body: bytes = QUESTION, **more: str) -> tuple[str, bytes]:
    """An id that nobody else has, and a question that has it."""
    number = f"odd-{next(_numbers)}"
    return number, request("POST", more.get("path", "/v1/authorize"), body, f"X-Request-ID: {number}", *lines)


def goes_on_or_has_ended(talk: Talk, last: Answer) -> bool:
    """The connection has ended, or is where it should be: the next request gets its own answer, and one."""
    number, content = a_question()
    talk.send(content)
    answer = talk.answer_if_any()
    if answer is None:
        return True
    assert not last.closes, "it answers though it said that it would close"
    assert (answer.status, answer.header("x-request-id")) == (200, number)
    return talk.is_quiet()
