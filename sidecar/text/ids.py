"""Ids: our own are random, 128 bits in hexadecimal, of decisions, reservations and requests; and UUIDs."""

from __future__ import annotations

import os
import re
import secrets

_AT_ONCE = 256
_DIGITS = 32
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_LENGTH_OF_UUID = 36

_fresh: list[str] = []  # each is taken once, whatever thread takes it
os.register_at_fork(after_in_child=_fresh.clear)


def fresh_id() -> str:
    while True:
        try:
            return _fresh.pop()
        except IndexError:
            _make_more()


def fresh_ids(count: int) -> list[bytes]:
    """As many of them."""
    taken: list[str] = []
    while len(taken) < count:
        try:
            while len(taken) < count:
                taken.append(_fresh.pop())
        except IndexError:
            _make_more()
    return [each.encode() for each in taken]


def _make_more() -> None:
    # Asked of the system for many at a time, which costs as much as for one.
    digits = secrets.token_hex(_AT_ONCE * _DIGITS // 2)
    _fresh.extend(digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS))


def is_uuid(text: str) -> bool:
    """Whether it is a UUID as it is usually written: with hyphens, in either case."""
    return len(text) == _LENGTH_OF_UUID and _UUID.fullmatch(text) is not None
