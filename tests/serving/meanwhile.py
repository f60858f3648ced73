"""Well-behaved clients that ask a sidecar without a break, and what they saw: statuses, waits, lost requests.

They run in processes of their own, so that a busy test does not make an answer look late.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

QUESTION = b'{"user":"adam","workspace":"acme","action":"recording.start"}'
_NAP_S = 0.005
PATIENCE_S = 15.0  # a client that waits longer for one answer reports it as never answered
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_CODE = re.compile(rb'"code":"([a-z_]+)"')


def request(method: str, path: str, body: bytes = b"", *lines: str) -> bytes:
    """Plain HTTP/1.1, without a Connection header."""
    typed = [f"Content-Type: application/json\r\nContent-Length: {len(body)}"] if body else []
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *typed, *lines])
    return head.encode("latin-1") + b"\r\n\r\n" + body


ASK = request("POST", "/v1/authorize", QUESTION)
HEALTH = request("GET", "/healthz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """*answers* counts by status, with the problem's code where there is one; waits are seconds of each.

    *late*: by how many seconds the clients' own process was woken too late, which is the machine's doing.
    """

    answers: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def worst_s(self) -> float:
        return max(self.waits, default=0.0)

    @property
    def p99_s(self) -> float:
        return _p99(self.waits)

    @property
    def noise_s(self) -> float:
        return _p99(self.late)


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


class Clients:
    """*kept* clients on one connection each, *fresh* ones with a new connection for every request."""

    def __init__(
        self, port: int, what: bytes = ASK, *, kept: int = 0, fresh: int = 0, pause_s: float = 0.02
    ) -> None:
        self._order = {
            "port": port, "what": what.decode("latin-1"), "kept": kept, "fresh": fresh, "pause_s": pause_s,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: Seen | None = None

    def __enter__(self) -> Self:
        """Each of them has had its first answer, or has been without one for a while."""
        command = [sys.executable, "-m", "tests.serving.meanwhile", json.dumps(self._order)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"asking\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        content, _ = self._process.communicate(timeout=PATIENCE_S + 10)
        said: dict[str, Any] = json.loads(content)
        self._seen = Seen(**said | {"answers": Counter(said["answers"])})

    @property
    def seen(self) -> Seen:
        """Once the context is left."""
        assert self._seen is not None
        return self._seen


class Others:
    """Clients that ask questions, and beside them a probe of /healthz: what peers must not make wait."""

    def __init__(
        self, port: int, what: bytes = ASK, *, kept: int = 4, fresh: int = 2, pause_s: float = 0.02
    ) -> None:
        self._clients = Clients(port, what, kept=kept, fresh=fresh, pause_s=pause_s)
        self._probe = Clients(port, HEALTH, kept=1, fresh=1, pause_s=0.01)

    def __enter__(self) -> Self:
        self._probe.__enter__()
        self._clients.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.__exit__(kind, error, trace)
        self._probe.__exit__(kind, error, trace)

    @property
    def seen(self) -> Seen:
        return self._clients.seen

    @property
    def health(self) -> Seen:
        return self._probe.seen


class _Asking:
    """Inside the process of its own: all clients on one loop until standard input ends."""

    def __init__(self, *, port: int, what: str, kept: int, fresh: int, pause_s: float) -> None:
        self._port, self._pause_s = port, pause_s
        self._keeping = what.encode("latin-1")
        self._closing = self._keeping.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        self._counts = kept, fresh
        self._first = asyncio.Semaphore(0)
        self._ends = asyncio.Event()
        self.seen: dict[str, Any] = {"answers": Counter(), "waits": [], "lost": [], "late": [], "refused": 0}

    async def run(self) -> None:
        kept, fresh = self._counts
        clients = [asyncio.create_task(self._client(keeps=True)) for _ in range(kept)]
        clients += [asyncio.create_task(self._client(keeps=False)) for _ in range(fresh)]
        waking = asyncio.create_task(self._wake_up())
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                for _ in clients:
                    await self._first.acquire()
        print("asking", flush=True)  # noqa: T201 - what the parent waits for
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        self._ends.set()
        await asyncio.gather(*clients, waking)

    async def _wake_up(self) -> None:
        while not self._ends.is_set():
            began = monotonic()
            await asyncio.sleep(_NAP_S)
            self.seen["late"].append(monotonic() - began - _NAP_S)

    async def _client(self, *, keeps: bool) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._ends.is_set():
            if streams is not None and streams[0].at_eof():
                streams[1].close()
                streams = None
            began = monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", self._port)
                    streams[1].write(self._keeping if keeps else self._closing)
                    answer, goes_on = await _answer(streams[0])
            except ConnectionRefusedError:  # nobody listens: nothing was asked
                self.seen["refused"] += 1
                await asyncio.sleep(0.05)
                continue
            except (OSError, EOFError, TimeoutError) as error:
                where = "kept" if keeps else "fresh"
                self.seen["lost"].append(f"{where}, after {monotonic() - began:.2f} s: {error!r}"[:200])
                goes_on = False
            else:
                self.seen["answers"][answer] += 1
            self.seen["waits"].append(monotonic() - began)
            self._first.release()
            if not (goes_on and keeps) and streams is not None:
                streams[1].close()
                streams = None
            with suppress(TimeoutError):
                # As long on average, and no two in step.
                await asyncio.wait_for(self._ends.wait(), self._pause_s * uniform(0.5, 1.5))  # noqa: S311
        if streams is not None:
            streams[1].close()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await (reader.readexactly(int(length[1])) if length else reader.read())
    status = head.split(b" ", 2)[1].decode()
    code = _CODE.search(body) if status >= "400" else None
    return f"{status} {code[1].decode()}" if code else status, length is not None and not _CLOSES.search(head)


if __name__ == "__main__":
    asking = _Asking(**json.loads(sys.argv[1]))
    asyncio.run(asking.run())
    print(json.dumps(asking.seen))  # noqa: T201 - what the parent reads
