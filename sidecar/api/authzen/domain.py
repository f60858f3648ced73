"""What AuthZEN's questions can be about: a domain answers evaluations and finds what a search is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sidecar.text.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.api.authzen.wire import Evaluation, Kind, Search
    from sidecar.decisions.model import Decision, Question
    from sidecar.decisions.steps import Steps
    from sidecar.decisions.timings import Timings
    from sidecar.errors import BadQuestion
    from sidecar.identity.callers import Caller


@value
class Answer:
    """*text* is the whole answer in JSON, *outcome* what else the decision log keeps of it, a JSON object.

    *question* is the one of ours that it answers, *made* the decision of ours that it is; *timings* are its
    own.
    """

    decision: bool
    text: bytes
    question: Question | None
    outcome: bytes
    timings: Timings
    made: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Ids, or names of actions, in order; *next* is where to go on behind, None at the end."""

    names: Sequence[str]
    next: str | None


class Domain(Protocol):
    """What its ports raise goes through: an outage is never an answer."""

    @property
    def searches(self) -> tuple[Kind, ...]:
        """What can be searched for."""
        ...

    def answering(
        self,
        asked: Sequence[Evaluation],
        /,
        *,
        deadline: float,
        timings: Timings | None = None,
        last: Callable[[Answer | BadQuestion], bool] = lambda _: False,
    ) -> Steps[list[Answer | BadQuestion]]:
        """In order, up to one that is the *last* that is wanted; what comes after it is not counted.

        *timings* count for all of them together, also when one fails.
        """
        ...

    def found(self, search: Search, /, *, after: str, limit: int, deadline: float) -> Found:
        """Up to *limit* behind *after*, which is empty at the start; BadQuestion if it is no question."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Authzen:
    """*url* is the identifier that clients know this decision point by; None: as they address it.

    *anybody* is who a caller is without a token of ours; None: nobody.
    """

    domain: Domain
    url: str | None = None
    anybody: Caller | None = None
