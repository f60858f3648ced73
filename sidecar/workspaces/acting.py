"""A member who does something: decided like any question, and done only while those facts still hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sidecar.decisions.model import Question
from sidecar.decisions.room import amounts_of
from sidecar.decisions.timings import Timings
from sidecar.errors import EngineMisbehaved, WorkspaceContended

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Facts
    from sidecar.workspaces.ports import PeopleStore

Done = TypeVar("Done")

_TRIES = 2  # what was decided by facts that have changed since is decided once more, and no oftener


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who acts, with the *email* of his token, and whether it is proved; *told* hears of each decision."""

    user: str
    email: str | None
    email_verified: bool
    deadline: float
    told: Callable[[Question, Decision], None]


class Denied(Exception):
    """The policy says no: not a mistake, but the end of what was to be done."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.verdict.reason)
        self.decision = decision


class Acting:
    def __init__(self, authorizer: Authorizer, *, store: PeopleStore) -> None:
        self._authorizer = authorizer
        self._store = store

    def _asked(self, asking: Asking, workspace: str, action: str) -> tuple[Facts, Decision]:
        """Denied, or the facts that he may by."""
        question = Question(user=asking.user, workspace=workspace, action=action)
        timings = Timings()
        facts = self._authorizer.facts_about(question, deadline=asking.deadline, timings=timings)
        return self._granted(asking, question, facts, timings)

    def _granted(
        self, asking: Asking, question: Question, facts: Facts | None, timings: Timings
    ) -> tuple[Facts, Decision]:
        amounts = amounts_of(question, catalog=self._authorizer.catalog)
        decision = self._authorizer.decide_from(
            question, amounts, facts, deadline=asking.deadline, timings=timings
        )
        asking.told(question, decision)
        if not decision.allowed:
            raise Denied(decision)
        if facts is None:
            raise EngineMisbehaved("the policy grants something to who is no member")
        return facts, decision

    def _check_reach(self, asking: Asking, workspace: str, facts: Facts, role: str) -> None:
        """Nobody acts on a role above his own. Denied, in the policy's words."""
        if role in self._authorizer.catalog.roles:  # one that is declared no more is nobody's
            question = Question(user=asking.user, workspace=workspace, action=f"role:{role}")
            self._granted(asking, question, facts, Timings())

    def _done(
        self,
        asking: Asking,
        workspace: str,
        action: str,
        act: Callable[[Facts, Decision], Done | None],
    ) -> Done:
        """What *act* answers, by facts that held when it was done; None is to be decided again."""
        return tried(lambda: act(*self._asked(asking, workspace, action)))


def tried(once: Callable[[], Done | None]) -> Done:
    """WorkspaceContended when something else was faster each time; then nothing was done."""
    for tries_left in reversed(range(_TRIES)):
        try:
            done = once()
        except WorkspaceContended:
            if not tries_left:
                raise
        else:
            if done is not None:
                return done
    raise WorkspaceContended("the last seat was taken and given back while it was decided about")
