"""From a request and its endpoint to a reply: who may ask, what the endpoint says, or the problem."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sidecar.api import problems
from sidecar.api.advice import which_scope
from sidecar.api.audience import Audience
from sidecar.api.endpoint import parameters_of
from sidecar.api.log_lines import note, why_of
from sidecar.api.people.acting import user_of
from sidecar.decisions.steps import run
from sidecar.errors import (
    BillingRefused,
    CallerForbidden,
    DependencyError,
    SidecarError,
    SignatureInvalid,
    UnknownCaller,
    UnknownUser,
)
from sidecar.identity.users import shows_a_jwt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.endpoint import Endpoint
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.steps import Steps

_TOLD = (BillingRefused, DependencyError, SignatureInvalid, UnknownUser)  # their line says why
_DECIDING = ("/v1/", "/access/", "/billing/", "/ofrep/")


def serve(service: Service, endpoint: Endpoint, request: Request) -> Reply:
    """`serving`, on this thread."""
    return run(serving(service, endpoint, request))


def serving(service: Service, endpoint: Endpoint, request: Request) -> Steps[Reply]:
    """The reply of *endpoint*, or the problem with asking it."""
    try:
        if _is_for_a_user(service, endpoint, request):
            request.user = user_of(service, request)
        elif endpoint.audience.scope is not None:
            _refuse_without_scope(endpoint.audience, request)
        if request.query and not endpoint.query and endpoint.audience is not Audience.GATEWAYS:
            parameters_of(request, endpoint)
        if not endpoint.while_starting and not service.serving():
            return refuse(service, endpoint, request, problems.problem("starting"))
        reply = endpoint.reply(service, request)
        return reply if isinstance(reply, tuple) else (yield from reply)
    except SidecarError as error:
        why = why_of(error) if isinstance(error, _TOLD) else {}
        return refuse(service, endpoint, request, problems.problem_of(error), why=why)


def _is_for_a_user(service: Service, endpoint: Endpoint, request: Request) -> bool:
    """Whether it is an end user who has to prove who they are. UnknownCaller where nothing is shown."""
    if endpoint.audience is not Audience.EITHER or service.identities is None:
        return endpoint.audience is Audience.END_USERS
    shown = request.header("Authorization")
    if shown is None:  # a proxy that browsers come through is on loopback too, or at the socket
        raise UnknownCaller
    return request.refused is not None and shows_a_jwt(shown)


def _refuse_without_scope(audience: Audience, request: Request) -> None:
    if request.refused is not None:
        raise request.refused
    if request.caller is None or not audience.scopes & request.caller.scopes:
        raise CallerForbidden(which_scope(*sorted(audience.scopes)))


def refuse(
    service: Service,
    endpoint: Endpoint | None,
    request: Request,
    problem: Mapping[str, Any],
    *,
    why: Mapping[str, object] = MappingProxyType({}),
) -> Reply:
    """The reply with *problem*, counted, and noted where somebody was to be told a decision.

    *why* is what the line says besides.
    *endpoint* is None where the request found none: the server refused it.
    """
    service.metrics.count_problem(problem["code"])
    name = "server" if endpoint is None else endpoint.name
    if endpoint is None or endpoint.audience is Audience.END_USERS or endpoint.path.startswith(_DECIDING):
        outcome = {"code": problem["code"], "status": problem["status"], **why}
        note(service, request, name, request.question, outcome, kind="problem")
    return problems.reply_of(problem) if endpoint is None else endpoint.refused(problem, request)
