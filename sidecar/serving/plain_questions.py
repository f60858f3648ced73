"""Plain questions that wait together: one query for all of them, and one round of answers.

What the store, or the templates, cannot answer plainly goes back to who has put it, to be asked as any other.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from sidecar.errors import DatabaseNotMigrated, FactsUnavailable
from sidecar.store.burst import Burst
from sidecar.store.loop import late
from sidecar.text.encoding import Record

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sidecar.api.plain import Alike, Asked, PlainChecks, Plainly
    from sidecar.api.service import Service
    from sidecar.decisions.model import Facts
    from sidecar.decisions.ports import PlainFacts

    Found = tuple[Sequence[PlainFacts | None], datetime]

MOST_AT_ONCE = 2  # queries: one whose connection is silent leaves the other
MOST_TOGETHER = 256  # questions in one query
TICK_S = 0.01
SHUT_S = 1.0  # after a query that failed because of one question


class Asker(Protocol):
    """One connection: it has put one question, and waits."""

    def take(self, question: Question, reply: Plainly, now: float) -> None:
        """The *reply*, made *now*."""
        ...

    def take_facts(self, question: Question, facts: Facts | None) -> None:
        """What the reply has to be made of, in the usual way."""
        ...

    def take_failure(self, question: Question, error: Exception | None) -> None:
        """Why there are no facts; None: they have to be asked for in the usual way."""
        ...


class Question(Record):
    """See `PlainQuestion`; *deadline* is on the monotonic clock."""

    alike: Alike
    asked: Asked
    request_id: str
    began: float
    deadline: float
    asker: Asker
    is_late: bool = False  # and told so


class PlainStore(Protocol):
    @property
    def silent(self) -> bool: ...
    def meaning(self, error: Exception) -> Exception: ...

    def ask_plainly(
        self,
        users: Sequence[str],
        workspaces: Sequence[str],
        /,
        *,
        deadline: float,
        since: float,
        done: Callable[[Found | None, Exception | None], None],
    ) -> None: ...


class PlainQuestions:
    """Of one worker; all on its loop. Each connection puts one at a time, so there are no more than those.

    A question goes out at the end of its burst if fewer than MOST_AT_ONCE queries are out, else with all
    others once one is back. It is never answered from a query that was sent before it came.
    """

    def __init__(
        self, plain: PlainChecks, *, store: PlainStore, service: Service, loop: AbstractEventLoop
    ) -> None:
        self._plain = plain
        self._store = store
        self._metrics = service.metrics
        self._is_serving = service.serving
        self._log_waits = service.log.waits
        self._loop = loop
        self._waiting: list[Question] = []
        self._burst = Burst(lambda: len(self._waiting), self._send, enough=MOST_TOGETHER)
        self._out: list[list[Question]] = []
        self._shut_until = 0.0
        self._timer: TimerHandle | None = None

    def is_open(self) -> bool:
        """False while questions are answered in the usual way alone."""
        return self._is_serving() and not self._log_waits and self._shut_until <= monotonic()

    def put(self, question: Question) -> None:
        self._waiting.append(question)
        if len(self._out) < MOST_AT_ONCE:
            self._burst.begin(self._loop)

    def _send(self) -> None:
        if self._store.silent:  # one question tries it, and the usual way sees to that
            waiting, self._waiting = self._waiting, []
            self._metrics.count_requests_of_lane(len(waiting))
            for question in waiting:
                question.asker.take_failure(question, None)
        while self._waiting and len(self._out) < MOST_AT_ONCE:
            group = self._waiting[:MOST_TOGETHER]
            del self._waiting[:MOST_TOGETHER]
            self._out.append(group)
            self._metrics.count_requests_of_lane(len(group))
            try:
                self._store.ask_plainly(
                    [question.asked.user for question in group],
                    [question.asked.workspace for question in group],
                    deadline=max([question.deadline for question in group]),
                    since=group[0].began,
                    done=partial(self._came, group),
                )
            except Exception as defect:  # noqa: BLE001 - the usual way meets it too, and whoever waits is answered
                self._loop.call_soon(self._came, group, None, defect)
        if self._timer is None and self._out:
            self._timer = self._loop.call_later(TICK_S, self._look)

    def _came(self, group: list[Question], found: Found | None, error: Exception | None) -> None:
        self._out = [each for each in self._out if each is not group]
        if self._waiting:
            self._send()  # first, so that the server has work while we answer
        now = monotonic()
        self._metrics.observe_all_facts([now - question.began for question in group])
        if found is None:
            # A text that PostgreSQL refuses, or a row that cannot be read, is that of one question alone. The
            # usual way finds out which; until it is over, nobody should ask twice because of it.
            is_of_all = isinstance(error, (FactsUnavailable, DatabaseNotMigrated))
            if not is_of_all:
                self._shut_until = now + SHUT_S
            for question in group:
                why = self._store.meaning(error) if is_of_all and error is not None else None
                self._tell(question.asker.take_failure, question, why)
            return
        rows, at = found
        if group[0].deadline <= now:  # no other is before: some may have been told that they are late
            there = [
                (question, row) for question, row in zip(group, rows, strict=True) if not question.is_late
            ]
            group, rows = [question for question, _ in there], [row for _, row in there]
        replies: Sequence[Plainly | None]
        try:
            replies = self._plain.answers(group, rows, at)
        except Exception:  # noqa: BLE001 - the endpoints meet this defect too, and answer
            replies = [None] * len(group)
        now = monotonic()  # the replies are made, which takes a moment too
        for question, reply, row in zip(group, replies, rows, strict=True):
            if reply is not None:
                self._tell(question.asker.take, question, reply, now)
            else:
                self._tell(self._pass_on, question, row, at)

    def _pass_on(self, question: Question, row: PlainFacts | None, at: datetime) -> None:
        try:
            facts = None if row is None else row.facts(at)
        except ValueError:
            question.asker.take_failure(question, None)
        else:
            question.asker.take_facts(question, facts)

    def _tell(self, tell: Callable[..., None], *what: object) -> None:
        try:
            tell(*what)
        except Exception as defect:  # noqa: BLE001 - the border of the loop: the others of the group are told too
            context = {"message": "a question's answer was not taken", "exception": defect}
            self._loop.call_exception_handler(context)

    def _look(self) -> None:
        """Who is late is told. The store tells those of a query that is."""
        self._timer = None
        now = monotonic()
        for group in (*self._out, self._waiting):
            for question in group:
                if question.deadline <= now and not question.is_late:
                    question.is_late = True
                    self._tell(question.asker.take_failure, question, late("still waiting"))
        self._waiting = [question for question in self._waiting if question.deadline > now]
        if self._out:
            self._timer = self._loop.call_later(TICK_S, self._look)
