"""Two questions kept apart: can this worker answer, and is all of this server as its files say.

Each part is asked in the background, so that whoever wants to know waits for nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.api.problems import PROBLEMS
from sidecar.api.service import Readiness
from sidecar.errors import DependencyError, RevisionMismatch
from sidecar.serving.causes import UNREACHABLE, Cause, cause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.serving.said import Said
    from sidecar.serving.wanted import Wanted

    Revision = Callable[[float], str | None]  # what a part says by a deadline

_EVERY_S, _AGAIN_S = 1.0, 0.25  # while all is well, and while it is not
_WITHIN_S = 1.0
_GONE_AFTER_S = 3.0
_log = logging.getLogger("sidecar")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Of a part *since* then; *cause* None: it is as it should be."""

    since: datetime
    revision: str | None = None
    cause: Cause | None = None

    def document(self) -> dict[str, object]:
        return {
            "revision": self.revision,
            "since": self.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "cause": self.cause and self.cause.code,
            "do": self.cause and self.cause.do,
        }


class Watch:
    """One part, asked on a thread of its own, so that a silent one makes no other look late.

    *ask* gives its revision; another than *wanted* is the cause that *differs* gives.
    """

    def __init__(
        self, name: str, ask: Revision, *, wanted: str, differs: Callable[[str | None], Cause], said: Said
    ) -> None:
        self.name = name
        self._ask = ask
        self._wanted = wanted
        self._differs = differs
        self._said = said
        self._failures = 0
        self._answered = -inf
        self.looked = Event()
        self.state = State(since=_now(), cause=Cause(code="starting", do="wait: it is asked now", detail=""))

    @property
    def answered_lately(self) -> bool:
        return monotonic() - self._answered <= _GONE_AFTER_S

    def run(self, stopping: Event, changed: Callable[[], None]) -> None:
        while not stopping.is_set():
            self._look()
            self.looked.set()
            changed()
            is_well = self.state.cause is None and not self._failures
            stopping.wait(_EVERY_S if is_well else _AGAIN_S)

    def _look(self) -> None:
        revision, cause = self.state.revision, None
        try:
            revision = self._ask(monotonic() + _WITHIN_S)
        except DependencyError as error:
            self._failures += 1
            if self._failures == 1 and self.state.cause is None:
                return  # one late answer of a busy machine is no outage
            cause = cause_of(error)
            if not isinstance(error, RevisionMismatch):
                revision = None
        else:
            self._failures = 0
            self._answered = monotonic()
            if revision != self._wanted:
                cause = self._differs(revision)
        before = self.state
        if (revision, cause and (cause.code, cause.do)) == (
            before.revision,
            before.cause and (before.cause.code, before.cause.do),
        ):
            return
        self.state = State(since=_now(), revision=revision, cause=cause)
        self._tell(cause)

    def _tell(self, cause: Cause | None) -> None:
        if not self._said.is_new(self.name.replace(" ", "-"), f"{cause.code} {cause.do}" if cause else ""):
            return
        if cause is None:
            _log.info("the %s is as it should be again", self.name)
        else:
            _log.warning("the %s: %s (%s); %s", self.name, cause.detail, cause.code, cause.do)


class Probe:
    """*worker* is how it is itself; *fitted* whether the database has had what its catalog needs."""

    def __init__(
        self,
        worker: Callable[[], State],
        *,
        database: Watch,
        engine: Watch,
        authzen: Watch | None,
        kind: str,
        fitted: Callable[[], bool],
        wanted: Callable[[], Wanted | None],
        observe: Callable[[bool], None],
    ) -> None:
        self._worker_itself = worker
        self._database = database
        self._engine = engine
        self._authzen = authzen
        self._kind = kind
        self._fitted = fitted
        self._find_wanted = wanted
        self._wanted: Wanted | None = None
        self._observe = observe
        self._stopping = Event()
        self._began = State(since=_now())

    def start(self) -> None:
        for watch in filter(None, (self._database, self._engine, self._authzen)):
            Thread(
                target=watch.run, args=(self._stopping, self._look), name=f"watch {watch.name}", daemon=True
            ).start()

    def stop(self) -> None:
        self._stopping.set()

    def wait_until_looked(self, timeout_s: float) -> bool:
        """Whether `readiness` has asked the database by now: before that it says no for want of an answer."""
        return self._database.looked.wait(timeout_s)

    def readiness(self) -> Readiness:
        """Whether it can answer, as of now: without the database what needs none of it."""
        worker = self._worker_itself()
        is_warm, reached = worker.cause is None, self._fitted() and self._database.answered_lately
        state = self._database.state
        return Readiness(
            ready=is_warm and reached,
            without_database=is_warm and self._fitted(),
            parts={
                "worker": _part(worker.revision, worker.cause.code if worker.cause else None),
                "database": _part(
                    state.revision,
                    None if reached else (state.cause.code if state.cause else UNREACHABLE),
                    why=state.cause.do if state.cause and not reached else None,
                ),
            },
        )

    def status(self) -> Mapping[str, object]:
        """What is, and what the files say."""
        worker = self._worker_itself()
        wanted = worker.revision
        if (found := self._wanted) is not None:
            wanted = found.revision
            if worker.cause is None and (found.cause or wanted != worker.revision):
                code, do = found.cause or "starting", found.do or "wait: a reload is running"
                worker = State(
                    since=datetime.fromisoformat(found.since),
                    revision=worker.revision,
                    cause=Cause(code=code, do=do, detail=""),
                )
        parts = {
            "worker": worker,
            "engine": self._engine.state,
            "database": self._database.state,
            "authzen": self._authzen.state if self._authzen else self._began,
        }
        converged = all(state.cause is None for state in parts.values()) and all(
            parts[name].revision == wanted for name in ("worker", "engine", "database")
        )
        documents = {name: state.document() for name, state in parts.items()}
        documents["engine"] = {"kind": self._kind} | documents["engine"]
        return {"converged": converged, "wanted": wanted} | documents

    def _look(self) -> None:
        self._wanted = self._find_wanted()
        self._observe(bool(self.status()["converged"]))


def _part(revision: str | None, code: str | None, *, why: str | None = None) -> dict[str, object]:
    if code is None:
        return {"ready": True, "revision": revision}
    title = PROBLEMS[code][1] if code in PROBLEMS else ""
    return {"ready": False, "revision": revision, "code": code, "why": why or title}


def _now() -> datetime:
    return datetime.now(UTC)
