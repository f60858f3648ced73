"""Replies become the bytes of a response, whoever has read the request: who asks cannot tell."""

from __future__ import annotations

from email.utils import formatdate
from time import time
from typing import TYPE_CHECKING

from sidecar.serving.application import STATUS_LINES

if TYPE_CHECKING:
    from sidecar.api.reply import Reply

_SERVER = "gunicorn/asgi"


def response(reply: Reply, *, method: str, is_1_0: bool, keeps: bool) -> bytes:
    """To a request by *method*, of HTTP/1.0 or 1.1; *keeps*: the connection stays."""
    status, headers, body = reply
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    closes = "" if keeps else "Connection: close\r\n"
    if keeps and is_1_0:
        closes = "Connection: keep-alive\r\n"
    version = "HTTP/1.0" if is_1_0 else "HTTP/1.1"
    text = f"{version} {STATUS_LINES[status]}\r\n{lines}{closes}{standing()[0]}\r\n"
    return text.encode("latin-1") + (body if method != "HEAD" else b"")


_moment, _lines = 0, ("", b"")


def standing() -> tuple[str, bytes]:
    """What every response says, as text and as bytes; its date is of this second."""
    global _moment, _lines
    now = int(time())
    if now != _moment:
        said = f"Server: {_SERVER}\r\nDate: {formatdate(now, usegmt=True)}\r\n"
        _moment, _lines = now, (said, said.encode())
    return _lines
