"""Readiness: a probe in the background asks every part, so that whoever asks for it waits for nothing."""

from __future__ import annotations

from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.api.problems import PROBLEMS
from sidecar.api.service import Readiness
from sidecar.errors import DatabaseNotMigrated, DependencyError, RevisionMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Part = Mapping[str, object]
    Revision = Callable[[float], str | None]  # what a part says by a deadline

_EVERY_S, _AGAIN_S = 1.0, 0.25  # while all is well, and while it is not
_WITHIN_S = 1.0
_NOT_PROBED = {"ready": False, "code": "starting", "why": PROBLEMS["starting"][1]}


class Probe:
    """*worker* says how it is itself; each of the other *parts* comes with the revision it should have."""

    def __init__(self, worker: Callable[[], Part], parts: Mapping[str, tuple[Revision, str]]) -> None:
        self._worker = worker
        self._parts = parts
        self._stopping = Event()
        self.found = Readiness(ready=False, parts=dict.fromkeys(("worker", *parts), _NOT_PROBED))

    def start(self) -> None:
        Thread(target=self._go_on, name="readiness", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _go_on(self) -> None:
        while not self._stopping.is_set():
            self.found = self._once()
            self._stopping.wait(_EVERY_S if self.found.ready else _AGAIN_S)

    def _once(self) -> Readiness:
        deadline = monotonic() + _WITHIN_S
        parts = {"worker": self._worker()} | {
            name: _part(revision, wanted, deadline) for name, (revision, wanted) in self._parts.items()
        }
        return Readiness(ready=all(part["ready"] for part in parts.values()), parts=parts)


def _part(revision: Revision, wanted: str, deadline: float) -> Part:
    try:
        found = revision(deadline)
    except DatabaseNotMigrated as error:
        return {"ready": False, "code": error.code, "why": error.detail}
    except DependencyError as error:
        return {"ready": False, "code": error.code, "why": PROBLEMS[error.code][1]}
    if found == wanted:
        return {"ready": True, "revision": found}
    return {
        "ready": False,
        "revision": found,
        "code": RevisionMismatch.code,
        "why": f"has revision {found}, this worker decides by {wanted}",
    }
