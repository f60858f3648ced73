"""AuthZEN 1.0: evaluation, evaluations, the three searches, and the metadata that lead to them."""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sidecar.api.audience import Audience
from sidecar.api.authzen import wire as authzen_wire
from sidecar.api.authzen.page import start_of, token_of
from sidecar.api.authzen.wire import MOST_ON_A_PAGE, USUAL_PAGE, Batch
from sidecar.api.authzen.workspaces import Workspaces, plain_question_of
from sidecar.api.endpoint import BODY_CODES, OUTAGES, Endpoint
from sidecar.api.log_lines import leave_out, note, note_listing, note_outcome
from sidecar.api.many import Many
from sidecar.api.problems import moved
from sidecar.api.reply import JSON, json_reply, text_reply
from sidecar.api.request import parsed
from sidecar.api.service import deadline_of
from sidecar.errors import BadQuestion, NotServed, Problem
from sidecar.settings import is_loopback
from sidecar.text import shapes
from sidecar.text.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.api.authzen.domain import Answer
    from sidecar.api.authzen.wire import Evaluation, Kind, Semantic
    from sidecar.api.many import Plain
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.steps import Steps

_WELL_KNOWN = "/.well-known/authzen-configuration"
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?", re.ASCII)
_METADATA_FOR_S = 300
_ENDS_WITH: Mapping[Semantic, bool] = {"deny_on_first_deny": False, "permit_on_first_permit": True}


def evaluation(service: Service, request: Request) -> Steps[Reply]:
    asked = yield from parsed(
        authzen_wire.evaluation_from, _body(request), deadline=deadline_of(service, request)
    )
    return (yield from _one(service, request, asked, EVALUATION.name))


def evaluations(service: Service, request: Request) -> Steps[Reply]:
    asked = yield from parsed(
        authzen_wire.evaluations_from, _body(request), deadline=deadline_of(service, request)
    )
    if not isinstance(asked, Batch):
        return (yield from _one(service, request, asked, EVALUATIONS.name))
    service.metrics.observe_batch(EVALUATIONS.name, len(asked.items))
    ends_with = _ENDS_WITH.get(asked.semantic)
    items = asked.items
    deadline = deadline_of(service, request, questions=len(items))
    if ends_with is False:  # an item that is no question is a denial
        marks = [isinstance(item, BadQuestion) for item in items]
        items = items[: marks.index(True) + 1] if True in marks else items
    plain: list[Plain | None] = [None] * len(items)
    if isinstance(service.authzen.domain, Workspaces):
        plain = [None if isinstance(item, BadQuestion) else plain_question_of(item) for item in items]
    many = Many(service, request, endpoint=EVALUATIONS.name, form="authzen", deadline=deadline)
    texts = yield from many.answering(
        items,
        plain,
        deciding=partial(_deciding, service, request, deadline=deadline, ends_with=ends_with),
        text_of=partial(_text_of, service, request),
        ends_with=ends_with,
    )
    return text_reply(b'{"evaluations":[%b]}' % b",".join(texts))


def _deciding(
    service: Service,
    request: Request,
    items: Sequence[Evaluation | BadQuestion],
    *,
    deadline: float,
    ends_with: bool | None,
) -> Steps[list[Answer | BadQuestion]]:
    """The answers to *items*, up to the first of their evaluations that is the last that is wanted."""
    good = [item for item in items if not isinstance(item, BadQuestion)]
    answers: Iterator[Answer | BadQuestion] = iter(())
    if good:
        answers = iter(
            (
                yield from service.authzen.domain.answering(
                    good,
                    deadline=deadline,
                    timings=request.timings,
                    last=lambda answer: _decision_of(answer) == ends_with,
                )
            )
        )
    found: list[Answer | BadQuestion] = []
    for item in items:
        answer = item if isinstance(item, BadQuestion) else next(answers, None)
        if answer is None:
            break
        found.append(answer)
    return found


def _text_of(
    service: Service,
    request: Request,
    place: int,
    item: Evaluation | BadQuestion,
    answer: Answer | BadQuestion,
) -> tuple[bytes, bool]:
    if isinstance(answer, BadQuestion):
        error = answer if answer is item else moved(answer, f"/evaluations/{place}")
        service.metrics.count_problem(answer.code)
        outcome = {"code": answer.code, "status": HTTPStatus.BAD_REQUEST}
        note(service, request, EVALUATIONS.name, None, outcome, kind="problem")
        return encoded(authzen_wire.error_document(error)), False
    _note(service, request, EVALUATIONS.name, answer)
    return answer.text, answer.decision


def search(service: Service, request: Request, *, kind: Kind) -> Reply:
    if kind not in service.authzen.domain.searches:
        raise NotServed(f"the policy has no rule for this search: {_WELL_KNOWN} lists what is served")
    asked = authzen_wire.search_from(kind, _body(request))
    after, limit = start_of(asked)
    found = service.authzen.domain.found(
        asked,
        after=after,
        limit=max(1, USUAL_PAGE if limit is None else limit),
        deadline=deadline_of(service, request, questions=MOST_ON_A_PAGE),
    )
    names, following = found.names, found.next
    if limit == 0 and names:  # there is something, and none of it was wanted
        names, following = [], after
    document: dict[str, Any] = {}
    if asked.page or following is not None:
        token = "" if following is None else token_of(asked, after=following, limit=limit)
        document["page"] = {"next_token": token, "count": len(names)}
    of_type = {"subject": asked.about.subject.type, "resource": asked.about.resource.type}.get(kind)
    document["results"] = [
        {"name": name} if of_type is None else {"type": of_type, "id": name} for name in names
    ]
    return note_listing(
        service,
        request,
        f"search_{kind}",
        json_reply(document),
        found=len(names),
        **authzen_wire.names_in(asked.about),
        results=len(names),
    )


