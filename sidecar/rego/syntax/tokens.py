"""The tokens of Rego."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

KEYWORDS = frozenset(
    {
        "as",
        "contains",
        "default",
        "else",
        "every",
        "false",
        "if",
        "import",
        "in",
        "not",
        "null",
        "package",
        "some",
        "true",
        "with",
    }
)
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\n]*)
    |(?P<template>\$(?:"(?:[^"\\\n]|\\.)*"|`[^`]*`))
    |(?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    |(?P<number>(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<mark>:=|==|!=|<=|>=|[{}\[\]().,;:=<>|&+\-*/%])""",
    re.VERBOSE | re.ASCII,
)


class NotRego(Exception):
    """A text that is not Rego: *at* is where it ceases to be, *says* what was expected there."""

    def __init__(self, says: str, at: int) -> None:
        super().__init__(says)
        self.says = says
        self.at = at


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """*kind* is "text", "template", "number", "name" or "end"; keywords and marks are their own kind.

    *line_before* and *space_before*: whether a line ends, or a space stands, since the last token.
    """

    kind: str
    text: str
    at: int
    end: int
    line_before: bool
    space_before: bool

    @property
    def value(self) -> str:
        """Of a text in quotes, what it says."""
        if self.text.startswith("`"):
            return self.text[1:-1].replace("\r", "")
        try:
            return str(json.loads(self.text, strict=False))
        except ValueError as error:
            raise NotRego("this text has an escape that is none", self.at) from error


def tokens_of(text: str) -> list[Token]:
    """NotRego at the first character that begins no token."""
    found: list[Token] = []
    at, line_before, space_before = 0, True, True
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotRego(_what_is_wrong(text, at), at)
        kind, written = str(match.lastgroup), match[0]
        if kind == "space":
            line_before |= "\n" in written
            space_before = True
        else:
            if kind == "mark" or (kind == "name" and written in KEYWORDS):
                kind = written
            found.append(
                Token(
                    kind=kind,
                    text=written,
                    at=at,
                    end=match.end(),
                    line_before=line_before,
                    space_before=space_before,
                )
            )
            line_before = space_before = False
        at = match.end()
    found.append(Token(kind="end", text="", at=at, end=at, line_before=True, space_before=True))
    return found


def _what_is_wrong(text: str, at: int) -> str:
    if text[at] in {'"', "`"}:
        return "this text has no closing quote"
    if text[at] == "'":
        return "a text stands in double quotes"
    return f"no policy has the character {text[at]!r} here"
