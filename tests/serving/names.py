"""A name server that knows one address, and may fall silent; and what makes a process ask it and no other."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_PLACE = ("127.0.0.53", 53)  # the port is fixed in resolv.conf(5)
_HEADER, _A, _FIVE_WORDS_OF_HEADER = 12, 1, ">HHHHH"


class NameServer:
    """Every name is 127.0.0.1, for no time at all. OSError where that port is not ours to take."""

    def __init__(self) -> None:
        self.silent = False
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(_PLACE)

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
                    self._socket.sendto(_answer(query), place)


def _answer(query: bytes) -> bytes:
    end = query.index(b"\0", _HEADER) + 5
    [kind] = struct.unpack(">H", query[end - 4 : end - 2])
    count = 1 if kind == _A else 0
    head = query[:2] + struct.pack(_FIVE_WORDS_OF_HEADER, 0x8180, 1, count, 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 0, 4) + bytes((127, 0, 0, 1))
    return head + query[_HEADER:end] + record * count


def asking_it(folder: Path) -> tuple[str, ...]:
    """To stand before a command: it sees a resolv.conf of its own."""
    of_its_own = folder / "resolv.conf"
    of_its_own.write_text(f"nameserver {_PLACE[0]}\noptions timeout:5 attempts:2\n")
    mount = f'mount --bind {of_its_own} /etc/resolv.conf && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, "sh")