def metadata(service: Service, request: Request) -> Reply:
    """Of the very identifier that the client has made the path of: it must take no other for its own."""
    url = service.authzen.url
    headers = [JSON]
    if url is None:
        url = _as_addressed(request)
    else:
        headers.append(("Cache-Control", f"max-age={_METADATA_FOR_S}"))
    if urlsplit(url).path.removeprefix("/") != request.path.get("tenant", ""):
        raise NotServed("no identifier here has this path: see SIDECAR_AUTHZEN_URL")
    served = [EVALUATION, EVALUATIONS]
    served += [_SEARCH_OF[kind] for kind in service.authzen.domain.searches]
    document = {"policy_decision_point": url}
    document |= {f"{endpoint.name}_endpoint": f"{url}{endpoint.path}" for endpoint in served}
    return HTTPStatus.OK, headers, encoded(document)


def _one(service: Service, request: Request, asked: Evaluation, name: str) -> Steps[Reply]:
    [answer] = yield from service.authzen.domain.answering(
        [asked], deadline=deadline_of(service, request), timings=request.timings
    )
    if isinstance(answer, BadQuestion):
        raise answer
    _note(service, request, name, answer)
    return text_reply(answer.text)


def _note(service: Service, request: Request, name: str, answer: Answer) -> None:
    if leave_out(service, request, is_granted_check=answer.decision):
        return
    note_outcome(
        service,
        request,
        name,
        answer.question,
        answer.outcome,
        timings=answer.timings,
        decision=answer.made,
    )


def _decision_of(answer: Answer | BadQuestion) -> bool:
    """What is no question is not allowed."""
    return not isinstance(answer, BadQuestion) and answer.decision


def _body(request: Request) -> bytes:
    """BadQuestion, which AuthZEN answers with 400 where it is of another type than JSON as well."""
    try:
        return request.body()
    except BadQuestion as bad:
        if bad.code == "unsupported_media_type":
            raise BadQuestion(bad.detail) from bad
        raise


def _as_addressed(request: Request) -> str:
    """TLS is not ended here: whoever comes from another machine came by a proxy that ended it."""
    host = request.header("Host") or ""
    if not _HOST.fullmatch(host):
        raise shapes.refusal((Problem(pointer="/header/Host", detail="is no name of a host"),))
    local = is_loopback(host if re.search(r":[0-9]+$", host) else f"{host}:80")
    return f"{'http' if local else 'https'}://{host}"


_CODES = tuple(code for code in BODY_CODES if code != "unsupported_media_type")
EVALUATION = Endpoint(
    name="access_evaluation",
    method="POST",
    path="/access/v1/evaluation",
    reply=evaluation,
    says="AuthZEN: may this subject perform this action on this resource?",
    answers="AccessDecision",
    codes=("meter_not_taken", *OUTAGES),
    audience=Audience.AUTHORIZE,
    body=authzen_wire.EVALUATION,
    body_codes=_CODES,
)
EVALUATIONS = Endpoint(
    name="access_evaluations",
    method="POST",
    path="/access/v1/evaluations",
    reply=evaluations,
    says="AuthZEN: up to 1,000 evaluations at once, in order; what is wrong with one is its own answer.",
    answers="AccessDecisions",
    codes=("meter_not_taken", *OUTAGES),
    audience=Audience.AUTHORIZE,
    body=authzen_wire.EVALUATIONS,
    body_codes=_CODES,
)
_SAYS: Mapping[Kind, str] = {
    "subject": "AuthZEN: who may perform this action on this resource?",
    "resource": "AuthZEN: on which resources may this subject perform this action?",
    "action": "AuthZEN: which actions may this subject perform on this resource?",
}
_SEARCH_OF: Mapping[Kind, Endpoint] = {
    kind: Endpoint(
        name=f"search_{kind}",
        method="POST",
        path=f"/access/v1/search/{kind}",
        reply=partial(search, kind=kind),
        says=says,
        answers="FoundActions" if kind == "action" else "FoundEntities",
        codes=("meter_not_taken", "not_found", *OUTAGES),
        audience=Audience.AUTHORIZE,
        body=authzen_wire.SEARCHES[kind],
        body_codes=_CODES,
    )
    for kind, says in _SAYS.items()
}
_METADATA = Endpoint(
    name="authzen_configuration",
    method="GET",
    path=_WELL_KNOWN,
    reply=metadata,
    says="AuthZEN: where its endpoints are.",
    answers="AuthzenConfiguration",
    codes=("not_found",),
    audience=Audience.ANYBODY,
    while_starting=True,
)
_METADATA_OF_TENANT = Endpoint(
    name="authzen_configuration_of_tenant",
    method="GET",
    path=f"{_WELL_KNOWN}/{{tenant}}",
    reply=metadata,
    says="AuthZEN: the same, for an identifier that has a path.",
    answers="AuthzenConfiguration",
    codes=("not_found",),
    audience=Audience.ANYBODY,
    while_starting=True,
)
AUTHZEN = (EVALUATION, EVALUATIONS, *_SEARCH_OF.values(), _METADATA, _METADATA_OF_TENANT)
