"""Strong ETags: who has an answer already is told so, in place of the answer."""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request

_DIGITS = 32  # of the hash


def etag_of(body: bytes) -> str:
    return f'"{sha256(body).hexdigest()[:_DIGITS]}"'


def revalidated(reply: Reply, request: Request, *, cache: str) -> Reply:
    """*reply*, which is 200, with the ETag of its body; 304 without a body to who shows this ETag.

    *cache* is its Cache-Control.
    """
    status, headers, body = reply
    tag = etag_of(body)
    standing = [("ETag", tag), ("Cache-Control", cache)]
    if _is_known(tag, request.header("If-None-Match") or ""):
        return HTTPStatus.NOT_MODIFIED, standing, b""
    return status, [*headers, *standing], body


def _is_known(tag: str, shown: str) -> bool:
    """A gateway that compresses makes a weak tag of ours: that is compared weakly (RFC 9110 13.1.2)."""
    return shown.strip() == "*" or tag in [each.strip().removeprefix("W/") for each in shown.split(",")]
