"""Names in policies that nobody declared: in what is compared, in data that is read, in the context."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from sidecar.catalog.finding import finding_at, nearest
from sidecar.rego.calls import calls_in, ways_into
from sidecar.rego.compared import Comparisons
from sidecar.rego.meaning import KEY, Meaning
from sidecar.rego.program import bodies_of
from sidecar.rego.results import called
from sidecar.rego.syntax.tree import Call, Infix, Ref, Several, Text, Var
from sidecar.rego.syntax.walk import terms_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sidecar.catalog.finding import Finding
    from sidecar.rego.declared import Declared
    from sidecar.rego.meaning import Path
    from sidecar.rego.program import Name, Program, Scope
    from sidecar.rego.syntax.tree import Rule, Term

_FIELDS: Mapping[Path, Collection[str]] = {
    ("input",): ("action", "context", "overrides", "plan", "role", "room", "status"),
    ("input", "room"): ("fits_in", "waiting_helps"),
    ("input", "overrides"): ("features",),
}
# Elsewhere a name of policy data that is not there is a path that is not there.
_NAMED: Collection[Path] = (
    ("input", "context"),
    ("input", "overrides", "features"),
    ("data", "authz", "plans", "plans"),
)


def unknown_names_in(
    program: Program,
    texts: Mapping[str, str],
    *,
    declared: Declared,
    waiting: Mapping[Rule, Collection[str]],
    folder: str,
) -> list[Finding]:
    """In order, each place once. *texts* are the files of *program*, *waiting* fields that rules wait for."""
    look = _Look(program, texts, declared=declared, waiting=waiting, folder=folder)
    calls = calls_in(program)
    for scope, term in bodies_of(program):
        for way in ways_into(scope, calls):
            look.at_terms(term, scope, Meaning(program, calls=calls, calling=way))
    for name, sites in calls.items():
        for site in sites:
            look.at_call(name, site.call, site.scope, Meaning(program, calls=calls))
    look.at_imports()
    return sorted(look.findings(), key=lambda each: each.order)


class _Fault(NamedTuple):
    """*known* are the names that there are."""

    code: str
    message: str
    known: Collection[str]


class _Look:
    def __init__(
        self,
        program: Program,
        texts: Mapping[str, str],
        *,
        declared: Declared,
        waiting: Mapping[Rule, Collection[str]],
        folder: str,
    ) -> None:
        self._found: dict[tuple[str, int], Finding] = {}
        self._in_tables: dict[tuple[str, int], tuple[str, Finding]] = {}
        self._program = program
        self._texts = texts
        self._declared = declared
        self._waiting = waiting
        self._folder = folder

    def findings(self) -> Iterator[Finding]:
        """A name that stands in a table may stand for all others, as "*": then it is looked for."""
        yield from self._found.values()
        looked_for = set(_looked_for_in(self._program))
        for place, (name, finding) in self._in_tables.items():
            if place not in self._found and name not in looked_for:
                yield finding

    def at_terms(self, outermost: Term, scope: Scope, meaning: Meaning) -> None:
        comparisons = Comparisons(meaning, self._declared)
        for term in terms_in(outermost):
            for kind, text, of in comparisons.unknown_in(term, scope):
                self._no_name(kind, text, of, in_table=text not in set(terms_in(term)))
            match term:
                case Ref(head=head, steps=steps):
                    ways = meaning.paths(head, scope)
                    for number, step in enumerate(steps):
                        self._at_step(ways, step, scope, meaning)
                        before = Ref(at=term.at, head=head, steps=steps[: number + 1])
                        ways = meaning.paths(before, scope)
                case Call(function=function, arguments=(whole, key, _)) if called(function) == "object.get":
                    for value, of in meaning.values(key, scope):
                        self._at_keys(meaning.paths(whole, scope), value, of, meaning)

    def at_call(self, name: Name, call: Call, scope: Scope, meaning: Meaning) -> None:
        """A function's head may have a text where the caller has a part of the input."""
        comparisons = Comparisons(meaning, self._declared)
        for written in self._program.rules[name]:
            of = self._program.at[written.rule][0]
            for parameter, argument in zip(written.rule.parameters or (), call.arguments, strict=False):
                if not isinstance(parameter, Var):
                    for kind, text, where in comparisons.unknown_between(parameter, of, argument, scope):
                        self._no_name(kind, text, where)

    def at_imports(self) -> None:
        for file, module in self._program.modules.items():
            for each in module.imports:
                for length in range(1, len(each.path)):
                    path, step = each.path[:length], each.path[length]
                    self._at_name(frozenset({path}), step, file, each.at, None)

    def _at_step(self, ways: Collection[Path], step: Term, scope: Scope, meaning: Meaning) -> None:
        for text, of in meaning.texts(step, scope):
            self._at_name(ways, text.value, of.written.file, text.at, scope.written.rule)

    def _at_keys(self, ways: Collection[Path], key: object, scope: Scope, meaning: Meaning) -> None:
        """The second argument of object.get: a key, or an array of them."""
        match key:
            case Text(value=name, at=at):
                self._at_name(ways, name, scope.written.file, at, scope.written.rule)
            case Several(kind="array", items=items):
                for item in items:
                    self._at_step(ways, item, scope, meaning)
                    names = meaning.names_of(item, scope)
                    ways = [(*path, name) for path in ways for name in names[:1]]
            case _:
                pass

    def _at_name(self, ways: Collection[Path], name: str, file: str, at: int, rule: Rule | None) -> None:
        """*name* stands behind each of *ways*: a mistake if none of them can have it."""
        ways = [path for path in ways if KEY not in path]
        # Of a rule that stands for a part of input or data, that part counts.
        ways = [path for path in ways if not self._is_of_rule(path)] or ways
        wrong = [fault for path in ways if (fault := self._fault(path, name, rule))]
        if wrong and len(wrong) == len(ways):
            self._find(wrong[0], name, file, at)

    def _is_of_rule(self, path: Path) -> bool:
        return path[0] == "data" and self._program.rule_before(path[1:]) is not None

    def _fault(self, path: Path, name: str, rule: Rule | None) -> _Fault | None:
        if path in _FIELDS and name not in _FIELDS[path]:
            says = f"{shown((*path, name))} is never there: this would never hold"
            return _Fault(code="unknown_input", message=says, known=_FIELDS[path])
        if path in _NAMED and (kind := self._declared.kind_at((*path, KEY))):
            waits = kind == "context" and rule is not None and name in self._waiting.get(rule, ())
            return None if name in self._declared.names[kind] or waits else self._no_such(kind, name)
        if path[:3] == ("data", "authz", "plans"):
            known = self._declared.below(path)
            if known is None or name in known:
                return None
            says = f"policy data has no {shown((*path, name))}"
            return _Fault(code="unknown_data", message=says, known=known)
        return self._fault_in_rules(path, name)

    def _fault_in_rules(self, path: Path, name: str) -> _Fault | None:
        package = path[1:]
        packages = self._program.packages | {("authz",), ("custom",)}
        if path[0] != "data" or not package or package not in packages:
            return None
        # The rules that decide look at the company's denials, whether there are any or not.
        named = (*self._program.rules, *self._program.packages, ("authz", "plans"), ("custom", "denials"))
        known = {
            each[len(package)]
            for each in named
            if each[: len(package)] == package and len(each) > len(package)
        }
        if name in known or self._program.unread:
            return None
        says = f"no rule and no function is called {shown((*path, name))}"
        return _Fault(code="unknown_data", message=says, known=known)

    def _no_name(self, kind: str, text: Text, of: Scope, *, in_table: bool = False) -> None:
        if kind == "context" and text.value in self._waiting.get(of.written.rule, ()):
            return
        fault, file = self._no_such(kind, text.value), of.written.file
        if in_table:
            finding = self._finding(fault, text.value, file, text.at)
            self._in_tables.setdefault((file, text.at), (text.value, finding))
        else:
            self._find(fault, text.value, file, text.at)

    def _no_such(self, kind: str, name: str) -> _Fault:
        names = self._declared.names[kind]
        if kind == "context":
            says = f"no policy declares the context field {name}, so it is never there"
            says += f": write context: [{name}] in the metadata of package custom"
            return _Fault(code="undeclared_context", message=says, known=names)
        says = f'there is no {kind} "{name}" in plans.yaml'
        if kind == "status":
            says = f'no workspace has the status "{name}"'
        return _Fault(code="unknown_name", message=says, known=names)

    def _find(self, fault: _Fault, name: str, file: str, at: int) -> None:
        self._found.setdefault((file, at), self._finding(fault, name, file, at))

    def _finding(self, fault: _Fault, name: str, file: str, at: int) -> Finding:
        return finding_at(
            self._texts[file],
            at,
            source=PurePosixPath(self._folder, file).as_posix(),
            code=fault.code,
            message=fault.message,
            suggestion=nearest(name, fault.known),
        )


def _looked_for_in(program: Program) -> Iterator[str]:
    """Texts that rules compare with, have in their heads, or look up in tables of their own."""
    for scope, outermost in bodies_of(program):
        for head in scope.written.rule.parameters or ():
            yield from (each.value for each in terms_in(head) if isinstance(each, Text))
        for term in terms_in(outermost):
            match term:
                case Infix(operator="==" | "!=" | "in", left=left, right=right):
                    for operand in (left, right):
                        items = operand.items if isinstance(operand, Several) else (operand,)
                        yield from (each.value for each in items if isinstance(each, Text))
                case Ref(head=Var(name=name), steps=steps) if name not in {"input", "data"}:
                    yield from (each.value for each in steps if isinstance(each, Text))
                case _:
                    pass


def shown(path: Path) -> str:
    """As in Rego."""
    text = str(path[0])
    for step in path[1:]:
        if not isinstance(step, str):
            text += "[…]"
        else:
            text += f".{step}" if step.isidentifier() else f'["{step}"]'
    return text
