"""The sessions that there are: the idle ones, the last used on top, and those that are busy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.store.asked import Asked
    from sidecar.store.session import Session


class Stack:
    """Of up to *size* sessions; one more is busy while it tries a silent server."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.busy: set[Session] = set()
        self._idle: list[Session] = []  # the last used is the next one used: few stay warm

    @property
    def room(self) -> int:
        """For how many more; negative if there are too many."""
        return self.size - len(self.busy) - len(self._idle)

    def take(self, asked: Asked) -> Session | None:
        """An idle session. A question that is never sent twice needs a server that is still there."""
        while self._idle and self._idle[-1].heard >= asked.heard_since:
            session = self._idle.pop()
            if asked.query.repeatable or not session.has_ended():
                return session
            session.close()
        return None

    def keep(self, session: Session) -> None:
        """It is idle now; it is closed where there is no room."""
        if self.room > 0:
            self._idle.append(session)
        else:
            session.close()

    def drop(self, session: Session) -> Asked | None:
        """Close it, busy or idle. What it was asked."""
        asked, session.asked = session.asked, None
        if asked is None:
            self._idle.remove(session)
        self.busy.discard(session)
        session.close()
        return asked

    def drop_idle(self, *, heard_before: float) -> None:
        for session in [each for each in self._idle if each.heard < heard_before]:
            self.drop(session)
