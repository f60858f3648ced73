"""What JSON from outside may look like: a shape finds every problem in a value, and has a JSON Schema."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.errors import BadQuestion, Problem
from sidecar.text.encoding import Duplicated, document_from
from sidecar.text.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST_TEXT = 256
LONGEST_KEY = 255
DEEPEST = 8
MOST_PROBLEMS = 100  # of one body: an answer must not be many times larger than what asked for it
REQUIRED = "is required"
_SHOWN = 40
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9._:@-]{1,200}", re.ASCII)  # as the column's check has it


class Shape(Protocol):
    def problems(self, value: object, at: str, /) -> Iterator[Problem]:
        """*at* is the JSON pointer of *value*."""
        ...

    @property
    def schema(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Text:
    longest: int = LONGEST_TEXT
    shortest: int = 1

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield _expected("text", value, at)
        elif (value or self.shortest) and (fault := fault_in_text(value, longest=self.longest)):
            yield Problem(pointer=at, detail=fault)

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "string",
            "minLength": self.shortest,
            "maxLength": self.longest,
            "pattern": "^[^\\u0000]*$",
        }


@dataclass(frozen=True, slots=True)
class Whole:
    low: int
    high: int

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield _expected("a whole number", value, at)
        elif not self.low <= value <= self.high:
            yield Problem(pointer=at, detail=f"must be from {self.low} to {self.high}, got {shown(value)}")

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class OneOf:
    names: tuple[str, ...]

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield _expected("text", value, at)
        elif value not in self.names:
            yield Problem(
                pointer=at,
                detail=f"must be {' or '.join(self.names)}, got {shown(value)}",
                suggestion=nearest(value, self.names),
            )

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names)}


@dataclass(frozen=True, slots=True)
class Flag:
    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, bool):
            yield _expected("true or false", value, at)

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, as RFC 3339 writes it, from 1970 to 9999 in UTC."""

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield _expected("a time as text", value, at)
        elif moment_from(value) is None:
            wanted = 'a time such as "2030-01-31T12:00:00Z", from 1970 to 9999 in UTC'
            yield Problem(pointer=at, detail=f"must be {wanted}, got {shown(value)}")

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


@dataclass(frozen=True, slots=True)
class ExternalId:
    """An id of the application: it needs no escape in a path."""

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield _expected("text", value, at)
        elif not _EXTERNAL_ID.fullmatch(value):
            detail = f"must be 1 to 200 letters, digits and . _ : @ -, got {shown(value)}"
            yield Problem(pointer=at, detail=detail)

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_EXTERNAL_ID.pattern}$"}


