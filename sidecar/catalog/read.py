"""YAML as nodes with positions: the only reader of YAML here, and stricter than YAML is.

It refuses what YAML parsers read differently (`no`, `017`, `1:30`, `1e3`), hidden repetition (anchors,
aliases, merge keys), and invisible characters (tabs, control characters).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from sidecar.catalog.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

_Theirs: TypeAlias = Any  # an event or a mark of PyYAML: what fields they have, its stubs do not say

_YAMLS_OWN = "tag:yaml.org,2002:"
KIB = 1024
MAX_BYTES = 256 * KIB
MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class _Placed:
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Text(_Placed):
    value: str


@dataclass(frozen=True, slots=True)
class Number(_Placed):
    value: int


@dataclass(frozen=True, slots=True)
class Truth(_Placed):
    value: bool


@dataclass(frozen=True, slots=True)
class Nothing(_Placed):
    """An empty value, `~` or `null`."""


@dataclass(frozen=True, slots=True)
class Items(_Placed):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Fields(_Placed):
    """A mapping, in the file's order; *keys* says where each key stands."""

    values: Mapping[str, Node]
    keys: Mapping[str, Text]


@dataclass(frozen=True, slots=True)
class Broken(_Placed):
    """A value whose problem was reported already: later checks skip it."""


@dataclass(frozen=True, slots=True)
class Doubtful(Broken):
    """A word without quotes that is text to some readers of YAML and true or false to others."""

    word: str


Node: TypeAlias = Text | Number | Truth | Nothing | Items | Fields | Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """*root* is None where the text could not be read to its end."""

    root: Node | None
    findings: tuple[Finding, ...]


def document_in(raw: bytes, *, source: str) -> Document:
    reader = _Reader(source)
    try:
        root = reader.root(raw)
    except _Unreadable:
        root = None
    return Document(root=root, findings=tuple(reader.findings))


class _Unreadable(Exception):
    """Parsing cannot go on; the findings say why."""


