"""A file of Rego as a tree."""

from __future__ import annotations

from sidecar.rego.syntax.terms import TermReader
from sidecar.rego.syntax.tokens import NotRego
from sidecar.rego.syntax.tree import Branch, Import, Module, Query, Ref, Rule, Several, Term, Text, Var

_IMPORTED = ("data", "input", "rego", "future")


def module_in(text: str) -> Module:
    """NotRego, with a place, where *text* is not Rego 1."""
    return _ModuleReader(text).module()


class _ModuleReader(TermReader):
    def module(self) -> Module:
        at = self.here.at
        self.expect("package", "package, and its name")
        package = self._path()
        imports, rules = [], []
        while not self.is_at("end"):
            if self.is_at("import"):
                imports.append(self._import())
            else:
                rules.append(self._rule())
        return Module(at=at, package=package, imports=tuple(imports), rules=tuple(rules))

    def _path(self) -> tuple[str, ...]:
        """`a.b["c"]` as names."""
        names = [self.expect("name", "a name").text]
        while self.is_joined(".", "["):
            step = self.step(keywords=True)
            if not isinstance(step, Text):
                self.fail("expected only names before this")
            names.append(step.value)
        return tuple(names)

    def _import(self) -> Import:
        at = self.take().at
        if self.here.text not in _IMPORTED:
            self.fail(f"expected {', '.join(_IMPORTED)} behind import")
        path = self._path()
        name = self.expect("name", "a name").text if self.take_if("as") else path[-1]
        return Import(at=at, path=path, name=name)

    def _rule(self) -> Rule:
        at = self.here.at
        default = bool(self.take_if("default"))
        if not self.is_at("name"):
            self.fail("expected a rule")
        head, parameters = self._head()
        element = value = None
        if self.take_if("contains"):
            element = self.term()
        else:
            value = self._value()
        # `f(x)` and `p[x]` alone are true; a name alone is a mistake.
        is_fact = element is not None or value is not None or self.before.kind in {")", "]"}
        branches = [Branch(value=value, body=self._body(or_none=is_fact))]
        while branches[-1].body and self.take_if("else"):
            value = self._value()
            branches.append(Branch(value=value, body=self._body(or_none=value is not None)))
        return Rule(
            at=at,
            head=head,
            parameters=parameters,
            element=element,
            branches=tuple(branches),
            default=default,
        )

    def _value(self) -> Term | None:
        return self.term() if self.take_if(":=", "=") else None

    def _head(self) -> tuple[Var | Ref, tuple[Term, ...] | None]:
        name = self.take()
        head = Var(at=name.at, name=name.text)
        steps: list[Term] = []
        while self.is_joined(".", "["):
            steps.append(self.step())
        parameters = None
        if self.is_joined("("):
            self.take()
            parameters = self.items(")", self.term)
        return Ref(at=name.at, head=head, steps=tuple(steps)) if steps else head, parameters

    def _body(self, *, or_none: bool) -> Query:
        if self.take_if("if"):
            if self.is_at("{"):
                if body := self.attempt(self._braced):
                    return body
                mistake = self.furthest
                literal = self.attempt(self.literal)  # a set may stand first in a comparison
                if literal is None or isinstance(literal.term, Several):
                    raise mistake or NotRego("expected a condition", self.here.at)
                return (literal,)
            return (self.literal(),)
        if not or_none or self.is_at("{"):
            self.fail("expected if")
        return ()

    def _braced(self) -> Query:
        self.take()
        body = self.query("}")
        if not self.here.line_before and not self.is_at("else", "end", ";"):
            self.fail("expected a new line")
        return body
