"""Who acts, and actions authorized like any question, committed only while the facts of the decision hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from sidecar.decisions.model import Question
from sidecar.decisions.room import amounts_of
from sidecar.decisions.steps import run
from sidecar.decisions.timings import Timings
from sidecar.errors import WorkspaceContended
from sidecar.text.ids import fresh_id
from sidecar.workspaces.membership import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Facts
    from sidecar.workspaces.ports import PeopleStore

Done = TypeVar("Done")

_TRIES = 2  # what was decided by facts that have changed since is decided once more, and no oftener


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The end user of a request, with the *email* that is known; *record* is called with each decision.

    *via* is the name of the token by which a caller acts for them; None: they show their own. *change_id*
    stands for the decision of a change that no decision precedes: its line of the log has it. *record_change*
    is called with what such a change was.
    """

    user: str
    email: str | None
    email_verified: bool
    deadline: float
    record: Callable[[Question, Decision], None]
    change_id: str = field(default_factory=fresh_id)
    record_change: Callable[[str], None] = lambda _: None
    via: str | None = None

    def by(self, decision: str | None) -> Provenance:
        return Provenance(user=self.user, decision=decision, via=self.via)


class Denied(Exception):
    """The policy says no: not a mistake, but the end of what was to be done."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.verdict.reason)
        self.decision = decision


class AuthorizedActions:
    """What `People` and `Invitations` share: authorize an actor, then act, and retry when facts changed."""

    def __init__(self, authorizer: Authorizer, *, store: PeopleStore) -> None:
        self._authorizer = authorizer
        self._store = store

    def _authorize(self, actor: Actor, workspace: str, action: str) -> tuple[Facts, Decision]:
        """The facts that allow it; Denied if they do not."""
        question = Question(user=actor.user, workspace=workspace, action=action)
        timings = Timings()
        facts = self._authorizer.facts_about(question, deadline=actor.deadline, timings=timings)
        return self._require_grant(actor, question, facts, timings)

    def _require_grant(
        self, actor: Actor, question: Question, facts: Facts | None, timings: Timings
    ) -> tuple[Facts, Decision]:
        amounts = amounts_of(question, catalog=self._authorizer.catalog)
        decision = self._authorizer.decide_from(
            question, amounts, facts, deadline=actor.deadline, timings=timings
        )
        if not decision.allowed:
            completing = self._authorizer.completing(question, decision, amounts, deadline=actor.deadline)
            decision = run(completing)
        actor.record(question, decision)
        if facts is None or not decision.allowed:
            raise Denied(decision)
        return facts, decision

    def _check_reach(self, actor: Actor, workspace: str, facts: Facts, role: str) -> None:
        """Nobody acts on a role above their own. Denied, in the policy's words."""
        if role in self._authorizer.catalog.roles:  # one that is declared no more is nobody's
            question = Question(user=actor.user, workspace=workspace, action=f"role:{role}")
            self._require_grant(actor, question, facts, Timings())

    def _act(
        self,
        actor: Actor,
        workspace: str,
        action: str,
        act: Callable[[Facts, Decision], Done | None],
    ) -> Done:
        """What *act* answers, by facts that held when it was done; None is to be decided again."""
        return retry(lambda: act(*self._authorize(actor, workspace, action)))


def retry(once: Callable[[], Done | None]) -> Done:
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
