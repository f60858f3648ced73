"""What a policy file consists of. Positions are offsets into its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """A text in quotes, or a name after a dot. *end* is behind its closing quote."""

    at: int
    end: int
    value: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scalar:
    """null, true, false or a number, as it is written."""

    at: int
    written: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """A text with values in it."""

    at: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Var:
    at: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ref:
    """`head.a["b"][c]`."""

    at: int
    head: Term
    steps: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    at: int
    function: Term
    arguments: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Several:
    at: int
    kind: OneOf["array", "set"]
    items: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """An object."""

    at: int
    items: tuple[tuple[Term, Term], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comprehension:
    """*key* is None but for an object's."""

    at: int
    kind: OneOf["array", "set", "object"]
    key: Term | None
    value: Term
    body: Query


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Infix:
    """`in` with a key has the array [key, value] on the left, and *keyed*."""

    at: int
    operator: str
    left: Term
    right: Term
    keyed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Literal:
    """One line of a body. Of `some x, y` *names* are the variables, and *term* is None.

    Of `some k, v in xs` and `every k, v in xs {…}` *names* are [k], v or v alone, *term* is xs, *body* what
    must hold for every one.
    """

    at: int
    kind: OneOf["holds", "not", "some", "some in", "every"]
    term: Term | None
    names: tuple[Term, ...] = ()
    body: Query = ()
    replaced: tuple[tuple[Term, Term], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branch:
    """What a rule is where *body* holds; *value* None stands for true."""

    value: Term | None
    body: Query


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """*branches* are the rule and each `else`. *element* is what `contains` adds."""

    at: int
    head: Var | Ref
    parameters: tuple[Term, ...] | None
    element: Term | None
    branches: tuple[Branch, ...]
    default: bool = False

    @property
    def name(self) -> str:
        """Of the head, without what stands in brackets or after a dot."""
        head = self.head.head if isinstance(self.head, Ref) else self.head
        return head.name if isinstance(head, Var) else ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Import:
    at: int
    path: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module:
    at: int
    package: tuple[str, ...]
    imports: tuple[Import, ...]
    rules: tuple[Rule, ...]


Term: TypeAlias = Text | Scalar | Template | Var | Ref | Call | Several | Pairs | Comprehension | Infix
Query: TypeAlias = tuple[Literal, ...]
