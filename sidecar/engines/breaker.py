"""A circuit breaker for a policy engine: a silent one gets one question at a time until it answers."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.decisions.model import Verdict
    from sidecar.engines.asked import Engine

_SILENCE_S = 0.05  # a shorter wait proves nothing


class Breaker:
    """*engine*; EngineUnavailable at once while another question tests the silent engine.

    Silent means a timeout. Anything that comes back is an answer: a refused connection, which costs no time,
    a misbehaviour or another revision.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._silent = False
        self._tried = False

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def revision(self) -> str:
        return self._engine.revision

    @property
    def silent(self) -> bool:
        """Whether the last question with enough time got no answer."""
        return self._silent

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        with self._asking(deadline):
            return self._engine.verdict(situation, deadline=deadline)

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        with self._asking(deadline):
            return self._engine.document(rule, given, deadline=deadline)

    def served_revision(self, *, deadline: float) -> str:
        with self._asking(deadline):
            return self._engine.served_revision(deadline=deadline)

    @contextmanager
    def _asking(self, deadline: float) -> Iterator[None]:
        trying = self._begin()
        began = monotonic()
        silent = False
        try:
            yield
        except EngineUnavailable:
            ended = monotonic()
            silent = ended >= deadline
            if silent and ended - began < _SILENCE_S:
                silent = self._silent  # too short to say anything about the engine
            raise
        finally:
            with self._lock:
                self._silent = silent
                if trying:
                    self._tried = False

    def _begin(self) -> bool:
        """Whether this question is the one that tests the engine."""
        with self._lock:
            if not self._silent:
                return False
            if self._tried:
                raise EngineUnavailable(f"the {self.name} engine is silent, and another question tries it")
            self._tried = True
            return True
