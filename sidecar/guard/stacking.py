"""Stacked guards: adjacent ones are checked in one call, and the one that takes comes last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.guard.requirement import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.guard.requirement import Requirement

    View = Callable[..., Any]

_MARK = "__sidecar_guarded__"


@dataclass(frozen=True, slots=True)
class Stack:
    """A *view* and all that *guard* requires of its requests."""

    guard: object
    view: View
    requirements: tuple[Requirement, ...]


class Required:
    """A guard that stands beside a view and not around it: a dependency."""

    def __init__(self, guard: object, requirements: tuple[Requirement, ...]) -> None:
        self.guard = guard
        self.requirements = requirements


@dataclass(frozen=True, slots=True)
class _Mark:
    wrapper: View
    stack: Stack


def stacked(requirements: tuple[Requirement, ...], view: View, *, guard: object) -> Stack:
    """*requirements* on *view*, which may be guarded already.

    ValueError if quota would be lost because an inner guard may still deny.
    """
    below: _Mark | None = getattr(view, _MARK, None)
    if below is None:
        return Stack(guard, view, requirements)
    both = joined(requirements, below.stack.requirements)
    if below.wrapper is view and below.stack.guard is guard:
        return Stack(guard, below.stack.view, both)
    # Another decorator stands between, which we must not skip: functools.wraps shows what is under it.
    if any(each.mode == "consume" for each in requirements):
        raise ValueError(
            "what consumes stands next to the view's other guards, or below them: what it takes would be lost"
            " when one of them denies"
        )
    return Stack(guard, view, requirements)


def mark(wrapper: View, stack: Stack) -> View:
    setattr(wrapper, _MARK, _Mark(wrapper, stack))
    return wrapper


def _nothing() -> None:
    """What stands under a dependency."""


def stacks_of(view: object) -> Iterator[Stack]:
    """All that is required before *view* runs, outermost first; none for a view without a guard.

    Other decorators may stand between, if they use functools.wraps.
    """
    if isinstance(view, Required):
        yield Stack(view.guard, _nothing, view.requirements)
    found: _Mark | None = getattr(view, _MARK, None)
    while found is not None:
        yield found.stack
        found = getattr(found.stack.view, _MARK, None)
