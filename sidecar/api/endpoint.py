"""An endpoint: one row of the table; how it is served, and its line in the log."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from sidecar.api import problems
from sidecar.api.audience import Audience
from sidecar.errors import CallerForbidden, DependencyError, Problem, SidecarError
from sidecar.text import shapes
from sidecar.text.encoding import embedded
from sidecar.text.shapes import Shape, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.api.authzen.domain import Authzen
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.catalog.routes import Routes
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Question
    from sidecar.decisions.timings import Timings
    from sidecar.identity.callers import Callers
    from sidecar.identity.users import Identities
    from sidecar.quota.decider import Decider
    from sidecar.quota.effects import Effects
    from sidecar.telemetry.decision_log import DecisionLog
    from sidecar.telemetry.metrics import Metrics
    from sidecar.workspaces.administration import Administration
    from sidecar.workspaces.invitations import Invitations
    from sidecar.workspaces.people import People

PER_QUESTION_S = 0.002  # what each further question of one request adds to its deadline
_MS = 1_000
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_DECIDING = ("/v1/", "/access/")
BODY_CODES = ("malformed_json", "invalid_request", "body_too_large", "unsupported_media_type")
FACTS_OUTAGES = ("facts_unavailable", "facts_misread", "database_not_migrated")
OUTAGES = (
    "policy_engine_unavailable",
    "policy_engine_misbehaved",
    "policy_revision_mismatch",
    *FACTS_OUTAGES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """*parts*: what the worker, the policy engine and the database say of themselves."""

    ready: bool
    parts: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the endpoints need; a worker builds it once.

    *identities* is None where no end user can prove who he is: nothing is served to them. *bundle* gives the
    bytes and their ETag; *serving* is false until every verdict is in the memo.
    """

    authorizer: Authorizer
    effects: Effects
    decider: Decider
    people: People
    invitations: Invitations
    routes: Routes
    administration: Administration
    callers: Callers
    identities: Identities | None
    metrics: Metrics
    log: DecisionLog
    authzen: Authzen
    deadline_s: float
    bundle: Callable[[], tuple[bytes, str]]
    readiness: Callable[[], Readiness]
    serving: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """*path* is a template; *body* is None where none is asked for.

    *says* is one sentence for /openapi.json, *answers* its schema there (its media type, where not JSON;
    None for an empty body), *codes* the problems that it has beside those that every endpoint of its kind
    has, *body_codes* those of a body. Its *audience* has no default, so that nobody opens an
    endpoint by forgetting it. One that answers *at_once* waits for nothing and for nobody, so the server's
    loop answers it itself.
    """

    name: str
    method: str
    path: str
    reply: Callable[[Service, Request], Reply]
    says: str
    answers: str | None
    audience: Audience
    codes: tuple[str, ...] = ()
    query: Mapping[str, Shape] = field(default_factory=dict)
    required_query: tuple[str, ...] = ()
    body: Shape | None = None
    body_required: bool = True
    status: int = 200
    body_codes: tuple[str, ...] = BODY_CODES
    while_starting: bool = False
    at_once: bool = False


def served(service: Service, endpoint: Endpoint, request: Request) -> Reply:
    """The reply of *endpoint*, or the problem with asking it."""
    try:
        if endpoint.audience.scope is not None:
            _refuse_without_scope(endpoint.audience.scope, request)
        if endpoint.audience is Audience.END_USERS:
            if service.identities is None:
                return refused(service, endpoint, request, problems.problem("not_found"))
            request.user = service.identities.user(
                request.header("Authorization"), deadline=deadline_of(service, request)
            )
        if request.query and not endpoint.query and endpoint.audience is not Audience.GATEWAYS:
            parameters_of(request, endpoint)
        if not endpoint.while_starting and not service.serving():
            return refused(service, endpoint, request, problems.problem("starting"))
        return endpoint.reply(service, request)
    except SidecarError as error:
        why = error.detail if isinstance(error, DependencyError) else None
        return refused(service, endpoint, request, problems.problem_of(error), why=why)


def _refuse_without_scope(scope: str, request: Request) -> None:
    if request.refused is not None:
        raise request.refused
    if request.caller is None or scope not in request.caller.scopes:
        raise CallerForbidden


