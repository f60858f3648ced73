"""JSON in and out: with msgspec where it is to be fast, strictly where it comes from somebody unknown."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec

from sidecar.errors import BadQuestion

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 64  # levels of any JSON from outside: more would end the stack of whoever walks through it
_SHOWN = 40
_T = TypeVar("_T")
Raw = msgspec.Raw  # a value as the JSON text that stands there
Record = msgspec.Struct  # what `decoder_of` makes fastest
_MOST_DIGITS = 64  # of a whole number, far beyond any that is taken: Python gives up at some thousand
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_BRACKETS = bytes(octet for octet in range(256) if octet not in _STEPS)
# The JSON of a document; a time in UTC ends in Z.
encoded: Callable[[object], bytes] = msgspec.json.Encoder().encode


class Duplicated(dict[str, Any]):
    """A JSON object in which *names* stand more than once; the last of each is its value."""

    names: frozenset[str] = frozenset()


def embedded(raw: bytes) -> object:
    """JSON text that stands as it is inside of a document to be encoded."""
    return msgspec.Raw(raw)


def decoded(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    """The value of JSON from a trusted source; of a repeated name the last value. ValueError for no JSON."""
    return msgspec.json.decode(raw)


def decoder_of(of: type[_T]) -> Callable[[bytes], _T]:
    """Reads JSON as *of*, a Record; other fields are skipped. ValueError for what is not that."""
    return msgspec.json.Decoder(of).decode


def raw_fields(raw: bytes) -> dict[str, bytes]:
    """The fields of a JSON object from a trusted source, each as the text that stands there."""
    return {name: bytes(text) for name, text in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).items()}


def without_strings(raw: bytes) -> bytes:
    """JSON text without its strings, names included."""
    return _STRING.sub(b"", raw)


def is_too_deep(raw: bytes) -> bool:
    """Whether JSON text has more than `DEEPEST` levels; it is not parsed."""
    if raw.count(b"{") + raw.count(b"[") <= DEEPEST:
        return False
    brackets = without_strings(raw).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEEPEST


def document_from(raw: bytes, *, errors: str = "strict") -> object:
    """The value that JSON text stands for, objects as `Duplicated` where a name is there twice.

    *errors* are those of `bytes.decode`. BadQuestion ``malformed_json`` for what is not JSON; where they are
    strict, also for more than any reader of it could hold.
    """
    is_strict = errors == "strict"
    try:
        text = raw.decode(errors=errors)
        if is_strict:
            _refuse_depth(raw)
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_finite if is_strict else float,
            parse_int=_whole if is_strict else _number,
        )
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise BadQuestion(f"the body is not JSON: {reason}", code="malformed_json")


def _refuse_depth(raw: bytes) -> None:
    if is_too_deep(raw):
        raise ValueError(f"nested too deeply, more than {DEEPEST} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    twice = Duplicated(value)
    twice.names = frozenset(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value] # add returns None: "and remember it"
    return twice


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:_SHOWN]}… is a number too large to hold")
    return int(text)


def _number(text: str) -> int | float:
    return int(text) if len(text) <= _MOST_DIGITS else float(text)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text[:_SHOWN]} is a number too large to hold")
    return value
