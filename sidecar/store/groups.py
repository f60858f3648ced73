"""Questions that wait for facts, and those of them that are one query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeAlias

from sidecar.decisions.model import Facts

Members: TypeAlias = Sequence[tuple[str, str]]
Meters: TypeAlias = Sequence[tuple[str, ...]]
Found: TypeAlias = Callable[[list[Facts | None] | None, Exception | None], None]
FoundAny: TypeAlias = Callable[[list[Any] | None, Exception | None], None]  # rows of whatever kind is read


class Read:
    """One question; *missing* is how many of its facts are still to come."""

    __slots__ = ("deadline", "done", "ended", "found", "members", "meters", "missing", "since")

    def __init__(self, members: Members, meters: Meters, deadline: float, done: FoundAny) -> None:
        self.members = members
        self.meters = meters
        self.deadline = deadline
        self.done = done
        self.since = monotonic()
        self.ended = False
        self.missing = len(members)
        self.found: list[Any] = []  # filled only where the facts come in parts


Part: TypeAlias = tuple[Read, int, int]  # the pairs of a question from start to stop: mostly all


class Group:
    """Parts that are one query, which ends by the latest deadline of theirs; *members* are all of them."""

    __slots__ = ("deadline", "members", "meters", "parts")

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.members: list[tuple[str, str]] = []
        self.meters: list[tuple[str, ...]] = []
        self.deadline = 0.0
        for read, start, stop in parts:
            self.members += read.members[start:stop]
            self.meters += read.meters[start:stop]
            self.deadline = max(self.deadline, read.deadline)
