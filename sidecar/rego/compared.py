"""Texts that are compared with a part of `input` or of the policy data which can never be that text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.rego.meaning import ANY, KEY
from sidecar.rego.results import Collected, called
from sidecar.rego.syntax.tree import Call, Comprehension, Infix, Pairs, Ref, Several, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.rego.declared import Declared
    from sidecar.rego.meaning import Meaning, Path
    from sidecar.rego.program import Scope
    from sidecar.rego.syntax.tree import Term

    Unknown = tuple[str, Text, Scope]  # the kind of name that was expected, and the text

_EQUAL = frozenset({"==", "!=", "=", ":=", "&", "-"})


class Comparisons:
    def __init__(self, meaning: Meaning, declared: Declared) -> None:
        self._meaning = meaning
        self._declared = declared

    def unknown_in(self, term: Term, scope: Scope) -> Iterator[Unknown]:
        """Of what *term* itself compares, not of what stands in it."""
        match term:
            case Infix(operator="in", left=left, right=right, keyed=keyed):
                if keyed and isinstance(left, Several):
                    yield from self._lookup(right, left.items[0], scope)
                    left = left.items[1]
                yield from self._membership(left, right, scope)
            case Infix(operator=operator, left=left, right=right) if operator in _EQUAL:
                yield from self.unknown_between(left, scope, right, scope)
            case Ref(head=head, steps=steps):
                for number, step in enumerate(steps):
                    before = Ref(at=term.at, head=head, steps=steps[:number]) if number else head
                    if not isinstance(step, Text):
                        yield from self._lookup(before, step, scope)
            case Call(function=function, arguments=arguments):
                yield from self._call(called(function), arguments, scope)
            case _:
                pass

    def _call(self, name: str, arguments: tuple[Term, ...], scope: Scope) -> Iterator[Unknown]:
        match name, arguments:
            case "object.get", (whole, key, _):
                yield from self._lookup(whole, key, scope)
            case "startswith", (whole, start):
                yield from self._part(whole, start, scope, str.startswith)
            case "endswith", (whole, end):
                yield from self._part(whole, end, scope, str.endswith)
            case _:
                pass

    def unknown_between(
        self, one: Term | Collected, of_one: Scope, other: Term | Collected, of_other: Scope
    ) -> Iterator[Unknown]:
        """The two are compared as wholes."""
        for left, of_left in self._meaning.values(one, of_one):
            for right, of_right in self._meaning.values(other, of_other):
                yield from self._item_by_item(left, of_left, right, of_right)
        yield from self._against(self._meaning.paths(one, of_one), one, of_one, other, of_other)
        yield from self._against(self._meaning.paths(other, of_other), other, of_other, one, of_one)

    def _item_by_item(
        self, left: Term | Collected, of_left: Scope, right: Term | Collected, of_right: Scope
    ) -> Iterator[Unknown]:
        match left, right:
            case Several(kind="array", items=lefts), Several(kind="array", items=rights):
                for one, other in zip(lefts, rights, strict=False):
                    yield from self.unknown_between(one, of_left, other, of_right)
            case Collected() | Comprehension() | Several() | Infix(), (
                Collected() | Comprehension() | Several() | Infix()
            ):
                yield from self._member_by_member(left, of_left, right, of_right)
                yield from self._member_by_member(right, of_right, left, of_left)
            case Pairs(items=lefts), Pairs(items=rights):
                named = {key.value: value for key, value in rights if isinstance(key, Text)}
                for key, value in lefts:
                    if isinstance(key, Text) and key.value in named:
                        yield from self.unknown_between(value, of_left, named[key.value], of_right)
            case _:
                pass

    def _member_by_member(
        self, one: Term | Collected, of_one: Scope, other: Term | Collected, of_other: Scope
    ) -> Iterator[Unknown]:
        """Any member of *other* may be any of *one*."""
        paths: set[Path] = set()
        for member, of in self._meaning.members(one, of_one):
            if not (found := self._meaning.paths(member, of)) and not self._meaning.texts(member, of):
                return  # it is not known what may stand there
            paths |= found
        for member, of in self._meaning.members(other, of_other):
            yield from self._against(frozenset(paths), one, of_one, member, of)

    def _against(
        self,
        paths: frozenset[Path],
        whole: Term | Collected,
        of_whole: Scope,
        term: Term | Collected,
        scope: Scope,
    ) -> Iterator[Unknown]:
        """*term* is compared with *whole*, which may be one of *paths*, or a text that is written there."""
        if not paths:
            return
        instead = {text.value for text, _ in self._meaning.texts(whole, of_whole)}
        for value, of in self._meaning.values(term, scope):
            match value:
                case Text():
                    yield from self._named(paths, value, of, instead)
                case Several(items=items):
                    below = frozenset((*path, ANY) for path in paths if KEY not in path)
                    for item in items:
                        yield from self._against(below, Collected(items=()), of_whole, item, of)
                case Pairs(items=pairs):
                    for key, item in pairs:
                        yield from self._in_object(paths, key, item, of)
                case _:
                    pass

    def _in_object(self, paths: frozenset[Path], key: Term, item: Term, scope: Scope) -> Iterator[Unknown]:
        nothing = Collected(items=())
        keys = frozenset((*path, KEY) for path in paths if KEY not in path)
        yield from self._against(keys, nothing, scope, key, scope)
        below = frozenset(
            (*path, name) for path in paths if KEY not in path for name in self._meaning.names_of(key, scope)
        )
        yield from self._against(below, nothing, scope, item, scope)

    def _membership(self, left: Term, right: Term, scope: Scope) -> Iterator[Unknown]:
        for member, of in self._meaning.members(right, scope):
            yield from self.unknown_between(left, scope, member, of)
        members = self._meaning.member_paths(right, scope)
        yield from self._against(members, right, scope, left, scope)

    def _lookup(self, container: Term, key: Term, scope: Scope) -> Iterator[Unknown]:
        for found, of in self._meaning.keys(container, scope):
            yield from self.unknown_between(key, scope, found, of)

    def _part(
        self, whole: Term, part: Term, scope: Scope, fits: Callable[[str, str], bool]
    ) -> Iterator[Unknown]:
        kinds = [kind for path in self._meaning.paths(whole, scope) if (kind := self._declared.kind_at(path))]
        for text, of in self._meaning.texts(part, scope):
            if kinds and not any(
                fits(name, text.value) for kind in kinds for name in self._declared.names[kind]
            ):
                yield kinds[0], text, of

    def _named(
        self, paths: frozenset[Path], text: Text, scope: Scope, instead: set[str]
    ) -> Iterator[Unknown]:
        kinds = [self._declared.kind_at(path) for path in paths]
        known = [kind for kind in kinds if kind is not None]
        if not known or len(known) < len(kinds) or text.value in instead:
            return
        if not any(text.value in self._declared.names[kind] for kind in known):
            yield known[0], text, scope
