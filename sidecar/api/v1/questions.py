"""Questions in our own words: may this user do it, what may they do, and where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sidecar.api import problems, rendered, wire
from sidecar.api.audience import Audience
from sidecar.api.endpoint import OUTAGES, Endpoint, parameters_of
from sidecar.api.log_lines import note, note_decision, note_listing
from sidecar.api.many import Many, Plain
from sidecar.api.reply import json_reply, text_reply
from sidecar.api.request import parsed, part_of
from sidecar.api.service import deadline_of
from sidecar.decisions.authorizer import MAX_ROWS_SCANNED
from sidecar.decisions.model import Question
from sidecar.errors import BadQuestion
from sidecar.text.encoding import encoded
from sidecar.text.shapes import Text, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.authorizer import Entitlements
    from sidecar.decisions.model import Decision, Facts
    from sidecar.decisions.steps import Steps

Asked = Plain | Question | BadQuestion  # of a batch
MOST_ON_A_PAGE = 1_000
USUAL_PAGE = 100


def authorize(service: Service, request: Request) -> Steps[Reply]:
    deadline = deadline_of(service, request)
    question = yield from parsed(wire.question_from, request.body(), deadline=deadline)
    request.question = question
    decision = yield from service.decider.deciding(question, deadline=deadline, timings=request.timings)
    reply = text_reply(rendered.native(decision))
    note_decision(service, request, "authorize", question, decision)
    return reply


def authorize_batch(service: Service, request: Request) -> Steps[Reply]:
    raw = request.body()
    items: Sequence[Asked] | None = wire.plain_questions_in(raw, quickly=True)
    if items is None:
        items = yield from parsed(wire.batch_from, raw, deadline=deadline_of(service, request))
    service.metrics.observe_batch(AUTHORIZE_BATCH.name, len(items))
    deadline = deadline_of(service, request, questions=len(items))
    many = Many(service, request, endpoint=AUTHORIZE_BATCH.name, form="native", deadline=deadline)
    answers = yield from many.answering(
        items,
        [*map(_plain_in, items)],
        deciding=partial(_deciding, service, request, deadline=deadline),
        text_of=partial(_text_of, service, request),
    )
    return text_reply(b'{"answers":[%b]}' % b",".join(answers))


def _deciding(
    service: Service, request: Request, items: Sequence[Asked], *, deadline: float
) -> Steps[list[tuple[Question | None, Decision | BadQuestion]]]:
    """The answers to *items* of a batch, each with its question; None where it could not be read."""
    questions = [_question_of(item) for item in items if not isinstance(item, BadQuestion)]
    decided: Iterator[Decision | BadQuestion] = iter(())
    if questions:
        decided = iter(
            (
                yield from service.authorizer.deciding_many(
                    questions, deadline=deadline, timings=request.timings
                )
            )
        )
    asked = iter(questions)
    return [(None, item) if isinstance(item, BadQuestion) else (next(asked), next(decided)) for item in items]


def _text_of(
    service: Service,
    request: Request,
    place: int,
    item: Asked,
    answer: tuple[Question | None, Decision | BadQuestion],
) -> tuple[bytes, bool]:
    question, decision = answer
    if isinstance(decision, BadQuestion):
        bad = decision if decision is item else problems.moved(decision, f"/questions/{place}")
        return _problem(service, request, question, bad), False
    note_decision(service, request, AUTHORIZE_BATCH.name, question, decision)
    return rendered.native(decision), decision.allowed


def _plain_in(item: Asked) -> Plain | None:
    if isinstance(item, tuple):
        return item
    if isinstance(item, BadQuestion) or item.amounts is not None or item.resource is not None or item.context:
        return None
    return item.user, item.workspace, item.action


def _question_of(item: Plain | Question) -> Question:
    if isinstance(item, tuple):
        user, workspace, action = item
        return Question(user=user, workspace=workspace, action=action)
    return item


def _problem(service: Service, request: Request, question: Question | None, bad: BadQuestion) -> bytes:
    """The answer to one of many that is no question; *question* is None where it could not be read."""
    problem = problems.problem_of(bad)
    service.metrics.count_problem(bad.code)
    note(
        service,
        request,
        AUTHORIZE_BATCH.name,
        question,
        {"code": bad.code, "status": problem["status"]},
        kind="problem",
    )
    return encoded(problem)


def entitlements(service: Service, request: Request) -> Reply:
    user = parameters_of(request, ENTITLEMENTS)["user"]
    workspace = part_of(request, "workspace")
    has = service.authorizer.entitlements(
        user, wire.workspace_from(workspace), deadline=deadline_of(service, request)
    )
    return note_listing(
        service,
        request,
        "entitlements",
        json_reply(entitlements_document(service, has, features=has.features)),
        found=sum(has.actions.values()),
        user=user,
        workspace=workspace,
        workspace_id=has.facts.workspace_id,
        facts_version=has.facts.version,
    )


def entitlements_document(
    service: Service, has: Entitlements, *, features: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "workspace": {"id": has.facts.workspace_id, "slug": has.facts.slug, "name": has.facts.name},
        "role": has.facts.role,
        "plan": has.facts.plan,
        "features": features,
        "quotas": wire.quotas_document(has.quotas),
        "actions": has.actions,
        "policy_revision": service.authorizer.policy.revision,
    }


def workspaces_of_a_user(service: Service, request: Request) -> Reply:
    parameters = parameters_of(request, WORKSPACES_OF_A_USER)
    user = part_of(request, "user")
    page = service.authorizer.workspaces_of(
        user,
        action=parameters.get("action"),
        after=parameters.get("after"),
        limit=parameters.get("limit", USUAL_PAGE),
        deadline=deadline_of(service, request, questions=MAX_ROWS_SCANNED),
    )
    return note_listing(
        service,
        request,
        "workspaces_of_a_user",
        json_reply({"workspaces": [_row(facts) for facts in page.workspaces], "next": page.next}),
        found=len(page.workspaces),
        user=user,
        action=parameters.get("action"),
    )


def _row(facts: Facts) -> dict[str, Any]:
    return {
        "id": facts.workspace_id,
        "slug": facts.slug,
        "name": facts.name,
        "role": facts.role,
        "plan": facts.plan,
    }


ENTITLEMENTS = Endpoint(
    name="entitlements",
    method="GET",
    path="/v1/workspaces/{workspace}/entitlements",
    reply=entitlements,
    says="All that a frontend needs to draw itself for one user in one workspace.",
    answers="Entitlements",
    codes=("not_a_member", *OUTAGES),
    audience=Audience.AUTHORIZE,
    query={"user": Text()},
    required_query=("user",),
)
WORKSPACES_OF_A_USER = Endpoint(
    name="workspaces_of_a_user",
    method="GET",
    path="/v1/users/{user}/workspaces",
    reply=workspaces_of_a_user,
    says="Where may this user perform an action now? Without one: all workspaces.",
    answers="Workspaces",
    codes=OUTAGES,
    audience=Audience.AUTHORIZE,
    query={"action": Text(), "after": Text(), "limit": Whole(1, MOST_ON_A_PAGE)},
)
AUTHORIZE = Endpoint(
    name="authorize",
    method="POST",
    path="/v1/authorize",
    reply=authorize,
    says="May this user, in this workspace, perform this action now?",
    answers="Decision",
    codes=(
        "meter_not_taken",
        "meter_not_consumable",
        "idempotency_key_reused",
        *OUTAGES,
    ),
    audience=Audience.AUTHORIZE,
    body=wire.QUESTION,
)
AUTHORIZE_BATCH = Endpoint(
    name="authorize_batch",
    method="POST",
    path="/v1/authorize/batch",
    reply=authorize_batch,
    says="Up to 1,000 questions at once; each is answered, or has its problem, in its place.",
    answers="Answers",
    codes=("mode_not_batched", *OUTAGES),
    audience=Audience.AUTHORIZE,
    body=wire.BATCH,
)
NATIVE = (AUTHORIZE, AUTHORIZE_BATCH, ENTITLEMENTS, WORKSPACES_OF_A_USER)
