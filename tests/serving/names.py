"""A name server that knows a few addresses, and may fall silent; what makes a process ask it and no other."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_PORT = 53  # fixed in resolv.conf(5)
_HEADER, _A, _FIVE_WORDS_OF_HEADER = 12, 1, ">HHHHH"


class NameServer:
    """Every name is 127.0.0.1, but for those that *addresses* has; for no time at all.

    *place* is where it listens: test files that run at the same time need one each. OSError where that is not
    ours to take.
    """

    def __init__(self, *, place: str = "127.0.0.53", **addresses: str) -> None:
        self.silent = False
        self.asked = 0
        self.place = place
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((place, _PORT))

    def __enter__(self) -> Self:
        Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                query, place = self._socket.recvfrom(4_096)
                self.asked += 1
                if not self.silent:
                    self._socket.sendto(self._answer(query), place)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", _HEADER) + 5
        [kind] = struct.unpack(">H", query[end - 4 : end - 2])
        first = query[_HEADER + 1 : _HEADER + 1 + query[_HEADER]].decode()  # up to the first dot
        address = socket.inet_aton(self.addresses.get(first, "127.0.0.1"))
        count = 1 if kind == _A else 0
        head = query[:2] + struct.pack(_FIVE_WORDS_OF_HEADER, 0x8180, 1, count, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 0, 4) + address
        return head + query[_HEADER:end] + record * count


def may_have_a_name_server() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


def a_name_server(**more: str) -> NameServer:
    """Skips the test where nobody may have one."""
    if not may_have_a_name_server():
        pytest.skip("needs root and unshare(1): a resolv.conf of the sidecar's own, and port 53")
    return NameServer(**more)


def asking_it(folder: Path, names: NameServer) -> tuple[str, ...]:
    """To stand before a command: it sees a resolv.conf of its own."""
    of_its_own = folder / "resolv.conf"
    of_its_own.write_text(f"nameserver {names.place}\noptions timeout:5 attempts:2\n")
    mount = f'mount --bind {of_its_own} /etc/resolv.conf && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, "sh")
