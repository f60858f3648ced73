"""Shapes of nodes, and the walk that validates nodes by them: every difference is a finding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from sidecar.catalog.finding import Finding, nearest
from sidecar.catalog.read import (
    DOUBTFUL,
    Broken,
    Doubtful,
    Fields,
    Items,
    Nothing,
    Number,
    Text,
    Truth,
    described,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sidecar.catalog.read import Node

_SWITCHES = (("on", "off"), ("yes", "no"))
MOST_ENTRIES = 1000  # in one list or mapping, to bound the cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Text that *pattern* matches whole; *says* completes "expected …"."""

    pattern: str
    says: str
    code: str = "bad_text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def says(self) -> str:
        return " or ".join(self.words)

    @property
    def switch(self) -> tuple[str, str] | None:
        """The two words for true and false, where there are such: then quotes make no difference."""
        return next((pair for pair in _SWITCHES if {*pair} <= {*self.words}), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The name of a *kind* that the file declares; *verb* joins the referring item and the name.

    The words in *also* stand for something else than a declared name.
    """

    kind: str
    verb: str
    also: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        name = f"the name of {'an' if self.kind == 'action' else 'a'} {self.kind}"
        return " or ".join([name, *self.also])


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number from *low* to *high*, or *word*; if there are any *among*, one of those."""

    low: int
    high: int
    word: str | None = None
    among: tuple[int, ...] = ()
    code: str = "bad_number"

    @property
    def says(self) -> str:
        if self.among:
            return " or ".join(map(str, self.among))
        numbers = str(self.low) if self.low == self.high else f"a whole number from {self.low} to {self.high}"
        return f"{numbers}, or the word {self.word}" if self.word else numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    says: str = "true or false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anything:
    """Any value: it is not validated here."""

    says: str = "anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list; *or_one* takes a single item for a list of one."""

    item: Shape
    says: str
    least: int = 0
    unique: bool = True
    or_one: bool = False
    noun: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf:
    """A mapping of names to values; *noun* is what one of them is called. No name is one of *reserved*."""

    key: Line | Reference
    value: Shape
    says: str
    noun: str
    least: int = 0
    most: int = MOST_ENTRIES
    reserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    shape: Shape
    says: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A mapping with named fields; exactly one of each group in *one_of* is required."""

    fields: Mapping[str, Field]
    says: str = "a mapping"
    one_of: tuple[tuple[str, ...], ...] = ()
    least: int = 0
    or_nothing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """A mapping as *record* says, or *other*."""

    record: Record
    other: Shape
    says: str


Shape: TypeAlias = Line | Words | Reference | Whole | Flag | Anything | ListOf | MapOf | Record | Either


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose value is validated: *owner* is `plan "pro"`, at *line* and *column*; *part* is its field."""

    owner: str
    line: int
    column: int
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.part} of {self.owner}" if self.part else self.owner