# Control characters, line breaks that editors do not show as such, what turns the direction of text around
# or has no width, halves of surrogate pairs: a reviewer would not see them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_MOST_DIGITS = 18
_LONGEST_TRAP = 64
DOUBTFUL = "yaml_word"
_WORDS = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_SURPRISING_NUMBERS = (  # in this order: each is what the ones above are not
    (re.compile(r"[-+]?0o?[0-9_]+"), "an octal number to some readers of YAML"),
    (re.compile(r"[-+]?0[xX][0-9a-fA-F_]+"), "a hexadecimal number"),
    (re.compile(r"[-+]?0b[01_]+"), "a binary number"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*"), "a number with underscores"),
    (re.compile(r"\+[0-9]+"), "a number with a plus sign"),
    (
        re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"),
        "a number to the base of 60 to some readers of YAML",
    ),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"), "not a whole number"),
    (re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)"), "not a whole number"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?"), "a date to some readers of YAML"),
)
_SYNTAX = (  # PyYAML's message, and ours for the author of a price list
    (
        "mapping values are not allowed",
        "there is a second ': ' on this line: put the text in quotes, or begin a line",
    ),
    ("could not find expected ':'", "there is no ':' after this name"),
    ("expected <block end>", "the indentation of this line fits no line above it"),
    ("expected ',' or '}'", "a ',' or a closing '}' is missing"),
    ("expected ',' or ']'", "a ',' or a closing ']' is missing"),
    ("found unexpected end of stream", "the file ends within quotes"),
    ("found character", "this character cannot begin a word: put the text in quotes"),
    ("found unknown escape character", "no such escape after '\\': write '\\\\', or use single quotes"),
)


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self.findings: list[Finding] = []

    def root(self, raw: bytes) -> Node:
        if len(raw) > MAX_BYTES:
            self._find(
                "too_large", f"the file is larger than {MAX_BYTES // KIB} KiB: this cannot be a catalog", 1, 1
            )
            raise _Unreadable
        events = _Events(self._seen(self._decoded(raw)))
        try:
            return self._document(events)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            at = _placed(mark) if mark else events.at
            self._find("yaml_syntax", _in_plain_words(getattr(error, "problem", None) or str(error)), *at)
        except (ValueError, OverflowError):  # PyYAML, of "\UFFFFFFFF" and of %YAML 1.(5,000 digits)
            self._find("yaml_syntax", "this is no character and no number that there is", *events.at)
        raise _Unreadable

    def _decoded(self, raw: bytes) -> str:
        if raw.startswith(_UTF16):
            self._find("not_utf8", "the file is UTF-16: save it as UTF-8", 1, 1)
            raise _Unreadable
        raw = raw.removeprefix(_UTF8_MARK)
        try:
            return raw.decode().replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode().rpartition("\n")
            line = before[0].count("\n") + bool(before[1]) + 1
            self._find(
                "not_utf8",
                f"the byte 0x{raw[error.start]:02X} is not UTF-8: save the file as UTF-8",
                line,
                len(before[2]) + 1,
            )
            raise _Unreadable from None

    def _seen(self, text: str) -> str:
        """*text* without tabs; cut off where an invisible character could change its meaning."""
        readable = True
        for number, line in enumerate(text.split("\n"), start=1):
            for match in _UNSEEN.finditer(line):
                self._find("forbidden_character", _about_unseen(match[0]), number, match.start() + 1)
                readable = False
            if "\t" in line:
                self._find("tab", "a tab: use spaces", number, line.index("\t") + 1)
                readable = readable and bool(line[: line.index("\t")].strip() or not line.strip())
        if not readable:
            raise _Unreadable
        return text.replace("\t", " ")

    def _document(self, events: _Events) -> Node:
        events.next()  # the stream's start
        start = events.next()
        if isinstance(start, yaml.StreamEndEvent):
            self._find("empty_file", "the file is empty", 1, 1)
            raise _Unreadable
        if isinstance(start, yaml.DocumentStartEvent) and (start.version or start.tags):
            self._find(
                "yaml_directive", "a YAML directive: leave out the lines that begin with %", *events.at
            )
        root = self._node(events.next(), events, depth=1)
        events.next()  # the document's end
        if not isinstance(events.next(), yaml.StreamEndEvent):
            self._find("several_documents", "a second document begins here: leave out the '---'", *events.at)
        return root

    def _node(self, event: _Theirs, events: _Events, *, depth: int) -> Node:
        line, column = at = events.at
        if depth > MAX_DEPTH:
            self._find("too_deep", f"nested more than {MAX_DEPTH} levels deep", *at)
            raise _Unreadable
        if isinstance(event, yaml.AliasEvent):
            self._find("yaml_alias", f"the alias *{event.anchor}: write out what it stands for", *at)
            return Broken(*at)
        if event.anchor is not None:
            self._find("yaml_anchor", f"the anchor &{event.anchor}: leave it out", *at)
        node: Node
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := events.next(), yaml.SequenceEndEvent):
                items.append(self._node(inner, events, depth=depth + 1))
            node = Items(line, column, tuple(items))
        elif isinstance(event, yaml.MappingStartEvent):
            node = self._fields(events, at, depth=depth)
        else:
            node = self._scalar(event, at)
        if event.tag is not None:
            self._find("yaml_tag", f"the tag {event.tag.replace(_YAMLS_OWN, '!!')}: leave it out", *at)
        return node

    def _fields(self, events: _Events, at: tuple[int, int], *, depth: int) -> Node:
        complete = True
        values: dict[str, Node] = {}
        keys: dict[str, Text] = {}
        while not isinstance(event := events.next(), yaml.MappingEndEvent):
            key_at = events.at
            merges = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
            key = self._node(event, events, depth=depth + 1)
            value = self._node(events.next(), events, depth=depth + 1)
            if merges:
                self._find("yaml_merge", "the merge key <<: write out what it brings in", *key_at)
                complete = False
            elif isinstance(key, Text) and key.value in keys:
                first = keys[key.value].line
                self._find("duplicate_key", f'"{key.value}" is there twice, first on line {first}', *key_at)
            elif isinstance(key, Text):
                keys[key.value], values[key.value] = key, value
            elif not isinstance(key, Broken):
                self._find("bad_key", f"{described(key)} cannot be a name", *key_at)
        return Fields(*at, values, keys) if complete else Broken(*at)

    def _scalar(self, event: _Theirs, at: tuple[int, int]) -> Node:
        text = event.value
        if (unseen := _UNSEEN.search(text)) or "\t" in text:  # here only from an escape
            self._find("forbidden_character", _about_unseen(unseen[0] if unseen else "\t"), *at)
            return Broken(*at)
        if event.tag is not None:
            return Broken(*at)
        if event.style is not None:
            return Text(*at, text)
        if text in {"", "~", "null", "Null", "NULL"}:
            return Nothing(*at)
        if text in {"true", "false"}:
            return Truth(*at, text == "true")
        if _INTEGER.fullmatch(text) and len(text) <= _MOST_DIGITS:
            return Number(*at, int(text))
        if trap := _trap_in(text):
            self._find(*trap, *at)
            return Doubtful(*at, text.lower()) if trap[0] == DOUBTFUL else Broken(*at)
        return Text(*at, text)

    def _find(self, code: str, message: str, line: int, column: int) -> None:
        self.findings.append(
            Finding(source=self._source, line=line, column=column, code=code, message=message)
        )


