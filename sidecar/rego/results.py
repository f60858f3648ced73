"""What rules and functions are, as their heads say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.rego.syntax.tree import Ref, Scalar, Text, Var

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.program import Name, Program, Scope
    from sidecar.rego.syntax.tree import Branch, Rule, Term

    Pair: TypeAlias = "tuple[Meant | None, Meant]"

Meant: TypeAlias = "tuple[Term | Collected, Scope]"  # a term, and where it stands


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collected:
    """What several rules make together: of a set the members, of an object keys and members."""

    items: tuple[Pair, ...]


def values_of(program: Program, name: Name) -> list[Meant]:
    """What the rule of that name may be; of a function nothing."""
    pairs: list[Pair] = []
    found: list[Meant] = []
    scope: Scope | None = None
    for rule, branch, scope in _branches(program, name):
        if rule.parameters is not None:
            continue
        if pair := _pair(rule, branch, scope):
            pairs.append(pair)
        elif branch.value is not None and isinstance(rule.head, Var):
            found.append((branch.value, scope))
    if pairs and scope is not None:
        found.append((Collected(items=tuple(pairs)), scope))
    return found


def results_of(program: Program, function: Name) -> Iterator[Meant]:
    for rule, branch, scope in _branches(program, function):
        if rule.parameters is not None and branch.value is not None:
            yield branch.value, scope


def called(function: Term) -> str:
    """`object.get` as it is written; "" where it is no name."""
    match function:
        case Var(name=name):
            return name
        case Ref(head=Var(name=name), steps=steps) if all(isinstance(step, Text) for step in steps):
            return ".".join((name, *(step.value for step in steps if isinstance(step, Text))))
        case _:
            return ""


def _branches(program: Program, name: Name) -> Iterator[tuple[Rule, Branch, Scope]]:
    for written in program.rules.get(name, ()):
        for branch, scope in zip(written.rule.branches, program.at[written.rule], strict=True):
            yield written.rule, branch, scope


def _pair(rule: Rule, branch: Branch, scope: Scope) -> Pair | None:
    """What the rule adds to a set or an object; None if it is a value of its own."""
    if rule.element is not None:
        return None, (rule.element, scope)
    match rule.head:
        case Ref(steps=(key,)):
            return (key, scope), (branch.value or Scalar(at=rule.at, written="true"), scope)
        case _:
            return None