def refused(
    service: Service,
    endpoint: Endpoint | None,
    request: Request,
    problem: Mapping[str, Any],
    *,
    why: str | None = None,
) -> Reply:
    """The reply with *problem*, counted, and noted where somebody was to be told a decision.

    *endpoint* is None where the request found none: the server refused it.
    """
    service.metrics.refused(problem["code"])
    name = "server" if endpoint is None else endpoint.name
    if endpoint is None or endpoint.audience is Audience.END_USERS or endpoint.path.startswith(_DECIDING):
        outcome = {"code": problem["code"], "status": problem["status"]}
        if why is not None:
            outcome["why"] = why
        note(service, request, name, request.question, outcome)
    return problems.reply_of(problem)


def deadline_of(service: Service, request: Request, *, questions: int = 1) -> float:
    within_s = min(service.deadline_s + (questions - 1) * PER_QUESTION_S, request.patience_s)
    return request.began + within_s


def parameters_of(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    """The query's parameters. BadQuestion with every problem: unknown, repeated, missing, not as they are."""
    try:
        pairs = parse_qsl(
            request.query, keep_blank_values=True, errors="strict", max_num_fields=shapes.MOST_PROBLEMS
        )
    except ValueError:
        raise shapes.refusal((Problem(pointer="/query", detail="is not readable as UTF-8"),)) from None
    values: dict[str, Any] = {
        name: int(text) if isinstance(endpoint.query.get(name), Whole) and _WHOLE.fullmatch(text) else text
        for name, text in pairs
    }
    repeated = [
        Problem(pointer=shapes.below("/query", name), detail="is there more than once")
        for name in values
        if sum(name == other for other, _ in pairs) > 1
    ]
    shape = shapes.Record(endpoint.query, required=endpoint.required_query)
    if found := (*repeated, *shapes.problems_with(values, shape, at="/query")):
        raise shapes.refusal(found)
    return values


def outcome_of(decision: Decision) -> dict[str, Any]:
    """What the log says of a decision: enough to put the same situation to the same revision again."""
    verdict = decision.verdict
    outcome: dict[str, Any] = {
        "decision_id": decision.decision_id,
        "allow": verdict.allow,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "status": verdict.status,
        "policy_revision": verdict.revision,
        "situation": embedded(decision.situation),
        "facts_at": decision.at,
        "facts_cached": decision.cached,
    }
    if decision.reservation:
        outcome["reservation"] = decision.reservation.id
    if decision.replayed:
        outcome["replayed"] = True
    return outcome


def note_decision(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    decision: Decision,
    *,
    also: Mapping[str, Any] | None = None,
) -> None:
    """Count *decision* and write its line; *also* is what else the line says."""
    service.metrics.decided(decision, catalog=service.authorizer.catalog)
    outcome = {**(also or {}), **outcome_of(decision)}
    note(service, request, endpoint, question, outcome, timings=decision.timings)


def note(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    outcome: Mapping[str, Any],
    *,
    timings: Timings | None = None,
) -> None:
    """One line of the decision log. Who asked, what, what came of it, and where the time went.

    *timings* are a decision's own. Any other line has those parts that its request has waited for so far.
    """
    now = datetime.now(UTC)
    entry: dict[str, Any] = {
        "at": now,
        "request_id": request.id,
        "caller": request.caller.name if request.caller else None,
        "endpoint": endpoint,
    }
    if request.user is not None:
        entry["end_user"] = request.user.id
    if question is not None:
        entry["user"] = question.user
        entry["workspace"] = question.workspace
        entry["action"] = question.action
        entry["mode"] = question.mode
        entry["amounts"] = question.amounts
    entry.update(outcome)
    parts = _parts(timings) if timings else {name: s for name, s in _parts(request.timings).items() if s}
    parts["total"] = monotonic() - request.began
    entry["ms"] = {name: round(seconds * _MS, 3) for name, seconds in parts.items()}
    service.log.note(entry)


def _parts(timings: Timings) -> dict[str, float]:
    return {"facts": timings.facts_s, "policy": timings.policy_s, "ledger": timings.ledger_s}
