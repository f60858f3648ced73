"""Values that JSON, a token, a header or a query can hold and something behind them cannot."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jwt

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0000-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59.999999-23:59",
    "2030-01-31T24:00:00Z",
    "2030-01-31T23:59:60Z",
    "2030-02-30T00:00:00Z",
    "2030-01-31T12:00:00+15:59",
    "2030-01-31T12:00:00+23:59",
    "2030-01-31T12:00:00-23:59",
    "2030-01-31T12:00:00+24:00",
    "10000-01-01T00:00:00Z",
    "294277-01-01T00:00:00Z",
    "2030-01-31T12:00:00Z BC",
    "infinity",
    "-infinity",
    "now",
    "epoch",
    "٢٠٣٠-01-31T12:00:00Z",
)
TEXTS = (
    *_DATES,
    "",
    " ",
    "a" * 256,
    "a" * 257,
    "a" * 9_000,
    "\0",
    "a\0b",
    "\x7f\x1b",
    "\uffff",
    "\ufdd0",
    "😀",
    "﷽" * 255,
    "İ",
    "ﬃ",
    "\u202ea",
    "'; DROP TABLE authz.workspaces; --",
    "{a,b}",
    '{"a',
    "\\",
    "%",
    "a/b",
    "..",
    "NULL",
    "NaN",
    "1e400",
    "00000000-0000-0000-0000-000000000000",
    "7" * 400,
    "-1",
    "0x10",
    "1_000",
)
# JSON, as it is sent.
RAW = (
    *(json.dumps(text).encode() for text in TEXTS),
    rb'"\ud800"',
    rb'"a\udfffb"',
    rb'"\ud83d\ude00"',
    rb'"\u0000"',
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b"1e400",
    b"-1e400",
    b"1e308",
    b"5e-324",
    b"-0.0",
    b"-0",
    b"0.1",
    b"1E2",
    b"9007199254740993",
    b"1e999999999",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1" + b"0" * 63,
    b"1" + b"0" * 400,
    b"-1" + b"0" * 400,
    b"9" * 5_000,
    b"1" + b"0" * 400 + b".5",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"true",
    b"null",
    b"[]",
    b"{}",
    b"01",
    b"[1,]",
    b"[" * 60 + b"]" * 60,
    b"[" * 987 + b"]" * 987,
    b"[" * 20_000 + b"]" * 20_000,
    b'{"a":' * 987 + b"1" + b"}" * 987,
    b'{"a":1,"a":2}',
    rb'{"\u0000":1}',
    rb'{"\ud800":1}',
    b'{"":1}',
    b'{"__proto__":1}',
    b'{"minutes":1e400}',
    b'{"minutes":9223372036854775808}',
    b'{"ip":1e308}',
    b'{"ip":18446744073709551615}',
    b'{"ip":"\\u0000"}',
    b'{"ip":' + b"[" * 7 + b"]" * 7 + b"}",
    b'{"ip":[1e308,5e-324,-0.0,9007199254740993]}',
)
# Percent-encoded, in a path or a query.
ENCODED = (
    *(quote(text, safe="") for text in TEXTS),
    "%FF",
    "%C0%80",
    "%ED%A0%80",
    "%",
    "%4",
    "%zz",
    "%EF%BF%BF",
)
# The octets of a header's value.
OCTETS = (
    *(text.encode() for text in TEXTS if "\0" not in text and "\x7f" not in text),
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\t",
    b",",
    b"a,b",
    b"a, b",
    b"9" * 5_000,
    b"=?utf-8?q?a?=",
)


def bodies(like: Any) -> Iterator[bytes]:
    """Of a body that is right: each value in it replaced by each in turn; and one more field."""
    for place in _places(like):
        text = json.dumps(_with(like, place, "@@")).encode()
        yield from (text.replace(b'"@@"', raw) for raw in RAW)
    yield from RAW


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        yield (*at, "more")
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield (*at, name)
        yield from _places(each, (*at, name))


def _with(value: Any, place: tuple[Any, ...], new: object) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _with(value[place[0]], place[1:], new) if len(place) > 1 else new
    return copy


def tokens(claims: dict[str, Any], secret: str) -> Iterator[str]:
    """Signed by *secret*: each claim, each part of the header, replaced by each value in turn."""
    for place in (*_places(claims), ("nbf",)):
        text = json.dumps(_with(claims, place, "@@")).encode()
        for raw in RAW:
            yield jwt.api_jws.encode(text.replace(b'"@@"', raw), secret, "HS256")
    _, payload, signature = jwt.encode(claims, secret, "HS256").split(".")
    for name in ("alg", "kid", "typ", "crit", "b64"):
        for raw in RAW:
            header = b'{"alg":"HS256","%b":%b}' % (name.encode(), raw)
            yield f"{urlsafe_b64encode(header).rstrip(b'=').decode()[:4_096]}.{payload}.{signature}"
