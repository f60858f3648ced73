"""Where a page of a search begins: a token that whoever holds it gives back.

It holds a digest of the search, so that it cannot be used for another, and the name behind which to go on. It
is not signed: all that a made-up one could do is to begin a search of one's own somewhere else. So it is good
at every worker of every sidecar, and after any restart.
"""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from sidecar.api.authzen.wire import document_of
from sidecar.errors import Problem
from sidecar.text import shapes

if TYPE_CHECKING:
    from sidecar.api.authzen.wire import Search
    from sidecar.errors import BadQuestion

_DIGEST = 16
_LIMIT = 2
_NO_LIMIT = 0xFFFF


def start_of(search: Search) -> tuple[str, int | None]:
    """Behind which name the page begins (empty: at the start), and the limit of the first page.

    BadQuestion if the token is of another search.
    """
    if search.token is None:
        return "", search.limit
    try:
        held = b64decode(search.token, altchars=b"-_", validate=True)
        after = held[_DIGEST + _LIMIT :].decode()
    except ValueError:
        raise _refusal("/page/token", "is no token that a search has answered with") from None
    if held[:_DIGEST] != _digest_of(search):
        raise _refusal("/page/token", "is of another search: all but the token stays as it was")
    number = int.from_bytes(held[_DIGEST : _DIGEST + _LIMIT])
    limit = None if number == _NO_LIMIT else number
    if search.limit is not None and search.limit != limit:
        raise _refusal("/page/limit", "is another one than that of the first page")
    return after, limit


def token_of(search: Search, *, after: str, limit: int | None) -> str:
    number = _NO_LIMIT if limit is None else limit
    return urlsafe_b64encode(_digest_of(search) + number.to_bytes(_LIMIT) + after.encode()).decode()


def _digest_of(search: Search) -> bytes:
    document = [search.kind, document_of(search.about)]
    return sha256(json.dumps(document, sort_keys=True).encode()).digest()[:_DIGEST]


def _refusal(pointer: str, detail: str) -> BadQuestion:
    return shapes.refusal((Problem(pointer=pointer, detail=detail),))