@dataclass(frozen=True, slots=True)
class OrWord:
    """What *shape* takes, or one *word* (None: null)."""

    shape: Shape
    word: str | None

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if value != self.word:
            yield from self.shape.problems(value, at)

    @property
    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.shape.schema, {"type": "null"} if self.word is None else {"const": self.word}]}


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object of any names, at least *fewest* of them; each value is of *shape*."""

    shape: Shape
    fewest: int = 0

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield _expected("an object", value, at)
            return
        if len(value) < self.fewest:
            yield Problem(pointer=at, detail=f"must name at least {self.fewest}, or be left out")
        for name, each in value.items():
            if problem := _problem_with_name(name, value, at):
                yield problem
            else:
                yield from self.shape.problems(each, below(at, name))

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": Text().schema,
            "additionalProperties": self.shape.schema,
            **({"minProperties": self.fewest} if self.fewest else {}),
        }


@dataclass(frozen=True, slots=True)
class ListOf:
    shape: Shape
    longest: int
    shortest: int = 1

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield _expected("a list", value, at)
        elif not self.shortest <= len(value) <= self.longest:
            wanted = f"{self.shortest} to {self.longest}"
            yield Problem(pointer=at, detail=f"must hold {wanted} of them, got {len(value)}")
        else:
            for place, each in enumerate(value):
                yield from self.shape.problems(each, f"{at}/{place}")

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "array",
            "items": self.shape.schema,
            "minItems": self.shortest,
            "maxItems": self.longest,
        }


@dataclass(frozen=True, slots=True)
class Record:
    """An object of these *fields* and no others."""

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield _expected("an object", value, at)
            return
        for name, each in value.items():
            if problem := _problem_with_name(name, value, at):
                yield problem
            elif name not in self.fields:
                yield Problem(
                    pointer=below(at, name),
                    detail="is not a field here",
                    suggestion=nearest(name, self.fields),
                )
            else:
                yield from self.fields[name].problems(each, below(at, name))
        for name in self.required:
            if name not in value:
                yield Problem(pointer=below(at, name), detail=REQUIRED)

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {name: shape.schema for name, shape in self.fields.items()},
            "required": list(self.required),
            "additionalProperties": False,
        }


@dataclass(frozen=True, slots=True)
class Either:
    """An object like *usual*, or like *other* if one of the fields *by* is there."""

    usual: Record
    other: Record
    by: tuple[str, ...]

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        other = isinstance(value, dict) and any(name in value for name in self.by)
        yield from (self.other if other else self.usual).problems(value, at)

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "object", "anyOf": [self.usual.schema, self.other.schema]}


@dataclass(frozen=True, slots=True)
class Open:
    """An object of these *fields* and whatever else: what is not known is not looked at, null is absent."""

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield _expected("an object", value, at)
            return
        for name in value.names if isinstance(value, Duplicated) else ():
            if not fault_in_text(name):
                yield Problem(pointer=below(at, name), detail="is there more than once")
        for name, shape in self.fields.items():
            each = value.get(name)
            if each is not None:
                yield from shape.problems(each, below(at, name))
            elif name in self.required:
                yield Problem(pointer=below(at, name), detail=REQUIRED)

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                name: shape.schema if name in self.required else OrWord(shape, None).schema
                for name, shape in self.fields.items()
            },
            "required": list(self.required),
        }


FREE_OBJECT: dict[str, Any] = {"type": "object", "additionalProperties": True}


@dataclass(frozen=True, slots=True)
class Anything:
    """Any JSON that is clean: finite numbers, no NUL, no name twice, and not too deep."""

    deepest: int = DEEPEST
    kind: type = object
    also: dict[str, Any] = field(default_factory=dict)

    def problems(self, value: object, at: str) -> Iterator[Problem]:
        if self.kind is dict and not isinstance(value, dict):
            yield _expected("an object", value, at)
        else:
            yield from self._problems(value, at, self.deepest)

    def _problems(self, value: object, at: str, deepest: int) -> Iterator[Problem]:
        if isinstance(value, str):
            if value and (fault := fault_in_text(value, longest=len(value))):
                yield Problem(pointer=at, detail=fault)
        elif not _is_held(value):
            yield Problem(pointer=at, detail="is a number too large to hold")
        elif isinstance(value, dict | list) and not deepest:
            yield Problem(pointer=at, detail=f"is nested more than {self.deepest} levels deep")
        elif isinstance(value, list):
            for place, each in enumerate(value):
                yield from self._problems(each, f"{at}/{place}", deepest - 1)
        elif isinstance(value, dict):
            for name, each in value.items():
                if problem := _problem_with_name(name, value, at):
                    yield problem
                else:
                    yield from self._problems(each, below(at, name), deepest - 1)

    @property
    def schema(self) -> dict[str, Any]:
        return {**(FREE_OBJECT if self.kind is dict else {}), **self.also}


def _is_held(value: object) -> bool:
    """Whether every reader of JSON here can hold it, if it is a number."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return not isinstance(value, float) or isfinite(value)


def problems_with(value: object, shape: Shape, *, at: str = "") -> tuple[Problem, ...]:
    return tuple(islice(shape.problems(value, at), MOST_PROBLEMS))


def check(raw: bytes, shape: Shape) -> dict[str, Any]:
    """The object that *raw* is, once it is of *shape*; BadQuestion with every problem."""
    value = document_from(raw)
    if problems := problems_with(value, shape):
        raise refusal(problems)
    if not isinstance(value, dict):
        raise TypeError("a body is an object")
    return value


def refusal(problems: tuple[Problem, ...]) -> BadQuestion:
    return BadQuestion(
        "the request has a problem" if len(problems) == 1 else f"the request has {len(problems)} problems",
        problems=problems,
    )


def fault_in_text(text: str, *, longest: int = LONGEST_TEXT) -> str | None:
    """What is wrong with *text* in words, or None."""
    if not text:
        return "must not be empty"
    if "\0" in text:
        return "must not hold a NUL"
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        return "must not hold half of a surrogate pair"
    if len(text) > longest:
        return f"must be at most {longest} characters long, got {len(text)}"
    return None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def moment_from(text: str) -> datetime | None:
    """In UTC; None for what is no time, or lies outside of what Python and PostgreSQL read alike."""
    if not _RFC_3339.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # with its offset it may lie before year 1, or after 9999
        return None
    return moment if moment >= _EPOCH else None


def below(at: str, name: str) -> str:
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"


def shown(value: object) -> str:
    """*value* in a few words, whoever sent it."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            text = json.dumps(value)
            return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _expected(what: str, value: object, at: str) -> Problem:
    return Problem(pointer=at, detail=f"expected {what}, got {shown(value)}")


def _problem_with_name(name: str, within: dict[str, Any], at: str) -> Problem | None:
    # A pointer that holds the bad name could itself not be sent: the fault is told of the object.
    if fault := fault_in_text(name):
        return Problem(pointer=at, detail=f"the name of a field {fault}")
    if isinstance(within, Duplicated) and name in within.names:
        return Problem(pointer=below(at, name), detail="is there more than once")
    return None
