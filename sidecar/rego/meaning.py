"""What a term of a policy may be, as far as its text says: parts of `input` or `data`, or values written out.

It follows imports, variables, rules and arguments. What it does not understand means nothing, so that no
finding comes from a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from sidecar.rego.program import Origin, imported
from sidecar.rego.results import Collected, called, results_of, values_of
from sidecar.rego.syntax.tree import Call, Comprehension, Infix, Pairs, Ref, Scalar, Several, Text, Var

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sidecar.rego.program import Name, Program, Scope
    from sidecar.rego.results import Meant
    from sidecar.rego.syntax.tree import Term

T = TypeVar("T")


class Step:
    """A step of a path that has no name."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


ANY: Final = Step("ANY")  # some member
KEY: Final = Step("KEY")  # not a member, but a key
Path: TypeAlias = "tuple[str | Step, ...]"
_DEEPEST = 120  # of questions within questions
_MOST = 500  # values of one term


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallSite:
    call: Call
    scope: Scope


class Meaning:
    """*calls* are all calls of each function; *calling* which of them counts, where one alone does."""

    def __init__(
        self,
        program: Program,
        *,
        calls: Mapping[Name, list[CallSite]] | None = None,
        calling: Mapping[Name, CallSite] | None = None,
    ) -> None:
        self._program = program
        self._calls = calls or {}
        self._calling = calling or {}
        self._looking: set[tuple[object, ...]] = set()

    # --- parts of input and data

    def paths(self, term: Term | Collected, scope: Scope) -> frozenset[Path]:
        """The parts of `input` and `data` that *term* may be, as ("input", "plan")."""
        return frozenset(self._once(("paths", term, scope), lambda: self._paths(term, scope)))

    def _paths(self, term: Term | Collected, scope: Scope) -> Iterator[Path]:
        match term:
            case Var(name=name):
                yield from self._paths_of_name(name, scope)
            case Ref(head=head, steps=steps):
                ways: list[Path] = [way for way in self.paths(head, scope) if KEY not in way]
                for step in steps:
                    names = self.names_of(step, scope)
                    ways = [(*way, name) for way in ways for name in names]
                for path in ways:
                    yield path
                    yield from self._behind(path)
                for value, of in self._looked_up(self.values(head, scope), steps, scope):
                    yield from self.paths(value, of)
            case Call(function=function, arguments=arguments):
                if called(function) == "object.get" and len(arguments) == len(("object", "key", "default")):
                    whole, key, otherwise = arguments
                    for rest in self._key_paths(key, scope):
                        yield from ((*way, *rest) for way in self.paths(whole, scope))
                    yield from self.paths(otherwise, scope)
                for value, of in self._results(function, scope):
                    yield from self.paths(value, of)
            case _:
                pass

    def _paths_of_name(self, name: str, scope: Scope) -> Iterator[Path]:
        module = scope.written.module
        origins = self._origins(name, scope)
        for origin in origins:
            match origin.how:
                case "is":
                    yield from self.paths(origin.term, origin.scope)
                case "member":
                    yield from self.member_paths(origin.term, origin.scope)
                case "key":
                    yield from ((*path, KEY) for path in self.paths(origin.term, origin.scope))
        if origins or self._is_local(name, scope):
            return
        found: Path = (name,) if name in {"input", "data"} else ()
        if (*module.package, name) in self._program.rules:
            found = ("data", *module.package, name)
        if named := imported(module, name):
            found = named.path
        if found:
            yield found
            yield from self._behind(found)

    def _behind(self, path: Path) -> Iterator[Path]:
        """Where the rule that *path* leads to stands for another part of input or data."""
        if path[:1] != ("data",) or (rule := self._program.rule_before(path[1:])) is None:
            return
        rest = path[1 + len(rule) :]
        for value, of in values_of(self._program, rule):
            for begun in self.paths(value, of):
                yield (*begun, *rest)

    def _key_paths(self, key: Term, scope: Scope) -> Iterator[Path]:
        """Of the second argument of object.get: a key, or an array of them."""
        for value, of in self.values(key, scope):
            match value:
                case Text(value=name):
                    yield (name,)
                case Several(kind="array", items=items):
                    yield tuple(name for item in items for name in self.names_of(item, of)[:1])
                case _:
                    pass
        if not self.values(key, scope):
            yield (ANY,)

    def names_of(self, step: Term, scope: Scope) -> list[str | Step]:
        """The names that *step* may be; ANY where that is not written out."""
        texts = [text.value for text, _ in self.texts(step, scope)]
        return [*texts] if texts and not self.paths(step, scope) else [ANY]

    def member_paths(self, term: Term | Collected, scope: Scope) -> frozenset[Path]:
        """The parts of `input` and `data` that members of *term* may be."""
        found = {(*path, ANY) for path in self.paths(term, scope) if KEY not in path}
        for value, of in self.members(term, scope):
            found |= self.paths(value, of)
        for value, of in self.values(term, scope):
            match value:
                case Call(function=function, arguments=(one,)) if called(function) == "object.keys":
                    found |= {(*path, KEY) for path in self.paths(one, of)}
        return frozenset(found)

    # --- values that are written out

    def values(self, term: Term | Collected, scope: Scope) -> list[Meant]:
        """The values that *term* may be: no variables, and nothing that is looked up."""
        return self._once(("values", term, scope), lambda: self._values(term, scope))

    def texts(self, term: Term | Collected, scope: Scope) -> list[tuple[Text, Scope]]:
        return [(value, of) for value, of in self.values(term, scope) if isinstance(value, Text)]

    def _values(self, term: Term | Collected, scope: Scope) -> Iterator[Meant]:
        match term:
            case Var(name=name):
                origins = self._origins(name, scope)
                for origin in origins:
                    yield from self._all(self._of_origin(origin))
                if not origins:
                    yield from self._of_rules(term, scope)
            case Ref(head=head, steps=steps):
                yield from self._of_rules(term, scope)
                yield from self._looked_up(self.values(head, scope), steps, scope)
            case Call(function=function, arguments=arguments):
                yield term, scope
                if called(function) == "object.get" and len(arguments) == len(("object", "key", "default")):
                    whole, key, otherwise = arguments
                    yield from self._looked_up(self.values(whole, scope), (key,), scope)
                    yield from self.values(otherwise, scope)
                yield from self._all(self._results(function, scope))
            case _:
                yield term, scope

    def _of_rules(self, term: Var | Ref, scope: Scope) -> Iterator[Meant]:
        for path in self.paths(term, scope):
            if path[0] == "data" and (rule := self._program.rule_before(path[1:])):
                yield from self._descended(values_of(self._program, rule), path[1 + len(rule) :])

    def _of_origin(self, origin: Origin) -> list[Meant]:
        match origin.how:
            case "is":
                return [(origin.term, origin.scope)]
            case "member":
                return self.members(origin.term, origin.scope)
            case "key":
                return self.keys(origin.term, origin.scope)

    def _all(self, meant: Iterable[Meant]) -> Iterator[Meant]:
        for term, scope in meant:
            yield from self.values(term, scope)

    def members(self, term: Term | Collected, scope: Scope) -> list[Meant]:
        """The terms that are members of what *term* may be; of an object its values."""
        return self._once(("members", term, scope), lambda: self._members(term, scope))

    def _members(self, term: Term | Collected, scope: Scope) -> Iterator[Meant]:
        for value, of in self.values(term, scope):
            match value:
                case Several(items=items):
                    yield from ((item, of) for item in items)
                case Pairs(items=pairs):
                    yield from ((item, of) for _, item in pairs)
                case Collected(items=collected):
                    yield from (item for _, item in collected)
                case Comprehension(value=item):
                    yield item, self._program.inner[value]
                case Infix(operator="|" | "&", left=left, right=right):
                    yield from (*self.members(left, of), *self.members(right, of))
                case Infix(operator="-", left=left):
                    yield from self.members(left, of)
                case Call(function=function, arguments=(one,)) if called(function) == "object.keys":
                    yield from self.keys(one, of)
                case Call(function=function, arguments=(one, other)) if called(function) == "array.concat":
                    yield from (*self.members(one, of), *self.members(other, of))

    def keys(self, term: Term | Collected, scope: Scope) -> list[Meant]:
        """By what one looks up in *term*: an object's keys, a set's members."""
        return self._once(("keys", term, scope), lambda: self._keys(term, scope))

    def _keys(self, term: Term | Collected, scope: Scope) -> Iterator[Meant]:
        for value, of in self.values(term, scope):
            match value:
                case Pairs(items=pairs):
                    yield from ((key, of) for key, _ in pairs)
                case Several(kind="set") | Infix(operator="|" | "&" | "-"):
                    yield from self.members(value, of)
                case Comprehension(kind="object", key=key) if key is not None:
                    yield key, self._program.inner[value]
                case Comprehension(kind="set", value=item):
                    yield item, self._program.inner[value]
                case Collected(items=collected):
                    yield from (key or item for key, item in collected)
                case _:
                    pass

    def _looked_up(self, found: list[Meant], steps: tuple[Term, ...], scope: Scope) -> list[Meant]:
        """What stands in *found* behind *steps*."""
        for step in steps:
            match step:
                case Scalar(written=written) if written.isdigit():
                    found = [item for value, of in found for item in _item(value, int(written), of)]
                case _:
                    found = self._descended(found, tuple(self.names_of(step, scope)[:1]))
            found = [meant for value, of in found for meant in self.values(value, of)]
        return found

    def _descended(self, found: list[Meant], steps: Path) -> list[Meant]:
        for step in steps:
            found = [each for value, of in found for each in self._below(value, of, step)]
            found = [meant for value, of in found for meant in self.values(value, of)]
        return found

    def _below(self, value: Term | Collected, scope: Scope, step: str | Step) -> Iterator[Meant]:
        if not isinstance(step, str):
            yield from self.members(value, scope)
            return
        pairs: Iterable[tuple[Meant | None, Meant]] = ()
        match value:
            case Pairs(items=items):
                pairs = [((key, scope), (item, scope)) for key, item in items]
            case Collected(items=items):
                pairs = items
            case _:
                pass
        for key, item in pairs:
            if key is None or any(text.value == step for text, _ in self.texts(*key)):
                yield item

    # --- variables and functions

    def function_called(self, function: Term, scope: Scope) -> Name | None:
        """Which of the program's own functions."""
        for path in self.paths(function, scope):
            name = tuple(str(step) for step in path[1:])
            if any(each.rule.parameters is not None for each in self._program.rules.get(name, ())):
                return name
        return None

    def _results(self, function: Term, scope: Scope) -> Iterator[Meant]:
        if name := self.function_called(function, scope):
            yield from results_of(self._program, name)

    def _origins(self, name: str, scope: Scope) -> list[Origin]:
        """Where a variable of the body comes from; nothing of a rule and of an import."""
        if (position := scope.parameter(name)) is not None:
            return self._arguments(scope.written.name, position)
        if not scope.is_declared(name) and self._is_known(name, scope):
            return []
        return scope.origins_of(name) or scope.visits_of(name)

    def _arguments(self, function: Name, position: int) -> list[Origin]:
        sites = [self._calling[function]] if function in self._calling else self._calls.get(function, [])
        return [
            Origin(how="is", term=site.call.arguments[position], scope=site.scope)
            for site in sites
            if position < len(site.call.arguments)
        ]

    def _is_local(self, name: str, scope: Scope) -> bool:
        return scope.is_declared(name) or scope.parameter(name) is not None

    def _is_known(self, name: str, scope: Scope) -> bool:
        module = scope.written.module
        known = imported(module, name) is not None or (*module.package, name) in self._program.rules
        return known or name in {"input", "data"}

    def _once(self, what: tuple[object, ...], look: Callable[[], Iterable[T]]) -> list[T]:
        """Nothing where it leads back to itself, or too deep."""
        if what in self._looking or len(self._looking) > _DEEPEST:
            return []
        self._looking.add(what)
        try:
            found: list[T] = []
            for each in look():
                found.append(each)
                if len(found) >= _MOST:
                    break
            return found
        finally:
            self._looking.discard(what)


def _item(value: Term | Collected, number: int, scope: Scope) -> list[Meant]:
    match value:
        case Several(kind="array", items=items) if number < len(items):
            return [(items[number], scope)]
    return []
