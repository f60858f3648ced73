"""A client of Envoy's gRPC `Check` that costs little: HTTP/2 frames already written, one call at a time.

grpcio's own client takes more of a processor than the server that it asks.
"""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import uvloop
from envoy.service.auth.v3 import external_auth_pb2

from benchmarks.load import Figures

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_FRAME_HEAD, _MESSAGE_HEAD = 9, 5
_WINDOW, _WINDOW_AT_FIRST = 2**31 - 1, 65_535
_INITIAL_WINDOW_SIZE = 4
_PATIENCE_S = 2.0  # with the last answers


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: str, value: str) -> bytes:
    """Of a header block: literal, and not to be remembered."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


_OPENING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _WINDOW))
    + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW - _WINDOW_AT_FIRST))
)
_ASKED = b"".join(
    (
        _field(":method", "POST"),
        _field(":scheme", "http"),
        _field(":path", "/envoy.service.auth.v3.Authorization/Check"),
        _field(":authority", "sidecar"),
        _field("content-type", "application/grpc"),
        _field("te", "trailers"),
    )
)


@dataclass(slots=True)
class _Tally:
    taken_s: list[float] = field(default_factory=list)
    denied: int = 0
    broken: int = 0
    waiting: int = 0
    asking: bool = True
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # nobody asks, and nobody waits

    def answered(self) -> None:
        self.waiting -= 1
        if not self.asking and not self.waiting:
            self.ended.set()


class _Caller(asyncio.Protocol):
    def __init__(self, messages: list[bytes], first: int, tally: _Tally) -> None:
        self._messages, self._next, self._tally = messages, first, tally
        self._received, self._message = bytearray(), b""
        self._stream, self._asked = -1, 0.0
        self._waits = False

    def connection_made(self, transport) -> None:
        self._transport = transport
        transport.write(_OPENING)
        self._ask()

    def _ask(self) -> None:
        self._stream += 2
        self._message = b""
        self._next = (self._next + 1) % len(self._messages)
        self._asked, self._waits = time.perf_counter(), True
        self._tally.waiting += 1
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, self._stream, _ASKED)
            + _frame(_DATA, _END_STREAM, self._stream, self._messages[self._next])
        )

    def data_received(self, data: bytes) -> None:
        self._received += data
        at, received = 0, self._received
        while len(received) - at >= _FRAME_HEAD:
            ending = at + _FRAME_HEAD + int.from_bytes(received[at : at + 3], "big")
            if ending > len(received):
                break
            self._take(received[at + 3], received[at + 4], bytes(received[at + _FRAME_HEAD : ending]))
            at = ending
        del received[:at]

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _DATA:
            self._message += payload
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _GOAWAY:
            self._transport.close()
        if kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
            self._answered()

    def _answered(self) -> None:
        self._waits = False
        self._tally.answered()
        if len(self._message) < _MESSAGE_HEAD:
            self._tally.broken += 1  # trailers alone: an error
        else:
            answer = external_auth_pb2.CheckResponse.FromString(self._message[_MESSAGE_HEAD:])
            self._tally.denied += answer.status.code != 0
            self._tally.taken_s.append(time.perf_counter() - self._asked)
        if self._tally.asking:
            self._ask()

    def connection_lost(self, error) -> None:
        if self._waits:
            self._waits = False
            self._tally.broken += 1
            self._tally.answered()

    def close(self) -> None:
        self._transport.close()


def messages_of(checks: list[tuple[str, str]]) -> list[bytes]:
    """Of each path and token, a `CheckRequest` as a gRPC message."""
    written = []
    for path, token in checks:
        headers = {"authorization": f"Bearer {token}"}
        http = {"method": "POST", "path": path, "host": "app.example", "headers": headers}
        request = external_auth_pb2.CheckRequest(attributes={"request": {"http": http}})
        message = request.SerializeToString()
        written.append(struct.pack(">BI", 0, len(message)) + message)
    return written


def check(port: int, messages: list[bytes], *, connections: int, seconds: int) -> Figures:
    """By *connections* callers, each with a connection of its own; each asks one question at a time."""
    return uvloop.run(_check(port, messages, connections=connections, seconds=seconds))


async def _check(port: int, messages: list[bytes], *, connections: int, seconds: int) -> Figures:
    loop, tally = asyncio.get_running_loop(), _Tally()
    callers = []
    began = time.perf_counter()
    for first in islice(range(0, connections * 37, 37), connections):
        _, caller = await loop.create_connection(
            partial(_Caller, messages, first % len(messages), tally), "127.0.0.1", port
        )
        callers.append(caller)
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    answered = len(tally.taken_s)
    tally.asking = False
    if tally.waiting:
        with suppress(TimeoutError):
            await asyncio.wait_for(tally.ended.wait(), _PATIENCE_S)
    late = tally.waiting
    for caller in callers:
        caller.close()
    return Figures.of(
        tally.taken_s[:answered], seconds=took, not_2xx=tally.denied, broken=tally.broken + late
    )
