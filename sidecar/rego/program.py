"""All policies of a folder as one program: which rules there are, and where each variable comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from typing import Literal as OneOf

from sidecar.rego.syntax.parser import module_in
from sidecar.rego.syntax.tokens import NotRego
from sidecar.rego.syntax.tree import Infix, Ref, Several, Var
from sidecar.rego.syntax.walk import comprehensions_in, terms_in, terms_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.rego.syntax.tree import Comprehension, Import, Literal, Module, Query, Rule, Term

Name: TypeAlias = tuple[str, ...]  # of a rule: its package, and its own


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """A rule, and the file in which it stands."""

    rule: Rule
    file: str
    module: Module

    @property
    def name(self) -> Name:
        return (*self.module.package, self.rule.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """A variable is *term*, or one of its members or keys; *key* of a step is any key of *term*."""

    how: OneOf["is", "member", "key"]
    term: Term
    scope: Scope


@dataclass(slots=True, kw_only=True, eq=False)
class Scope:
    """One body. *parameters* are those of the function, by name, with their position.

    *visited* is where a variable goes through the keys of what it stands behind, unless it has an origin.
    """

    written: Written
    outer: Scope | None = None
    origins: dict[str, list[Origin]] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    visited: dict[str, list[Origin]] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    heads: list[Term] = field(default_factory=list)

    def origins_of(self, name: str) -> list[Origin]:
        found = list(self.origins.get(name, ()))
        if name not in self.declared and self.outer:
            found += self.outer.origins_of(name)
        return found

    def visits_of(self, name: str) -> list[Origin]:
        found = list(self.visited.get(name, ()))
        if name not in self.declared and self.outer:
            found += self.outer.visits_of(name)
        return found

    def is_declared(self, name: str) -> bool:
        return name in self.declared or bool(self.outer and self.outer.is_declared(name))

    def parameter(self, name: str) -> int | None:
        if name in self.parameters:
            return self.parameters[name]
        return self.outer.parameter(name) if self.outer and name not in self.declared else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """*unread* are the files that are not Rego; *scopes* are all bodies, *inner* those of comprehensions.

    *at* has the scope of each branch of a rule, in their order.
    """

    modules: Mapping[str, Module]
    unread: Mapping[str, NotRego]
    rules: Mapping[Name, list[Written]]
    packages: frozenset[Name]
    scopes: list[Scope]
    inner: Mapping[Comprehension, Scope]
    at: Mapping[Rule, list[Scope]]

    def rule_before(self, path: tuple[object, ...]) -> Name | None:
        """The rule that *path* leads to or into: *path* is without `data`."""
        for length in range(1, len(path) + 1):
            if path[:length] in self.rules:
                return tuple(str(step) for step in path[:length])
        return None


def imported(module: Module, name: str) -> Import | None:
    return next((each for each in module.imports if each.name == name), None)


def program_of(texts: Mapping[str, str]) -> Program:
    """*texts* is path → Rego."""
    modules: dict[str, Module] = {}
    unread: dict[str, NotRego] = {}
    for path, text in texts.items():
        try:
            modules[path] = module_in(text)
        except NotRego as error:
            unread[path] = error
    rules: dict[Name, list[Written]] = {}
    found = _Scopes()
    for path, module in modules.items():
        for rule in module.rules:
            written = Written(rule=rule, file=path, module=module)
            rules.setdefault(written.name, []).append(written)
            found.add(written)
    packages = {
        module.package[:length] for module in modules.values() for length in range(len(module.package) + 1)
    }
    return Program(
        modules=modules,
        unread=unread,
        rules=rules,
        packages=frozenset(packages),
        scopes=found.scopes,
        inner=found.inner,
        at=found.at,
    )


class _Scopes:
    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.inner: dict[Comprehension, Scope] = {}
        self.at: dict[Rule, list[Scope]] = {}

    def add(self, written: Written) -> None:
        rule = written.rule
        for branch in rule.branches:
            scope = self._opened(written)
            for position, parameter in enumerate(rule.parameters or ()):
                if isinstance(parameter, Var):
                    scope.parameters[parameter.name] = position
                scope.heads.append(parameter)
            scope.heads += rule.head.steps if isinstance(rule.head, Ref) else ()
            scope.heads += [each for each in (rule.element, branch.value) if each is not None]
            self._fill(scope, branch.body)
            self.at.setdefault(rule, []).append(scope)

    def _opened(self, written: Written, outer: Scope | None = None) -> Scope:
        scope = Scope(written=written, outer=outer)
        self.scopes.append(scope)
        return scope

    def _fill(self, scope: Scope, query: Query) -> None:
        scope.queries.append(query)
        for literal in query:
            self._bind(literal, scope)
        outermost = [*scope.heads, *(term for literal in query for term in terms_of(literal))]
        for term in outermost:
            for each in terms_in(term):
                if isinstance(each, Ref):
                    _bind_steps(each, scope)
            for comprehension in comprehensions_in(term):
                inner = self._opened(scope.written, scope)
                self.inner[comprehension] = inner
                inner.heads += [each for each in (comprehension.key, comprehension.value) if each]
                self._fill(inner, comprehension.body)

    def _bind(self, literal: Literal, scope: Scope) -> None:
        match literal.kind:
            case "some":
                scope.declared |= {name.name for name in literal.names if isinstance(name, Var)}
            case "some in":
                scope.declared |= {name.name for name in literal.names if isinstance(name, Var)}
                _bind_members(literal, scope, of=scope)
            case "every":
                inner = self._opened(scope.written, scope)
                inner.declared |= {name.name for name in literal.names if isinstance(name, Var)}
                _bind_members(literal, inner, of=scope)
                self._fill(inner, literal.body)
            case _ if isinstance(literal.term, Infix) and literal.term.operator in {":=", "="}:
                _bind_equal(literal.term.left, literal.term.right, scope)
                if literal.term.operator == "=":
                    _bind_equal(literal.term.right, literal.term.left, scope)
                else:
                    scope.declared |= _variables_in(literal.term.left)


def _bind_members(literal: Literal, scope: Scope, *, of: Scope) -> None:
    if literal.term is None:
        return
    for name, how in zip(reversed(literal.names), ("member", "key"), strict=False):
        if isinstance(name, Var):
            origin = Origin(how="member" if how == "member" else "key", term=literal.term, scope=of)
            scope.origins.setdefault(name.name, []).append(origin)


def _bind_equal(left: Term, right: Term, scope: Scope) -> None:
    """A variable, or arrays of the same length, item by item."""
    match left, right:
        case Var(name=name), _:
            scope.origins.setdefault(name, []).append(Origin(how="is", term=right, scope=scope))
        case Several(kind="array", items=lefts), Several(kind="array", items=rights):
            for one, other in zip(lefts, rights, strict=False):
                _bind_equal(one, other, scope)
        case _:
            pass


def _bind_steps(ref: Ref, scope: Scope) -> None:
    """In `xs[x]` a variable that comes from nowhere else goes through the keys of xs."""
    for number, step in enumerate(ref.steps):
        if isinstance(step, Var) and step.name != "_":
            before = Ref(at=ref.at, head=ref.head, steps=ref.steps[:number]) if number else ref.head
            origin = Origin(how="key", term=before, scope=scope)
            scope.visited.setdefault(step.name, []).append(origin)


def _variables_in(pattern: Term) -> set[str]:
    return {each.name for each in terms_in(pattern) if isinstance(each, Var)}


def bodies_of(program: Program) -> Iterator[tuple[Scope, Term]]:
    """Each outermost term of each body and head, with its scope."""
    for scope in program.scopes:
        for term in scope.heads:
            yield scope, term
        for query in scope.queries:
            for literal in query:
                for term in terms_of(literal):
                    yield scope, term
