"""Questions in our own words: may this user do it, what may they do, and where."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.api import problems, rendered, wire
from sidecar.api.audience import Audience
from sidecar.api.endpoint import OUTAGES, Endpoint, parameters_of
from sidecar.api.log_lines import PlainLines, note, note_decision, note_listing, note_plainly, took_of
from sidecar.api.reply import json_reply, text_reply
from sidecar.api.request import parsed, part_of
from sidecar.api.service import deadline_of
from sidecar.decisions.authorizer import AT_ONCE, MAX_ROWS_SCANNED, Known
from sidecar.decisions.steps import Pause
from sidecar.decisions.timings import Timings
from sidecar.errors import BadQuestion
from sidecar.text.encoding import encoded
from sidecar.text.shapes import Text, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.authorizer import Entitlements
    from sidecar.decisions.model import Decision, Facts, Question
    from sidecar.decisions.steps import Steps

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
    items = yield from parsed(wire.questions_from, request.body(), deadline=deadline_of(service, request))
    service.metrics.observe_batch("authorize_batch", len(items))
    questions = [item for item in items if not isinstance(item, BadQuestion)]
    deadline = deadline_of(service, request, questions=len(items))
    decided: Iterator[Decision | Known | BadQuestion] = iter(())
    if questions:
        decided = iter(
            (
                yield from service.authorizer.deciding_many(
                    questions, deadline=deadline, timings=request.timings
                )
            )
        )
    answers: list[bytes] = []
    lines = PlainLines.of(service, request.caller, AUTHORIZE_BATCH.name)
    at = took = b""
    for place, item in enumerate(items):
        if place % AT_ONCE == 0:
            if place:
                yield Pause()
            at = encoded(datetime.now(UTC))
            took = took_of(request.timings, monotonic() - request.began)
        if isinstance(item, BadQuestion):
            answers.append(_problem(service, request, None, item))
            continue
        answer = next(decided)
        if isinstance(answer, Known):
            texts = rendered.filled(answer, "native")
            if texts is not None:
                answers.append(texts[0])
                service.metrics.count_verdict(answer.cell.verdict)
                request.is_noted |= note_plainly(
                    service,
                    lines,
                    (item.user, item.workspace, item.action),
                    answer,
                    texts[1],
                    at=at,
                    request_id=request.id,
                    took=took,
                )
                continue
            own = Timings(facts_s=request.timings.facts_s)
            answer = service.authorizer.decision(item, answer, timings=own)
        if isinstance(answer, BadQuestion):
            answers.append(_problem(service, request, item, problems.moved(answer, f"/questions/{place}")))
        else:
            answers.append(rendered.native(answer))
            note_decision(service, request, AUTHORIZE_BATCH.name, item, answer)
    return text_reply(b'{"answers":[%b]}' % b",".join(answers))


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
