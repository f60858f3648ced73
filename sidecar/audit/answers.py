"""Verdicts of one engine about many situations; equal situations are asked once, and all at a time."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from sidecar.decisions.situation import situation_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.decisions.model import Situation, Verdict

_WITHIN_S = 300.0


class ManyAnswered(Protocol):
    """An engine that answers many situations; OPA does it in few queries."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    def verdicts(
        self, situations: Iterable[bytes], /, *, deadline: float
    ) -> Iterator[tuple[bytes, Verdict]]: ...


class Answers:
    """Also a PolicyEngine, for an authorizer that is to be asked the same."""

    def __init__(self, engine: ManyAnswered) -> None:
        self._engine = engine
        self.name = engine.name
        self.revision = engine.revision
        self._known: dict[bytes, Verdict] = {}

    def __len__(self) -> int:
        """How many situations were asked."""
        return len(self._known)

    def learn(self, situations: Iterable[Situation]) -> None:
        """EngineUnavailable, EngineMisbehaved or RevisionMismatch if one has no verdict."""
        asked = dict.fromkeys(map(situation_bytes, situations))
        unknown = [situation for situation in asked if situation not in self._known]
        self._known.update(self._engine.verdicts(unknown, deadline=monotonic() + _WITHIN_S))

    def about(self, situation: Situation) -> Verdict:
        """*situation* was learnt, or is asked now."""
        if situation_bytes(situation) not in self._known:
            self.learn([situation])
        return self._known[situation_bytes(situation)]

    def recall(self, situation: bytes) -> Verdict | None:
        """What is known of it."""
        return self._known.get(situation)

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        known = self._known.get(situation)
        if known is None:
            self._known.update(self._engine.verdicts([situation], deadline=deadline))
            known = self._known[situation]
        return known