class _Events:
    """PyYAML's events one by one: nothing is resolved or built, so an alias costs no more than its text."""

    def __init__(self, text: str) -> None:
        self._loader = yaml.SafeLoader(text)
        self._start: _Theirs = None

    def next(self) -> _Theirs:
        self._start = None
        event = self._loader.get_event()  # type: ignore[no-untyped-call]  # the stubs say nothing of it
        self._start = event.start_mark
        return event

    @property
    def at(self) -> tuple[int, int]:
        """Where the event that was read last begins, or where the reading stopped."""
        return _placed(self._start or self._loader.get_mark())


def described(node: Node) -> str:
    """*node* for a message that says what was found instead."""
    match node:
        case Text(value=value):
            return f'the text "{shortened(value)}"'
        case Number(value=value):
            return f"the number {value}"
        case Truth(value=value):
            return str(value).lower()
        case Items():
            return "a list"
        case Fields():
            return "a mapping"
        case _:
            return "nothing"


def plain(node: Node) -> Any:  # noqa: ANN401 - what json.loads would answer
    """A valid *node* as Python's own values."""
    match node:
        case Fields(values=values):
            return {key: plain(value) for key, value in values.items()}
        case Items(items=items):
            return [plain(item) for item in items]
        case Text(value=value) | Number(value=value) | Truth(value=value):
            return value
        case _:
            return None


def shortened(text: str) -> str:
    """*text* on one line, of a length that fits into a message."""
    longest = 60
    line = text.replace("\n", " ")
    return line if len(line) <= longest else f"{line[:longest]}…"


def _placed(mark: _Theirs) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _about_unseen(character: str) -> str:
    return f"the character U+{ord(character):04X} cannot be seen: leave it out"


def _trap_in(text: str) -> tuple[str, str] | None:
    """Code and message, if parsers read *text* without quotes differently."""
    if meant := _WORDS.get(text.lower()) if text in {text.lower(), text.upper(), text.title()} else None:
        return (
            DOUBTFUL,
            f"{text} means {meant} to some readers of YAML: write {meant}; text goes in quotes",
        )
    if _INTEGER.fullmatch(text):
        return "yaml_number", f"{shortened(text)} is larger than any number here may be"
    for pattern, what in _SURPRISING_NUMBERS:
        if len(text) <= _LONGEST_TRAP and pattern.fullmatch(text):
            return (
                "yaml_number",
                f"{shortened(text)} is {what}: write a whole number in plain digits; text goes in quotes",
            )
    return None


def _in_plain_words(problem: str) -> str:
    for theirs, ours in _SYNTAX:
        if theirs in problem:
            return f"this is not YAML: {ours}"
    return f"this is not YAML: {problem}"
