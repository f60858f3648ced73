"""All terms of a tree, the outer before the inner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.rego.syntax.tree import Call, Comprehension, Infix, Pairs, Ref, Several

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.syntax.tree import Literal, Term


def parts_of(term: Term) -> Iterator[Term]:
    """What *term* consists of; of a comprehension nothing, since that has a scope of its own."""
    match term:
        case Ref(head=head, steps=steps):
            yield from (head, *steps)
        case Call(function=function, arguments=arguments):
            yield from (function, *arguments)
        case Several(items=items):
            yield from items
        case Pairs(items=pairs):
            for key, value in pairs:
                yield from (key, value)
        case Infix(left=left, right=right):
            yield from (left, right)
        case _:
            pass


def terms_in(term: Term) -> Iterator[Term]:
    """*term* and all that is in it, but for the insides of comprehensions."""
    yield term
    for part in parts_of(term):
        yield from terms_in(part)


def terms_of(literal: Literal) -> Iterator[Term]:
    """The outermost terms of one line; not those of the body of `every`, nor what `some` only declares."""
    if literal.kind != "some":
        yield from literal.names
    if literal.term is not None:
        yield literal.term
    for target, value in literal.replaced:
        yield from (target, value)


def comprehensions_in(term: Term) -> Iterator[Comprehension]:
    return (each for each in terms_in(term) if isinstance(each, Comprehension))
