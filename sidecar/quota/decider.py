"""The one way in for a question of any mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Question
    from sidecar.decisions.timings import Timings
    from sidecar.quota.effects import Effects


class Decider:
    def __init__(self, authorizer: Authorizer, effects: Effects) -> None:
        self._authorizer = authorizer
        self._effects = effects

    def decision(self, question: Question, *, deadline: float, timings: Timings | None = None) -> Decision:
        """*deadline* is on the monotonic clock. Raises what Authorizer.decision or Effects.decision does."""
        if question.mode == "check":
            return self._authorizer.decision(question, deadline=deadline, timings=timings)
        return self._effects.decision(question, deadline=deadline, timings=timings)
