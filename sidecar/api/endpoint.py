"""An endpoint and what it is asked with: one row of the table, one request, and what both have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from sidecar.api import problems, wire
from sidecar.api.audience import Audience
from sidecar.decisions.timings import Timings
from sidecar.errors import CallerForbidden, DependencyError, Problem, SidecarError
from sidecar.text import shapes
from sidecar.text.encoding import embedded, encoded
from sidecar.text.ids import fresh_id
from sidecar.text.shapes import Shape, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.api.authzen.domain import Authzen
    from sidecar.api.problems import Reply
    from sidecar.catalog.routes import Routes
    from sidecar.decisions.authorizer import Authorizer
    from sidecar.decisions.model import Decision, Question
    from sidecar.identity.callers import Caller, Callers
    from sidecar.identity.users import EndUser, Identities
    from sidecar.quota.decider import Decider
    from sidecar.quota.spending import Spending
    from sidecar.telemetry.decision_log import DecisionLog
    from sidecar.telemetry.metrics import Metrics
    from sidecar.workspaces.administration import Administration
    from sidecar.workspaces.invitations import Invitations
    from sidecar.workspaces.people import People

PER_QUESTION_S = 0.002  # what each further question of one request adds to its deadline
_MS = 1_000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
JSON = ("Content-Type", "application/json")
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
    spending: Spending
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


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request on its way to its reply.

    *target* (its path), *path* (the parts of it that a template names) and *query* are as they came,
    percent-encoded. *header* gives the value of a header, None where
    there is none. *body* reads the body when it is first wanted: BadQuestion if it is too large or of another
    type than JSON. *refused* is why the caller is not known. *by_socket* and *remote*, an address, are of the
    connection itself. *patience_s* is how long the caller waits, where he says so. *user* is the end user of
    an endpoint for users. *timings* are for the core to add to, so that the line of an outage has them too.
    """

    id: str
    method: str = "GET"
    caller: Caller | None = None
    target: str = ""
    query: str = ""
    header: Callable[[str], str | None] = lambda _: None
    body: Callable[[], bytes] = bytes
    path: Mapping[str, str] = field(default_factory=dict)
    refused: SidecarError | None = None
    by_socket: bool = False
    remote: str = ""
    patience_s: float = inf
    began: float = field(default_factory=monotonic)
    timings: Timings = field(default_factory=Timings)
    question: Question | None = None
    user: EndUser | None = None

    def has_body(self) -> bool:
        """False where nothing was sent; then it need not be JSON either."""
        return self.header("Content-Length") not in {None, "", "0"} or bool(self.header("Transfer-Encoding"))


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
    reply: Callable[[Service, Exchange], Reply]
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


def served(service: Service, endpoint: Endpoint, exchange: Exchange) -> Reply:
    """The reply of *endpoint*, or the problem with asking it."""
    try:
        if endpoint.audience.scope is not None:
            _refuse_without_scope(endpoint.audience.scope, exchange)
        if endpoint.audience is Audience.END_USERS:
            if service.identities is None:
                return refused(service, endpoint, exchange, problems.problem("not_found"))
            exchange.user = service.identities.user(
                exchange.header("Authorization"), deadline=deadline_of(service, exchange)
            )
        if exchange.query and not endpoint.query and endpoint.audience is not Audience.GATEWAYS:
            parameters_of(exchange, endpoint)
        if not endpoint.while_starting and not service.serving():
            return refused(service, endpoint, exchange, problems.problem("starting"))
        return endpoint.reply(service, exchange)
    except SidecarError as error:
        why = error.detail if isinstance(error, DependencyError) else None
        return refused(service, endpoint, exchange, problems.problem_of(error), why=why)


def _refuse_without_scope(scope: str, exchange: Exchange) -> None:
    if exchange.refused is not None:
        raise exchange.refused
    if exchange.caller is None or scope not in exchange.caller.scopes:
        raise CallerForbidden


def refused(
    service: Service,
    endpoint: Endpoint | None,
    exchange: Exchange,
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
        note(service, exchange, name, exchange.question, outcome)
    return problems.reply_of(problem)


def deadline_of(service: Service, exchange: Exchange, *, questions: int = 1) -> float:
    within_s = min(service.deadline_s + (questions - 1) * PER_QUESTION_S, exchange.patience_s)
    return exchange.began + within_s


def request_id(sent: str) -> str:
    """The one that was *sent*, where it may stand in a log and in a header; else a new one."""
    return sent if _REQUEST_ID.fullmatch(sent) else fresh_id()


def json_reply(document: object) -> Reply:
    return 200, [JSON], encoded(document)


def part_of(exchange: Exchange, name: str) -> str:
    """One part of the path, decoded. BadQuestion if it is not text that could name something."""
    try:
        text = unquote(exchange.path[name], errors="strict")
    except UnicodeDecodeError:
        raise shapes.refusal((Problem(pointer=f"/path/{name}", detail="is not UTF-8"),)) from None
    if fault := shapes.fault_in_text(text):
        raise shapes.refusal((Problem(pointer=f"/path/{name}", detail=fault),))
    return text


def workspace_in(exchange: Exchange) -> str:
    return wire.workspace_from(part_of(exchange, "workspace"))


def parameters_of(exchange: Exchange, endpoint: Endpoint) -> dict[str, Any]:
    """The query's parameters. BadQuestion with every problem: unknown, repeated, missing, not as they are."""
    try:
        pairs = parse_qsl(
            exchange.query, keep_blank_values=True, errors="strict", max_num_fields=shapes.MOST_PROBLEMS
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
    exchange: Exchange,
    endpoint: str,
    question: Question | None,
    decision: Decision,
    *,
    also: Mapping[str, Any] | None = None,
) -> None:
    """Count *decision* and write its line; *also* is what else the line says."""
    service.metrics.decided(decision, catalog=service.authorizer.catalog)
    outcome = {**(also or {}), **outcome_of(decision)}
    note(service, exchange, endpoint, question, outcome, timings=decision.timings)


def note(
    service: Service,
    exchange: Exchange,
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
        "request_id": exchange.id,
        "caller": exchange.caller.name if exchange.caller else None,
        "endpoint": endpoint,
    }
    if exchange.user is not None:
        entry["end_user"] = exchange.user.id
    if question is not None:
        entry["user"] = question.user
        entry["workspace"] = question.workspace
        entry["action"] = question.action
        entry["mode"] = question.mode
        entry["amounts"] = question.amounts
    entry.update(outcome)
    parts = _parts(timings) if timings else {name: s for name, s in _parts(exchange.timings).items() if s}
    parts["total"] = monotonic() - exchange.began
    entry["ms"] = {name: round(seconds * _MS, 3) for name, seconds in parts.items()}
    service.log.note(entry)


def _parts(timings: Timings) -> dict[str, float]:
    return {"facts": timings.facts_s, "policy": timings.policy_s, "ledger": timings.ledger_s}
