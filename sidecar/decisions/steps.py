"""Work in steps: what it waits for it yields, so that a thread can wait for it and an event loop need not.

A generator of `Wait`s is written once. `run` drives it on a thread, where each wait is a call that blocks.
The server's loop drives it too, and knows for some of these calls how to make them without blocking.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Wait:
    """A call that may block: ``call(*args, deadline=deadline)``, the deadline on the monotonic clock.

    Its result is sent into the generator, and what it raises is raised where the generator waits.
    """

    __slots__ = ("args", "call", "deadline")

    def __init__(self, call: Callable[..., Any], *args: object, deadline: float) -> None:
        self.call = call
        self.args = args
        self.deadline = deadline

    def done(self) -> Any:  # noqa: ANN401 - of any call
        """The result, waited for on this thread."""
        return self.call(*self.args, deadline=self.deadline)


class Pause(Wait):
    """Nothing to wait for: whoever drives the steps may do something else first."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_nothing, deadline=0.0)


Steps: TypeAlias = Generator[Wait, Any, T]


def run(steps: Steps[T]) -> T:
    """What *steps* return, with each wait done on this thread."""
    try:
        wait = next(steps)
        while True:
            try:
                found = wait.done()
            except Exception as error:  # noqa: BLE001 - not dealt with here: raised where it was waited for
                wait = steps.throw(error)
            else:
                wait = steps.send(found)
    except StopIteration as stop:
        result: T = stop.value
        return result


def at_once(steps: Steps[T]) -> T | None:
    """What *steps* return if they wait for nothing; else None, and they go no further."""
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    steps.close()
    return None


def _nothing(*, deadline: float) -> None:
    """Of a Pause."""
