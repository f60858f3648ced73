"""Ids: our own are random, 128 bits in hexadecimal, of decisions, reservations and requests; and UUIDs."""

from __future__ import annotations

import re
import secrets
from threading import local

_AT_ONCE = 256
_DIGITS = 32
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_LENGTH_OF_UUID = 36


def fresh_id() -> str:
    return _store.taken()


def is_uuid(text: str) -> bool:
    """Whether it is a UUID as it is usually written: with hyphens, in either case."""
    return len(text) == _LENGTH_OF_UUID and _UUID.fullmatch(text) is not None


class _Store(local):
    """Asked of the system for many at a time, which costs as much as for one. Each thread has its own.

    A fork would copy what is left of it, but whoever forks here has made none yet.
    """

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def taken(self) -> str:
        if self._at == len(self._digits):
            self._digits = secrets.token_hex(_AT_ONCE * _DIGITS // 2)
            self._at = 0
        begin, self._at = self._at, self._at + _DIGITS
        return self._digits[begin : self._at]


_store = _Store()
