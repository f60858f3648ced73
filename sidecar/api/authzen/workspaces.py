"""Our own domain in AuthZEN's words: a subject is a user, a resource a workspace, an action one of ours.

Roles and plans are never taken from a request, whose properties are only claims. How much an action is to
take may stand there (*amounts*), or in the context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.api import rendered, wire
from sidecar.api.authzen.domain import Answer, Found
from sidecar.api.authzen.wire import KINDS, plain_evaluation_in
from sidecar.api.problems import moved
from sidecar.decisions.authorizer import AT_ONCE
from sidecar.decisions.model import Question
from sidecar.decisions.steps import Pause
from sidecar.decisions.timings import Timings
from sidecar.errors import BadQuestion
from sidecar.text import shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sidecar.api.authzen.wire import Entity, Evaluation, Search
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision
    from sidecar.decisions.steps import Steps
    from sidecar.telemetry.metrics import Metrics

_USER, _WORKSPACE = "user", "workspace"


class Workspaces:
    """A Domain."""

    searches = KINDS

    def __init__(self, authorizer: Authorizer, *, metrics: Metrics) -> None:
        self._authorizer = authorizer
        self._metrics = metrics

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
        questions = [_question(evaluation) for evaluation in asked]
        good = [question for question in questions if isinstance(question, Question)]
        decided: Iterator[Decision | BadQuestion] = iter(())
        if good:
            decided = iter(
                (yield from self._authorizer.deciding_many(good, deadline=deadline, timings=timings))
            )
        answers: list[Answer | BadQuestion] = []
        for place, (evaluation, question) in enumerate(zip(asked, questions, strict=True)):
            if place % AT_ONCE == AT_ONCE - 1:
                yield Pause()
            decision = question if isinstance(question, BadQuestion) else next(decided)
            if isinstance(question, BadQuestion):
                answers.append(question)
            elif isinstance(decision, BadQuestion):
                answers.append(moved(decision, _amounts_in(evaluation)[1]))
            else:
                answers.append(self._answer(question, decision))
            if last(answers[-1]):
                break
        return answers

    def _answer(self, question: Question, decision: Decision) -> Answer:
        self._metrics.count_decision(decision, catalog=self._authorizer.catalog)
        return Answer(
            decision=decision.allowed,
            text=rendered.authzen(decision),
            question=question,
            outcome=rendered.outcome(decision),
            timings=decision.timings,
            made=decision,
        )

    def found(self, search: Search, /, *, after: str, limit: int, deadline: float) -> Found:
        about = search.about
        if about.subject.type != _USER or about.resource.type != _WORKSPACE:
            return Found(names=(), next=None)  # there is nobody and nothing else here
        question = _question(about)
        if isinstance(question, BadQuestion):
            raise question
        try:
            return self._found(search, question, after=after, limit=limit, deadline=deadline)
        except BadQuestion as bad:
            raise moved(bad, _amounts_in(about)[1]) from bad

    def _found(self, search: Search, question: Question, *, after: str, limit: int, deadline: float) -> Found:
        authorizer = self._authorizer
        match search.kind:
            case "subject":
                members = authorizer.members_who_may(question, after=after, limit=limit, deadline=deadline)
                return Found(names=members.users, next=members.next)
            case "resource":
                where = authorizer.workspaces_of(
                    question.user,
                    action=question.action,
                    amounts=question.amounts,
                    context=question.context,
                    after=after or None,
                    limit=limit,
                    deadline=deadline,
                )
                return Found(names=[facts.slug for facts in where.workspaces], next=where.next)
            case _:
                names = authorizer.actions_of(question, deadline=deadline)
                rest = [name for name in names if name > after]
                return Found(names=rest[:limit], next=rest[limit - 1] if len(rest) > limit else None)


def plain_question_in(raw: bytes) -> tuple[str, str, str] | None:
    """As `wire.plain_question_in`, of an evaluation about a user and a workspace."""
    plain = plain_evaluation_in(raw)
    return None if plain is None else plain_question_of(plain)


def plain_question_of(evaluation: Evaluation) -> tuple[str, str, str] | None:
    """User, workspace and action of an evaluation that says nothing else that counts."""
    subject, resource = evaluation.subject, evaluation.resource
    if (
        subject.type != _USER
        or resource.type != _WORKSPACE
        or evaluation.context
        or evaluation.action.properties is not None
    ):
        return None
    return subject.id, wire.workspace_from(resource.id), evaluation.action.name


def _question(evaluation: Evaluation) -> Question | BadQuestion:
    if evaluation.context is None and evaluation.action.properties is None:  # as mostly
        return _asked(evaluation, None)
    amounts, at = _amounts_in(evaluation)
    if amounts is not None and (problems := shapes.problems_with(amounts, wire.AMOUNTS, at=f"{at}/amounts")):
        return shapes.refusal(problems)
    return _asked(evaluation, amounts)


def _asked(evaluation: Evaluation, amounts: Mapping[str, int] | None) -> Question:
    return Question(
        user=_name_of(evaluation.subject, _USER),
        workspace=wire.workspace_from(_name_of(evaluation.resource, _WORKSPACE)),
        action=evaluation.action.name,
        amounts=amounts,
        context=evaluation.context or {},
    )


def _name_of(entity: Entity, kind: str) -> str:
    """What is of another kind names nobody and nothing here: no text with a NUL can be in the database."""
    return entity.id if entity.type == kind else f"\0{entity.type}:{entity.id}"


def _amounts_in(evaluation: Evaluation) -> tuple[Any, str]:
    """How much is to be taken, None if nothing says so, and where it says so."""
    properties = evaluation.action.properties or {}
    if properties.get("amounts") is not None:
        return properties["amounts"], "/action/properties"
    return (evaluation.context or {}).get("amounts"), "/context"
