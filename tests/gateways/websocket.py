"""As much of WebSocket as a handshake and one short text need, on both ends (RFC 6455)."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedIOBase

# The example in section 1.3 of the RFC.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FIELDS = ("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")
HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", *FIELDS)
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASK = b"\x0f\xf0\x55\xaa"
_MASKED = 0x80
_TEXT = 0x81


def accept_of(key: str) -> str:
    digest = sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    return b64encode(digest).decode()


def a_text(text: bytes, *, masked: bool) -> bytes:
    """One frame; *text* is shorter than 126 octets. A client's is masked, a server's is not."""
    if masked:
        return bytes([_TEXT, _MASKED | len(text)]) + _MASK + _masked(text)
    return bytes([_TEXT, len(text)]) + text


def read_text(stream: BufferedIOBase) -> bytes:
    """Empty at the end of the stream, and for anything but a short text."""
    head = stream.read(2)
    if len(head) < 2 or head[0] != _TEXT:
        return b""
    if head[1] & _MASKED:
        assert stream.read(4) == _MASK
        return _masked(stream.read(head[1] & ~_MASKED))
    return stream.read(head[1])


def _masked(text: bytes) -> bytes:
    return bytes(octet ^ _MASK[place % 4] for place, octet in enumerate(text))
