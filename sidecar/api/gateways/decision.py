"""From a gateway's request to one decision, whatever dialect the gateway speaks.

A GatewayDecision is all that a dialect needs for its reply: may the request pass, and as whom; or why not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sidecar.api import problems, rendered, wire
from sidecar.api.log_lines import note, note_decision, why_of
from sidecar.api.service import deadline_of
from sidecar.decisions.model import Question
from sidecar.decisions.steps import Wait, at_once
from sidecar.errors import (
    DependencyError,
    IdentityUnavailable,
    SidecarError,
    UnknownUser,
    Unroutable,
    UnsafePath,
)
from sidecar.quota.ratelimit import limit_fields
from sidecar.settings import is_loopback
from sidecar.text.encoding import encoded
from sidecar.text.shapes import fault_in_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.catalog.catalog import Route, Source
    from sidecar.catalog.routes import Match
    from sidecar.decisions.model import Decision
    from sidecar.decisions.steps import Steps
    from sidecar.identity.users import EndUser

IDENTITY = ("X-Authz-User", "X-Authz-Workspace", "X-Authz-Role", "X-Authz-Plan", "X-Authz-Decision-Id")
_IDENTITY_LINES = "".join(f"{name}: %s\r\n" for name in IDENTITY)
# What a client may not send on to the backend through a gateway that removes what we name.
REMOVED = ("X-Sidecar-Token", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
LONGEST_REQUEST_KEY = 128
# What a gateway may pass on as it is: the rest is trouble of ours or a mistake of the gateway's, and refused.
_FOR_CLIENTS = frozenset({401, 402, 403, 429, 503})
_GRPC = "application/grpc"  # the type of a request's body begins so
# What a gRPC client is told in place of the status. By Envoy's own table 429 is an outage, to be retried.
GRPC_STATUS: Mapping[int, int] = {
    HTTPStatus.UNAUTHORIZED: 16,  # UNAUTHENTICATED
    HTTPStatus.PAYMENT_REQUIRED: 7,  # PERMISSION_DENIED
    HTTPStatus.FORBIDDEN: 7,
    HTTPStatus.TOO_MANY_REQUESTS: 8,  # RESOURCE_EXHAUSTED
    HTTPStatus.SERVICE_UNAVAILABLE: 14,  # UNAVAILABLE
}
_REQUEST_KEY = re.compile(rf"[!-~]{{1,{LONGEST_REQUEST_KEY}}}", re.ASCII)
_LONGEST_HOST = 260  # characters, its port included
# Neither a dot at the end nor two in a row: some servers strip them.
_HOST = re.compile(r"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORT = 80
_MOST_LOGGED = 256  # characters of a path
_PLAIN = re.compile(r"[A-Za-z0-9_.~@:|+=-]*", re.ASCII)  # in percent-encoding it is the same
_METHOD = re.compile(r"[A-Za-z-]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A client's request as its gateway tells it; *target* as the client wrote it, query included.

    *host* is in lower case, None where it is not known; *port* is None where none was written. *header* gives
    a header of the client, None where there is none; Unroutable if it is there twice.
    """

    method: str
    host: str | None
    port: int | None
    target: str
    header: Callable[[str], str | None]
    authorization: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDecision:
    """*status* is what the client should get: 200 exactly if the request may pass, with *identity* set.

    Else there is a *problem*, whose bytes are *body*. *headers* are for the client, whatever it gets.
    """

    status: int
    reason: str
    identity: Mapping[str, str]
    headers: tuple[tuple[str, str], ...] = ()
    problem: Mapping[str, Any] | None = None
    body: bytes = b""

    @property
    def passes(self) -> bool:
        return self.status == HTTPStatus.OK

    def __bool__(self) -> bool:
        # As in Verdict: a dataclass is truthy.
        return self.passes


def for_grpc(decision: GatewayDecision, content_type: str | None) -> tuple[tuple[str, str], ...]:
    """What the headers of a denial say besides, where *content_type* is that of a gRPC client's request."""
    if decision.passes or not (content_type or "").lower().startswith(_GRPC):
        return ()
    return (("grpc-status", str(GRPC_STATUS[decision.status])),)


def asked_of(
    *,
    method: str | None,
    host: str | None,
    target: str | None,
    header: Callable[[str], str | None],
    authorization: str | None,
) -> Asked:
    """Unroutable ``gateway_unreadable`` where the gateway does not say what it has to, once and clearly.

    *host* may have a port; None or nothing: it is not known.
    """
    if method is None or not _METHOD.fullmatch(method):
        raise unreadable("the method")
    named, port = host_and_port(host) if host else (None, None)
    if not target:
        raise unreadable("the path")
    return Asked(
        method=method, host=named, port=port, target=target, header=header, authorization=authorization
    )


