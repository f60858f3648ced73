"""Masks: a value in a decision log becomes a code, the same for equal values, that only a key can tell."""

from __future__ import annotations

import hmac
import json

PREFIX = "mac:"
_DIGITS = 16


def mac_of(key: bytes, value: object) -> str:
    """``mac:`` and 16 digits of the HMAC-SHA-256 of a text's UTF-8, or of the JSON of any other value."""
    text = (
        value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    ).encode(errors="surrogatepass")
    return PREFIX + hmac.digest(key, text, "sha256").hex()[:_DIGITS]


def key_in(content: bytes) -> bytes:
    """The key in a key file: its bytes without the line break that editors add."""
    return content.removesuffix(b"\n").removesuffix(b"\r")
