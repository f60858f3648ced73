"""The one way in for a question of any mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Question
    from sidecar.decisions.steps import Steps
    from sidecar.decisions.timings import Timings
    from sidecar.quota.spending import Spending


class Decider:
    def __init__(self, authorizer: Authorizer, spending: Spending) -> None:
        self._authorizer = authorizer
        self._spending = spending

    def deciding(
        self, question: Question, *, deadline: float, timings: Timings | None = None
    ) -> Steps[Decision]:
        """*deadline* is on the monotonic clock. Raises what that of Authorizer or Spending does."""
        if question.mode == "check":
            return self._authorizer.deciding(question, deadline=deadline, timings=timings)
        return self._spending.deciding(question, deadline=deadline, timings=timings)