def host_and_port(text: str) -> tuple[str, int | None]:
    """The host in lower case; its port, None where there is none. Unroutable for what is no host."""
    found = _HOST.fullmatch(text) if len(text) <= _LONGEST_HOST else None
    if found is None:
        raise unreadable("the host")
    return found[1].lower(), int(found[2]) if found[2] else None


def unreadable(what: str) -> Unroutable:
    return Unroutable(f"the gateway does not say {what} once and clearly", code="gateway_unreadable")


def decide_for_gateway(
    service: Service,
    request: Request,
    endpoint: str,
    read: Callable[[], Asked],
    *,
    token: str | None,
) -> Steps[GatewayDecision]:
    """*read* gives what is asked; *token* is what the gateway shows of itself, and nobody else's."""
    said: dict[str, Any] = {}
    try:
        asked, found = _routed(service, request, read, token=token, said=said)
        if not service.serving():
            return refuse(service, request, endpoint, problems.problem("starting"), said)
        question = yield from _question(service, request, asked, found)
        request.question = question
        decision = yield from service.decider.deciding(
            question, deadline=deadline_of(service, request), timings=request.timings
        )
        if decision.role is None and (yield from _is_nobody(service, request, question)):
            raise UnknownUser("the user was deleted")
    except SidecarError as error:
        if isinstance(error, DependencyError | Unroutable | UnsafePath | UnknownUser):
            said |= why_of(error)
        return refuse(service, request, endpoint, problems.problem_of(error), said)
    note_decision(service, request, endpoint, question, decision, also=said)
    return _gateway_decision(decision, question.user, shows_limits=found.route.ratelimit)


def question_at_once(
    service: Service, request: Request, read: Callable[[], Asked], *, token: str | None
) -> tuple[Question, str | None, Mapping[str, Any]] | None:
    """What `decide_for_gateway` would decide, if it is known without waiting who the user is; else None.

    With the token that names somebody in it, if one does, and what else the log's line says.
    """
    said: dict[str, Any] = {}
    try:
        asked, found = _routed(service, request, read, token=token, said=said)
        question = at_once(_question(service, request, asked, found))
    except SidecarError:
        return None
    if question is None:
        return None
    return question, asked.authorization if _wants_token(found.route) else None, said


def _routed(
    service: Service,
    request: Request,
    read: Callable[[], Asked],
    *,
    token: str | None,
    said: dict[str, Any],
) -> tuple[Asked, Match]:
    """What is asked and the route of it; *said* is told of it as far as it is known."""
    request.caller = service.callers.gateway(
        token, by_socket=request.by_socket, nearby=_is_nearby(request.remote)
    )
    asked = read()
    written = asked.target.partition("?")[0][:_MOST_LOGGED].encode(errors="backslashreplace").decode()
    said["request"] = f"{asked.method} {written}"
    found = service.routes.match(method=asked.method, host=_clients_host(service, asked), target=asked.target)
    said["request"] = f"{asked.method} {found.route.path}"
    return asked, found


@lru_cache(maxsize=256)
def _is_nearby(remote: str) -> bool:
    return is_loopback(f"{remote}:0")


def _wants_token(route: Route) -> bool:
    return "claim" in {route.user.kind, route.workspace.kind}


def _clients_host(service: Service, asked: Asked) -> str | None:
    """None too where it is the sidecar's own, which HTTP clients write where they are told no other."""
    at = asked.host, asked.port or _DEFAULT_PORT
    return None if at in service.own_hosts else asked.host


def _question(service: Service, request: Request, asked: Asked, found: Match) -> Steps[Question]:
    """UnknownUser where nobody is named who proved it; Unroutable where no workspace is."""
    proved = request.caller is not None and "authorize" in request.caller.scopes
    route = found.route
    if route.user.kind != "claim" and not proved:
        raise Unroutable(
            f"{route.path} takes the user from the {route.user.kind}, which counts from a gateway that shows"
            " a caller token or comes by a Unix socket",
            code="gateway_untrusted",
        )
    tokens_user: EndUser | None = None
    if _wants_token(route):
        tokens_user = yield from _end_user(service, request, asked)

    def named_by(source: Source) -> str | None:
        match source.kind:
            case "path":
                return found.parameters[source.name]
            case "header":
                return asked.header(source.name)
            case "claim":
                claim = tokens_user.claims.get(source.name) if tokens_user else None
                return claim if isinstance(claim, str) else None

    user, workspace = named_by(route.user), named_by(route.workspace)
    if user is None or fault_in_text(user):
        raise UnknownUser(f"the {route.user.kind} {route.user.name} names no user")
    if workspace is None or fault_in_text(workspace):
        raise Unroutable(
            f"the {route.workspace.kind} {route.workspace.name} names no workspace", code="workspace_missing"
        )
    return Question(
        user=user,
        workspace=wire.workspace_from(workspace),
        action=route.action,
        mode=route.mode,
        idempotency_key=_request_key(asked, route.once_per, user),
    )


