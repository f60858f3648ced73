"""The questions that wait for a session, in the order of their arrival."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.store.asked import Asked
    from sidecar.store.session import Session
    from sidecar.store.stack import Stack

MOST_IN_LINE = 4096


class Line:
    """*trial* is the one question that tries a silent server, whether it still waits or is sent."""

    def __init__(self) -> None:
        self.trial: Asked | None = None
        self._waiting: deque[Asked] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Asked]:
        """Over what waits now, so that the line may change meanwhile."""
        return iter(tuple(self._waiting))

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MOST_IN_LINE

    def append(self, asked: Asked) -> None:
        self._waiting.append(asked)

    def put_first(self, asked: Asked) -> None:
        self._waiting.appendleft(asked)

    def remove(self, asked: Asked) -> None:
        self._waiting.remove(asked)

    def end_trial(self, asked: Asked) -> None:
        """If it is the one."""
        if asked is self.trial:
            self.trial = None

    def take(self, session: Session, *, has_room: bool) -> Asked | None:
        """The first who may use *session*; without room for it, only the trial may."""
        for asked in self._waiting:
            if session.heard >= asked.heard_since and (has_room or asked is self.trial):
                self._waiting.remove(asked)
                return asked
        return None

    def for_new_sessions(self, stack: Stack) -> list[Asked]:
        """The first, as far as there is room; the others wait for the sessions that are busy."""
        if not stack.busy:
            return list(self._waiting)
        first = list(islice(self._waiting, max(0, stack.room)))
        if self.trial is not None and not self.trial.sent and self.trial not in first:
            first.append(self.trial)
        return first
