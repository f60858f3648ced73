"""Variables that nothing gives a value: OPA refuses them, to the embedded engine they are undefined."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sidecar.catalog.finding import finding_at
from sidecar.rego.lint import ALLOWED_BUILTINS
from sidecar.rego.meaning import Meaning
from sidecar.rego.program import bodies_of, imported
from sidecar.rego.results import called
from sidecar.rego.syntax.tree import Call, Infix, Ref, Var
from sidecar.rego.syntax.walk import parts_of, terms_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.catalog.finding import Finding
    from sidecar.rego.program import Program, Scope
    from sidecar.rego.syntax.tree import Literal, Term

_ARITY = {"array.concat": 2, "endswith": 2, "object.get": 3, "startswith": 2}
_UNKNOWN_ARITY = 99


def unsafe_in(program: Program, *, texts: Mapping[str, str], folder: str) -> list[Finding]:
    bound = {id(scope): _bound_in(scope, program) for scope in program.scopes}
    found = {}
    for scope, outermost in bodies_of(program):
        for var in _read_in(outermost):
            if not _is_known(var.name, scope, program, bound):
                file = scope.written.file
                found[file, var.at] = finding_at(
                    texts[file],
                    var.at,
                    source=PurePosixPath(folder, file).as_posix(),
                    code="does_not_build",
                    message=f"{var.name} is no rule, and nothing gives it a value",
                )
    return sorted(found.values(), key=lambda each: each.order)


def _is_known(name: str, scope: Scope, program: Program, bound: Mapping[int, set[str]]) -> bool:
    module = scope.written.module
    if name in {"_", "input", "data"} or imported(module, name) or (*module.package, name) in program.rules:
        return True
    within: Scope | None = scope
    while within is not None:
        if name in bound[id(within)]:
            return True
        within = within.outer
    return False


def _read_in(term: Term) -> Iterator[Var]:
    """The variables in *term*, without the names of functions, and not in comprehensions."""
    match term:
        case Var():
            yield term
        case Call(function=function, arguments=arguments):
            for part in (*(function.steps if isinstance(function, Ref) else ()), *arguments):
                yield from _read_in(part)
        case _:
            for part in parts_of(term):
                yield from _read_in(part)


def _bound_in(scope: Scope, program: Program) -> set[str]:
    """Whatever may have a value: more than OPA would say, and never less."""
    found = {each.name for head in scope.written.rule.parameters or () for each in _read_in(head)}
    found |= scope.origins.keys() | scope.visited.keys()
    for query in scope.queries:
        for literal in query:
            found |= {var.name for term in _given_in(literal, scope, program) for var in _read_in(term)}
    for outermost in _outermost_of(scope):
        for term in terms_in(outermost):
            if isinstance(term, Ref):
                found |= {var.name for step in term.steps for var in _read_in(step) if step is not var}
    return found


def _outermost_of(scope: Scope) -> Iterator[Term]:
    yield from scope.heads
    for query in scope.queries:
        for literal in query:
            if literal.term is not None:
                yield literal.term


def _given_in(literal: Literal, scope: Scope, program: Program) -> Iterator[Term]:
    if literal.kind in {"some in", "every"}:
        yield from literal.names
    match literal.term:
        case Infix(operator=":=" | "=" as operator, left=left, right=right):
            yield left
            if operator == "=":
                yield right
        case Call(function=function, arguments=arguments) if len(arguments) > _arity(
            function, scope, program
        ):
            yield arguments[-1]  # Rego's other way to say result = f(x)


def _arity(function: Term, scope: Scope, program: Program) -> int:
    name = called(function)
    if name in ALLOWED_BUILTINS:
        return _ARITY.get(name, 1)
    own = Meaning(program).function_called(function, scope)
    return (
        max((len(each.rule.parameters or ()) for each in program.rules.get(own, ())), default=99)
        if own
        else 99
    )