def _end_user(service: Service, request: Request, asked: Asked) -> Steps[EndUser]:
    if service.identities is None:
        raise IdentityUnavailable("no keys are set: SIDECAR_JWT_KEYS says whose tokens count")
    user = service.identities.recall(asked.authorization)
    if user is None:
        deadline = deadline_of(service, request)
        user = yield Wait(service.identities.user, asked.authorization, deadline=deadline)
    return user


def _is_nobody(service: Service, request: Request, question: Question) -> Steps[bool]:
    """Whether a stranger was deleted. A second read, of strangers alone: a member is somebody."""
    deadline = deadline_of(service, request)
    is_nobody: bool = yield Wait(service.people.is_nobody, question.user, deadline=deadline)
    return is_nobody


def _request_key(asked: Asked, header: str | None, user: str) -> str | None:
    """By which a repetition is known; each user's own, so that nobody meets another's."""
    value = asked.header(header) if header is not None else None
    if value is None:
        return None
    if not _REQUEST_KEY.fullmatch(value):
        raise Unroutable(f"{header} is not a key", code="gateway_unreadable")
    return sha256(f"{user}\0{value}".encode()).hexdigest()


def _gateway_decision(decision: Decision, user: str, *, shows_limits: bool) -> GatewayDecision:
    limits = limit_fields(decision.quota, at=decision.at) if shows_limits and decision.quota else []
    if decision.allowed:
        return GatewayDecision(
            status=HTTPStatus.OK,
            reason=decision.verdict.reason,
            identity=identity_of(
                user, decision.workspace_id, decision.role, decision.plan, decision.decision_id
            ),
            headers=tuple(limits),
        )
    return _denial(
        problems.denial(decision),
        rendered.denial(decision),
        [("X-Authz-Decision-Id", decision.decision_id), *limits],
    )


def identity_of(
    user: str, workspace_id: UUID | str | None, role: str | None, plan: str | None, decision_id: str
) -> dict[str, str]:
    """The headers that tell a backend who has passed, and as what."""
    return dict(zip(IDENTITY, _identity(user, workspace_id, role, plan, decision_id), strict=True))


def identity_lines(user: str, workspace_id: str, role: str, plan: str, decision_id: str) -> str:
    """As `identity_of`, as lines of a head."""
    return _IDENTITY_LINES % _identity(user, workspace_id, role, plan, decision_id)


def _identity(
    user: str, workspace_id: UUID | str | None, role: str | None, plan: str | None, decision_id: str
) -> tuple[str, ...]:
    safe = _header_safe
    return safe(user), str(workspace_id), safe(str(role)), safe(str(plan)), decision_id


@lru_cache(maxsize=1_024)
def _header_safe(text: str) -> str:
    """As it is where it is plain; else percent-encoded: no comma, no space, nothing that is not ASCII."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe="@:|+=")


def refuse(
    service: Service,
    request: Request,
    endpoint: str,
    problem: Mapping[str, Any],
    said: Mapping[str, Any],
) -> GatewayDecision:
    """The denial with *problem*, counted and noted; *said* goes into the log's line."""
    service.metrics.count_problem(problem["code"])
    note(
        service,
        request,
        endpoint,
        request.question,
        {"code": problem["code"], "status": problem["status"], **said},
        kind="problem",
    )
    if problem["status"] not in _FOR_CLIENTS:
        problem = {**problem, "status": HTTPStatus.FORBIDDEN.value}
    return _denial(problem, encoded(problem), ())


def _denial(problem: Mapping[str, Any], body: bytes, headers: Sequence[tuple[str, str]]) -> GatewayDecision:
    """*body* is *problem* in JSON."""
    status, standing = problem["status"], problems.headers_of(problem)
    reason, said = ("X-Authz-Reason", problem["code"]), ("X-Authz-Status", str(status))
    return GatewayDecision(
        status=status,
        reason=problem["code"],
        identity={},
        headers=(*standing, reason, said, *headers),
        problem=problem,
        body=body,
    )
