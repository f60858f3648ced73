"""CORS: which origins' pages may read the answers of the routes that are for browsers.

Those are all routes below the first part of a path (`/workspaces`, `/plans`) that has any of them, so that a
path or a method that does not exist is told to a page like everything else. No other route says a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ALLOWED_HEADERS = "authorization, content-type, x-workspace-id, x-request-id, if-none-match"
EXPOSED_HEADERS = "ETag, Retry-After, X-Request-ID"
MAX_AGE_S = 7_200  # as long as Chromium keeps a preflight
ANY_PORT = ":*"
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_VARY = ("Vary", "Origin")


class Cors:
    """*origins* are listed; one that ends in `:*` stands for all ports, the usual one included.

    *paths* are templates of the routes that are for browsers.
    """

    def __init__(self, origins: Iterable[str], *, paths: Iterable[str]) -> None:
        listed = frozenset(origins)
        self._any_port = frozenset(each.removesuffix(ANY_PORT) for each in listed if each.endswith(ANY_PORT))
        self._exact = {each for each in listed if not each.endswith(ANY_PORT)} | self._any_port
        self._first_parts = frozenset(_first_part(path) for path in paths)

    def fields(self, path: str, origin: str | None) -> list[tuple[str, str]]:
        """What an answer at *path* says besides, to a page of *origin*."""
        if _first_part(path) not in self._first_parts:
            return []
        if origin is None or not self._is_listed(origin):
            return [_VARY]
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
            _VARY,
        ]

    def takes_preflight(self, path: str, origin: str | None) -> bool:
        return origin is not None and _first_part(path) in self._first_parts and self._is_listed(origin)

    def _is_listed(self, origin: str) -> bool:
        if origin in self._exact:
            return True
        host, _, port = origin.rpartition(":")
        return host in self._any_port and _PORT.fullmatch(port) is not None


def preflight_fields(methods: Iterable[str]) -> list[tuple[str, str]]:
    """What the answer to a preflight says beside `Cors.fields`: *methods* are those of the route."""
    return [
        ("Access-Control-Allow-Methods", ", ".join(sorted(methods))),
        ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
        ("Access-Control-Max-Age", str(MAX_AGE_S)),
    ]


def _first_part(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""