@dataclass(slots=True, kw_only=True)
class Walk:
    """Compares nodes with shapes. *declared* holds the names of each kind; without a kind, all are known.

    What `sound` returns has the form of its shape, with `Broken` for invalid parts, so that they are not
    reported again. A misspelt name is replaced by the suggested one.
    """

    source: str
    declared: dict[str, Collection[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _suggestions_left: int = 200  # each costs a comparison with every name

    def find(self, code: str, message: str, node: Node, suggestion: str | None = None) -> None:
        self.findings.append(
            Finding(
                source=self.source,
                line=node.line,
                column=node.column,
                code=code,
                message=message,
                suggestion=suggestion,
            )
        )

    def sound(self, node: Node, shape: Shape, place: Place) -> Node:
        node = self._switched(node, shape)
        match node, shape:
            case (Broken(), _) | (_, Anything()):
                return node
            case Fields(), Either():
                return self._record(node, shape.record, place)
            case Text() | Number() | Items(), Either():
                return self.sound(node, shape.other, place)
            case Items(), ListOf():
                return self._items(node, shape, place)
            case _, ListOf(or_one=True):
                return self._items(Items(node.line, node.column, (node,)), shape, place)
            case Fields(), MapOf():
                return self._map(node, shape, place)
            case Fields(), Record():
                return self._record(node, shape, place)
            case Nothing(), Record(or_nothing=True):
                return Fields(node.line, node.column, {}, {})
            case _:
                return self._scalar(node, shape, place)

    def _switched(self, node: Node, shape: Shape) -> Node:
        """The text, where *shape* has a word for true or false: both readings of YAML are the same then."""
        match shape, node:
            case Either(other=inner), _:
                return self._switched(node, inner)
            case ListOf(item=inner, or_one=True), Truth() | Doubtful():
                return self._switched(node, inner)
            case Words(switch=(true, false)), Truth(value=value):
                return Text(node.line, node.column, true if value else false)
            case Words(switch=(_, _)), Doubtful(word=word) if word in shape.words:
                place = (node.line, node.column, DOUBTFUL)
                self.findings[:] = [
                    each for each in self.findings if (each.line, each.column, each.code) != place
                ]
                return Text(node.line, node.column, word)
            case _:
                return node

    def _scalar(self, node: Node, shape: Shape, place: Place) -> Node:
        match node, shape:
            case Text(), Line() | Reference() | Words():
                return self._text(node, shape, place)
            case Number(), Whole():
                return self._number(node, shape, place)
            case Text(value=value), Whole(word=word) if word is not None:
                return (
                    node if value == word else self._wrong(node, shape, place, self._nearest(value, [word]))
                )
            case Truth(), Flag():
                return node
            case _:
                return self._wrong(node, shape, place)

    def _wrong(self, node: Node, shape: Shape, place: Place, suggestion: str | None = None) -> Broken:
        code = shape.code if isinstance(shape, Whole) else "wrong_type"
        hint = ""
        if isinstance(shape, Whole) and isinstance(node, Text) and node.value.isdecimal():
            hint = ": leave out the quotes"
        elif isinstance(shape, Line) and isinstance(node, Number | Truth):
            hint = ": put it in quotes"
        self.find(code, f"{place}: expected {shape.says}, got {described(node)}{hint}", node, suggestion)
        return Broken(node.line, node.column)

    def _text(self, node: Text, shape: Line | Reference | Words, place: Place) -> Node:
        if isinstance(shape, Reference):
            says = f'{place.owner} {shape.verb} "{shortened(node.value)}"'
            return self._reference(node, shape, says)
        pattern = shape.pattern if isinstance(shape, Line) else "|".join(shape.words)
        if re.fullmatch(pattern, node.value):
            return node
        code, words = (shape.code, ()) if isinstance(shape, Line) else ("bad_word", shape.words)
        message = f"{place}: expected {shape.says}, got {described(node)}"
        self.find(code, message, node, self._nearest(node.value, words))
        return Broken(node.line, node.column)

    def _reference(self, node: Text, shape: Reference, says: str) -> Node:
        kind, known = shape.kind, self.declared.get(shape.kind)
        if known is None or node.value in known:
            if known and node.value in shape.also:
                self.find("ambiguous_name", f"{says}, which is also the name of a {kind}: rename that", node)
            return node
        if node.value in shape.also:
            return node
        near = self._nearest(node.value, [*known, *shape.also])
        self.find(f"unknown_{kind}", f"{says}, which does not exist", node, near)
        return Broken(node.line, node.column)

    def _number(self, node: Number, shape: Whole, place: Place) -> Node:
        if shape.low <= node.value <= shape.high and (not shape.among or node.value in shape.among):
            return node
        suggestion = shape.word if node.value < 0 else None
        return self._wrong(node, shape, place, suggestion)

    def _items(self, node: Items, shape: ListOf, place: Place) -> Node:
        if not self._of_good_size(node, len(node.items), shape.least, MOST_ENTRIES, place):
            return Broken(node.line, node.column)
        items: list[Node] = []
        seen: set[str] = set()
        for number, item in enumerate(node.items, start=1):
            here = place
            if shape.noun:
                here = Place(owner=f"{shape.noun} {number}", line=item.line, column=item.column)
            items.append(self.sound(item, shape.item, here))
            if shape.unique and isinstance(item, Text) and not isinstance(items[-1], Broken):
                if item.value in seen:
                    self.find("duplicate_item", f'{place}: "{item.value}" is there twice', item)
                seen.add(item.value)
        return Items(node.line, node.column, tuple(items))

    def _map(self, node: Fields, shape: MapOf, place: Place) -> Node:
        if not self._of_good_size(node, len(node.values), shape.least, shape.most, place):
            return Broken(node.line, node.column)
        values: dict[str, Node] = {}
        for name, value in node.values.items():
            key = node.keys[name]
            self._name(key, shape, place)
            inner = f'{shape.noun} "{shortened(name)}"'
            owner = f"{inner} of {place.owner}" if isinstance(shape.key, Reference) else inner
            values[name] = self.sound(
                value, shape.value, Place(owner=owner, line=key.line, column=key.column)
            )
        return self._with_what_was_meant(node, values, self._known(shape.key))

    def _name(self, key: Text, shape: MapOf, place: Place) -> None:
        if isinstance(shape.key, Reference):
            self.sound(key, shape.key, place)
        elif key.value.startswith(("feature:", "role:")):
            self.find(
                "reserved_name",
                f'{shape.noun} "{shortened(key.value)}": names that begin with feature: or role: are made',
                key,
            )
        elif key.value in shape.reserved:
            names = " and ".join(shape.reserved)
            self.find(
                "reserved_name",
                f'{shape.noun} "{key.value}": {names} are flags of every workspace already (OFREP)',
                key,
            )
        elif not re.fullmatch(shape.key.pattern, key.value):
            lower = key.value.lower().replace(" ", "_")
            self.find(
                shape.key.code,
                f'{shape.noun} "{shortened(key.value)}": expected {shape.key.says}',
                key,
                lower if re.fullmatch(shape.key.pattern, lower) and lower not in shape.reserved else None,
            )

    def _record(self, node: Fields, shape: Record, place: Place) -> Node:
        values: dict[str, Node] = {}
        for name, value in node.values.items():
            key = node.keys[name]
            if name in shape.fields:
                here = Place(owner=place.owner, line=key.line, column=key.column, part=name)
                values[name] = self.sound(value, shape.fields[name].shape, here)
            else:
                self.find(
                    "unknown_field",
                    f'{place} has no field "{shortened(name)}"',
                    key,
                    self._nearest(name, [other for other in shape.fields if other not in node.values]),
                )
        record = self._with_what_was_meant(node, values, shape.fields)
        self._all_there(record, shape, place)
        return record

    def _all_there(self, record: Fields, shape: Record, place: Place) -> None:
        at = Broken(place.line, place.column)
        for name, each in shape.fields.items():
            if each.required and name not in record.values:
                self.find("missing_field", f"{place} has no {name}: expected {each.shape.says}", at)
        for group in shape.one_of:
            there = [name for name in group if name in record.values]
            if not there:
                self.find("missing_field", f"{place} has none of {', '.join(group)}: write one of them", at)
            for name in there[1:]:
                self.find(
                    "conflicting_fields",
                    f"{place} has {there[0]} and {name}: keep one of them",
                    record.keys.get(name, at),
                )
        if len(record.keys) < shape.least:  # what is misspelt is told already
            self.find("empty", f"{place} is empty: expected {shape.says}", record)

    def _with_what_was_meant(
        self, node: Fields, values: dict[str, Node], known: Collection[str] | None
    ) -> Fields:
        """*values* with misspelt names corrected, so that they are not reported as missing too."""
        for name, key in node.keys.items():
            if known is not None and name not in known and (meant := self._nearest(name, known)):
                values.setdefault(meant, Broken(key.line, key.column))
        return Fields(node.line, node.column, values, node.keys)

    def _known(self, key: Line | Reference) -> Collection[str] | None:
        return self.declared.get(key.kind) if isinstance(key, Reference) else None

    def _of_good_size(self, node: Node, size: int, least: int, most: int, place: Place) -> bool:
        if size < least and size:
            self.find("too_few", f"{place} has {size} of the {least} entries that it needs", node)
        elif size < least:
            self.find("empty", f"{place} is empty: write at least one", node)
        elif size > most:
            self.find("too_many", f"{place} has {size} entries: at most {most} make sense", node)
        return least <= size <= most

    def _nearest(self, name: str, known: Collection[str]) -> str | None:
        if not self._suggestions_left:
            return None
        self._suggestions_left -= 1
        return nearest(name, known)
