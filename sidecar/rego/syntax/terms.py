"""Terms and queries: what stands in the body of a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal as OneOf

from sidecar.rego.syntax.reader import Reader
from sidecar.rego.syntax.tokens import KEYWORDS
from sidecar.rego.syntax.tree import (
    Call,
    Comprehension,
    Infix,
    Literal,
    Pairs,
    Query,
    Ref,
    Scalar,
    Several,
    Template,
    Term,
    Text,
    Var,
)

if TYPE_CHECKING:
    from sidecar.rego.syntax.tokens import Token

# From what binds least; `in` binds less than all of them.
_OPERATORS = (("==", "!=", "<", "<=", ">", ">="), ("|",), ("&",), ("+", "-"), ("*", "/", "%"))
_ABOVE_UNION = 2


class TermReader(Reader):
    def query(self, closing: str) -> Query:
        """Its lines, up to *closing*, which is taken."""
        found: list[Literal] = []
        while not found or not self.is_at(closing):
            found.append(self.literal())
            while self.take_if(";"):
                pass
            if not self.is_at(closing) and not self.line_ended():
                self.fail(f"expected a new line, ; or {closing}")
        self.take()
        return tuple(found)

    def line_ended(self) -> bool:
        return self.here.line_before or self.before.kind == ";"

    def literal(self) -> Literal:
        return self.nested(self._literal)

    def _literal(self) -> Literal:
        at = self.here.at
        if self.take_if("some"):
            return self._some(at)
        if self.is_at("every"):
            return self._every(at)
        kind: OneOf["holds", "not"] = "not" if self.take_if("not") else "holds"
        term = self.term(keyed=True)
        if operator := self.take_if(":=", "="):
            right = self.term(keyed=True)
            term = Infix(at=operator.at, operator=operator.kind, left=term, right=right)
        return Literal(at=at, kind=kind, term=term, replaced=self._replaced())

    def _some(self, at: int) -> Literal:
        names = [self._operation()]
        while self.take_if(","):
            names.append(self._operation())
        if self.take_if("in"):
            domain = self.term()
            return Literal(at=at, kind="some in", term=domain, names=tuple(names), replaced=self._replaced())
        if not all(isinstance(name, Var) for name in names):
            self.fail("expected in after the pattern")
        return Literal(at=at, kind="some", term=None, names=tuple(names))

    def _every(self, at: int) -> Literal:
        self.take()
        names = [self._operand()]
        if self.take_if(","):
            names.append(self._operand())
        self.expect("in")
        domain = self.term()
        self.expect("{")
        body = self.query("}")
        return Literal(
            at=at, kind="every", term=domain, names=tuple(names), body=body, replaced=self._replaced()
        )

    def _replaced(self) -> tuple[tuple[Term, Term], ...]:
        found = []
        while self.take_if("with"):
            target = self._operand()
            self.expect("as")
            found.append((target, self.term()))
        return tuple(found)

    def term(self, *, keyed: bool = False) -> Term:
        """*keyed*: whether `k, v in xs` may stand here."""
        return self.nested(lambda: self._membership(self._operation(), keyed=keyed))

    def _membership(self, left: Term, *, keyed: bool = False) -> Term:
        pair = self.attempt(lambda: self._key_and_value(left)) if keyed and self.is_at(",") else None
        left = pair or left
        while operator := self.take_if("in"):
            left = Infix(
                at=operator.at,
                operator="in",
                left=left,
                right=self._operation(),
                keyed=left is pair,
            )
        return left

    def _key_and_value(self, key: Term) -> Term:
        self.expect(",")
        pair = Several(at=self.here.at, kind="array", items=(key, self._operation()))
        if not self.is_at("in"):
            self.fail("expected in")
        return pair

    def _operation(self, level: int = 0) -> Term:
        return self._operand() if level == len(_OPERATORS) else self._rest(self._operation(level + 1), level)

    def _rest(self, left: Term, level: int) -> Term:
        """*left*, with what follows it of the operators of this *level*."""
        while operator := self.take_if(*_OPERATORS[level]):
            right = self._operation(level + 1)
            left = Infix(at=operator.at, operator=operator.kind, left=left, right=right)
        return left

    def _complete(self, left: Term) -> Term:
        """*left* was read above the union: with all that may follow it in a collection."""
        for level in reversed(range(_ABOVE_UNION)):
            left = self._rest(left, level)
        return self._membership(left)

    def _operand(self) -> Term:
        """A term with what follows it: fields, brackets, arguments."""
        term = self._primary()
        steps: list[Term] = []
        while self.is_joined(".", "[", "("):
            if self.is_at("("):
                self.take()
                function = Ref(at=term.at, head=term, steps=tuple(steps)) if steps else term
                term, steps = Call(at=term.at, function=function, arguments=self.items(")", self.term)), []
            else:
                steps.append(self.step())
        return Ref(at=term.at, head=term, steps=tuple(steps)) if steps else term

    def step(self, *, keywords: bool = False) -> Term:
        """Behind a dot or in brackets. *keywords* may stand in imports alone."""
        if self.take().kind == "[":
            term = self.term()
            self.expect("]")
            return term
        token = self.take_if(*KEYWORDS) if keywords else None
        token = token or self.expect("name", "a name after the dot")
        return Text(at=token.at, end=token.end, value=token.text)

    def _primary(self) -> Term:
        token = self.here
        if not self.is_at(
            "text", "template", "number", "null", "true", "false", "name", "contains", "-", "(", "[", "{"
        ):
            self.fail("expected a value")
        self.take()
        match token.kind:
            case "text":
                return Text(at=token.at, end=token.end, value=token.value)
            case "template":
                return Template(at=token.at)
            case "-":
                return Scalar(at=token.at, written=f"-{self.expect('number', 'a number').text}")
            case "(":
                inner = self.term(keyed=True)
                self.expect(")")
                return inner
            case "[":
                return self.nested(lambda: self._in_brackets(token))
            case "{":
                return self.nested(lambda: self._in_braces(token))
            case "name" | "contains":
                return Var(at=token.at, name=token.text)
            case _:
                pass
        return Scalar(at=token.at, written=token.text)

    def _in_brackets(self, opening: Token) -> Term:
        if self.take_if("]"):
            return Several(at=opening.at, kind="array", items=())
        first = self._operation(_ABOVE_UNION)
        if body := self._body_behind_a_bar("]"):
            return Comprehension(at=opening.at, kind="array", key=None, value=first, body=body)
        return Several(at=opening.at, kind="array", items=(self._complete(first), *self.more("]", self.term)))

    def _in_braces(self, opening: Token) -> Term:
        if self.take_if("}"):
            return Pairs(at=opening.at, items=())
        first = self._operation(_ABOVE_UNION)
        if body := self._body_behind_a_bar("}"):
            return Comprehension(at=opening.at, kind="set", key=None, value=first, body=body)
        first = self._complete(first)
        if not self.take_if(":"):
            return Several(at=opening.at, kind="set", items=(first, *self.more("}", self.term)))
        value = self._operation(_ABOVE_UNION)
        if body := self._body_behind_a_bar("}"):
            return Comprehension(at=opening.at, kind="object", key=first, value=value, body=body)
        return Pairs(at=opening.at, items=((first, self._complete(value)), *self.more("}", self._pair)))

    def _pair(self) -> tuple[Term, Term]:
        key = self.term()
        self.expect(":")
        return key, self.term()

    def _body_behind_a_bar(self, closing: str) -> Query | None:
        """None where no comprehension stands here: the bar of a union may."""

        def body() -> Query:
            self.expect("|")
            return self.query(closing)

        return self.attempt(body) if self.is_at("|") else None
