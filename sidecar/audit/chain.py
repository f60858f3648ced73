"""The chain of a decision log: the seal of each line covers the seal before, so no line can be changed alone.

A seal is the SHA-256 of the previous seal's bytes and of the line's own bytes before ``,"h":``. Bytes are
hashed as they stand: nothing is parsed or put in order.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import b2a_base64
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST = b"policy-sidecar decision log 1\n"
SEAL = b',"h":'
_LENGTH, _BYTES, _PAD = 43, 32, "="
_APART = 44  # characters of 33 bytes
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def first_head(writer: str) -> bytes:
    """What takes the place of the previous seal in the first line of *writer*."""
    return sha256(FIRST + writer.encode()).digest()


def next_head(previous: bytes, line: bytes) -> bytes:
    """The seal, 32 bytes, of a line; *line* is what stands in it before ``,"h":``."""
    return sha256(previous + line).digest()


def shown(head: bytes) -> str:
    """The seal as text: base64url without padding, 43 characters."""
    return urlsafe_b64encode(head)[:_LENGTH].decode()


def head_in(text: str) -> bytes | None:
    """The seal that *text* shows; None if it is no seal, or is written otherwise than `shown` does."""
    try:
        head = urlsafe_b64decode(text.encode() + _PAD.encode())
    except ValueError:
        return None
    return head if len(head) == _BYTES and shown(head) == text else None


def last_sealed(lines: bytes) -> tuple[int, bytes] | None:
    """Number and seal of the last of whole lines that `Chain.seal` has made; None of none."""
    last = lines[lines.rfind(b"\n", 0, -1) + 1 :]
    line, _, seal = last.rpartition(SEAL)
    head = head_in(seal[1 : 1 + _LENGTH].decode())
    return None if head is None else (int(line.rpartition(b":")[2]), head)


class Chain:
    """The end of one writer's log: how many lines it has, and the last one's seal."""

    __slots__ = ("_form", "head", "n", "writer")

    def __init__(self, writer: str) -> None:
        """*writer* is plain text: it stands in each line as it is."""
        self.writer = writer
        self.n = 0
        self.head = first_head(writer)
        self._form = b'%%b,"writer":"%b","n":%%d' % writer.encode().replace(b"%", b"%%")

    def seal(self, line: bytes) -> bytes:
        """The whole line with its newline. *line* is a JSON object with a field, without its last brace."""
        return self.seal_all([line])

    def seal_all(self, lines: Iterable[bytes]) -> bytes:
        """As `seal`, of several in one text."""
        n, head, form = self.n, self.head, self._form
        numbered, heads = [], []
        for line in lines:
            n += 1
            text = form % (line, n)
            head = sha256(head + text).digest()
            numbered.append(text)
            heads.append(head)
        self.n, self.head = n, head
        # As `shown`, of all in one go: a byte more makes the bytes of each a multiple of three.
        seals = b2a_base64(b"\0".join([*heads, b""]), newline=False).translate(_URL_SAFE)
        sealed: list[bytes] = []
        for place, text in enumerate(numbered):
            at = place * _APART
            sealed += text, b',"h":"', seals[at : at + _LENGTH], b'"}\n'
        return b"".join(sealed)

    @property
    def longest_seal(self) -> int:
        """The most bytes that `seal` adds to a line."""
        return len(self._form) + 20 + len(SEAL) + _LENGTH + 4
