"""Another domain than ours in AuthZEN's words: whatever a policy of the operator's own says of them."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.api.authzen.domain import Answer, Found
from sidecar.api.authzen.wire import KINDS, document_of, names_in, replaced
from sidecar.decisions.steps import Wait
from sidecar.decisions.timings import Timings
from sidecar.errors import EngineMisbehaved, RevisionMismatch
from sidecar.rego.authzen import CANDIDATES, DECISION
from sidecar.rego.beside import own_name
from sidecar.text.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sidecar.api.authzen.wire import Evaluation, Kind, Search
    from sidecar.decisions.ports import RuleEngine
    from sidecar.decisions.steps import Steps
    from sidecar.errors import BadQuestion
    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.telemetry.metrics import Metrics

MOST_CANDIDATES = 1_000  # that are decided about for one page


class Rules:
    """A policy, and the engine that has it: an answer of another revision is refused."""

    def __init__(self, policy: AuthzenPolicy, engine: RuleEngine) -> None:
        self._rules = policy.rules
        self._engine = engine
        self._may_have_others = engine.name == "opa"
        self.revision = policy.revision
        self.searches = tuple(kind for kind in KINDS if CANDIDATES[kind] in policy.rules)

    def served_revision(self, *, deadline: float) -> str:
        """By which the engine answers now. EngineMisbehaved if it does not decide even about nothing."""
        revision, answer = self._found(DECISION, b"{}", deadline=deadline)
        _decision_in(answer)
        return revision

    def answer(self, rule: str, given: bytes, *, deadline: float) -> object:
        revision, answer = self._found(rule, given, deadline=deadline)
        if revision != self.revision:
            raise RevisionMismatch(
                f"data.authzen is of revision {revision}, and this process of {self.revision}:"
                " restart the one that is behind"
            )
        return answer

    def _found(self, rule: str, given: bytes, *, deadline: float) -> tuple[str, object]:
        """By the plain name, which is the newest revision's; where that is another, by the name of ours.

        So it is one question but for a release. The newest may lack a rule that ours has.
        """
        plain = self._rules[rule]
        try:
            found = self._ask(plain, given, deadline=deadline)
        except EngineMisbehaved:
            if (own := self._own(plain, given, deadline=deadline)) is None:
                raise
            return own
        if found[0] == self.revision:
            return found
        return self._own(plain, given, deadline=deadline) or found

    def _own(self, plain: str, given: bytes, *, deadline: float) -> tuple[str, object] | None:
        if not self._may_have_others:
            return None
        try:
            return self._ask(own_name(plain, self.revision), given, deadline=deadline)
        except EngineMisbehaved:
            return None

    def _ask(self, rule: str, given: bytes, *, deadline: float) -> tuple[str, object]:
        match self._engine.document(rule, given, deadline=deadline):
            case {"revision": str(revision), "answer": answer, **rest} if not rest:
                return revision, answer
            case _:
                raise EngineMisbehaved(f"{rule} came without its revision")


class PolicyDomain:
    """A Domain. Nothing is remembered: with their properties, no two questions need be the same."""

    def __init__(self, rules: Rules, *, metrics: Metrics) -> None:
        self._rules = rules
        self._metrics = metrics
        self.searches = rules.searches

    def answering(
        self,
        asked: Sequence[Evaluation],
        /,
        *,
        deadline: float,
        timings: Timings | None = None,
        last: Callable[[Answer | BadQuestion], bool] = lambda _: False,
    ) -> Steps[list[Answer | BadQuestion]]:
        timings = timings or Timings()
        answers: list[Answer | BadQuestion] = []
        for evaluation in asked:
            before, began = timings.policy_s, monotonic()
            try:
                decision, context = yield Wait(self._decision, evaluation, deadline=deadline)
            finally:
                timings.policy_s += monotonic() - began
            self._metrics.count_evaluation(decision=decision)
            document = (
                {"decision": decision} if context is None else {"decision": decision, "context": context}
            )
            outcome = {
                **names_in(evaluation),
                "decision": decision,
                "policy_revision": self._rules.revision,
            }
            answers.append(
                Answer(
                    decision=decision,
                    text=encoded(document),
                    question=None,
                    outcome=encoded(outcome),
                    timings=Timings(policy_s=timings.policy_s - before),
                )
            )
            if last(answers[-1]):
                break
        return answers

    def found(self, search: Search, /, *, after: str, limit: int, deadline: float) -> Found:
        candidates = self._candidates(search, deadline=deadline)
        rest = [name for name in candidates if name > after]
        names: list[str] = []
        for name in rest[:MOST_CANDIDATES]:
            if self._decision(_about(search, name), deadline=deadline)[0]:
                if len(names) == limit:
                    return Found(names=names, next=after)
                names.append(name)
            after = name
        return Found(names=names, next=after if len(rest) > MOST_CANDIDATES else None)

    def _candidates(self, search: Search, *, deadline: float) -> list[str]:
        """Each that comes into question, of the type that is searched for, once and in order."""
        rule = CANDIDATES[search.kind]
        answer = self._answer(rule, search.about, deadline=deadline)
        if not isinstance(answer, list):
            raise EngineMisbehaved(f"data.authzen.{rule} is no list and no set")
        named = [_name_in(candidate, search.kind) for candidate in answer]
        wanted = None if search.kind == "action" else getattr(search.about, search.kind).type
        return sorted({name for of_type, name in named if of_type == wanted})

    def _decision(
        self, evaluation: Evaluation, *, deadline: float
    ) -> tuple[bool, Mapping[str, object] | None]:
        return _decision_in(self._answer(DECISION, evaluation, deadline=deadline))

    def _answer(self, rule: str, evaluation: Evaluation, *, deadline: float) -> object:
        return self._rules.answer(rule, encoded(document_of(evaluation)), deadline=deadline)


def _about(search: Search, name: str) -> Evaluation:
    about = search.about
    match search.kind:
        case "subject":
            return replaced(about, subject=replaced(about.subject, id=name))
        case "resource":
            return replaced(about, resource=replaced(about.resource, id=name))
        case _:
            return replaced(about, action=replaced(about.action, name=name))


def _decision_in(answer: object) -> tuple[bool, Mapping[str, Any] | None]:
    match answer:
        case bool(decision):
            return decision, None
        case {"decision": bool(decision), **rest} if not rest:
            return decision, None
        case {"decision": bool(decision), "context": dict(context), **rest} if not rest:
            return decision, context
        case _:
            raise EngineMisbehaved(
                "data.authzen.decision is neither true, nor false, nor an object of decision and context"
            )


def _name_in(candidate: object, kind: Kind) -> tuple[str | None, str]:
    """Its type, None of an action, and its name."""
    match candidate:
        case {"name": str(name), **rest} if kind == "action" and name and not rest:
            return None, name
        case {"type": str(of_type), "id": str(name), **rest} if kind != "action" and name and not rest:
            return of_type, name
        case _:
            shape = '{"name"}' if kind == "action" else '{"type", "id"}'
            raise EngineMisbehaved(f"data.authzen.{CANDIDATES[kind]} holds what is no {shape}")
