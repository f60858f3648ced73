"""A policy engine asked on its own threads, so that a caller's wait times out at its deadline.

An embedded evaluation cannot be interrupted, and the name server for OPA's host may be silent for longer than
a question may take. Late answers are dropped.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sidecar.decisions.ports import PolicyEngine, RuleEngine
from sidecar.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.decisions.model import Verdict

T = TypeVar("T")
_LONGEST_WAIT_S = 60.0  # a bound, whatever the deadline


class Engine(PolicyEngine, RuleEngine, Protocol):
    """The interface of both engines, and of this one."""

    def served_revision(self, *, deadline: float) -> str: ...


class OnThreads:
    """*engine*, asked on *threads* threads, with at most *waiting* questions in the queue.

    EngineUnavailable when the queue is full, or when the deadline passes, in the queue or during evaluation.
    Make it after the fork: the threads start with the first question. They end with the process, which does
    not wait for them.
    """

    def __init__(self, engine: Engine, *, threads: int = 2, waiting: int = 64) -> None:
        self._engine = engine
        self._threads = threads
        self._most_waiting = waiting
        self._line: deque[tuple[Future[Any], Callable[[], object]]] = deque()
        self._changed = Condition()
        self._started = False

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def revision(self) -> str:
        return self._engine.revision

    @property
    def waiting(self) -> int:
        """The length of the queue, without the questions being answered."""
        return len(self._line)

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        return self._answer(partial(self._engine.verdict, situation, deadline=deadline), deadline)

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        return self._answer(partial(self._engine.document, rule, given, deadline=deadline), deadline)

    def served_revision(self, *, deadline: float) -> str:
        return self._answer(partial(self._engine.served_revision, deadline=deadline), deadline)

    def _answer(self, ask: Callable[[], T], deadline: float) -> T:
        answer: Future[T] = Future()
        question = answer, ask
        with self._changed:
            if len(self._line) >= self._most_waiting:
                raise EngineUnavailable(
                    f"{self._most_waiting} questions wait for the {self.name} engine already"
                )
            self._line.append(question)
            self._start()
            self._changed.notify()
        try:
            return answer.result(min(max(deadline - monotonic(), 0), _LONGEST_WAIT_S))
        except TimeoutError:
            with self._changed, suppress(ValueError):  # it is being answered
                self._line.remove(question)
            raise EngineUnavailable(f"the {self.name} engine did not answer in time") from None

    def _start(self) -> None:
        """Once, by who holds the lock."""
        if not self._started:
            self._started = True
            for number in range(self._threads):
                Thread(target=self._work, name=f"engine-{number}", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line)
                answer, ask = self._line.popleft()
            try:
                found = ask()
            except BaseException as error:  # noqa: BLE001 - not dealt with here: raised where it was asked
                answer.set_exception(error)
            else:
                answer.set_result(found)
                del found
            del answer, ask  # else they are kept until the next question
