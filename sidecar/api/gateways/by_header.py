"""Gateways that ask over HTTP and take 200 for a yes; each endpoint reads its own dialect's headers alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.api.audience import Audience
from sidecar.api.endpoint import OUTAGES, Endpoint
from sidecar.api.gateways.decision import REMOVED, asked_of, decide_for_gateway, unreadable
from sidecar.errors import Unroutable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.api.gateways.decision import Asked
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.steps import Steps

EXT_AUTHZ_PREFIX = "/gw/ext-authz"
TOKEN_HEADER = "X-Sidecar-Token"  # noqa: S105 - the name of a header
CODES = (
    "user_unauthenticated",
    "unknown_route",
    "unsafe_path",
    "workspace_missing",
    "gateway_unreadable",
    "gateway_untrusted",
    "starting",
    "identity_unavailable",
    *OUTAGES,
)
# nginx makes a 500 of anything else, which tells the client that the server is broken.
_JOINED = re.compile(r",/|,[A-Za-z]+:|\s")
_NGINX_PASSES_ON = frozenset({HTTPStatus.OK, HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """*read* finds the client's request in the gateway's own.

    *passes_on* are the statuses that the gateway gives to its client as they are; None: every one. *on_pass*
    are header fields of each reply that lets a request pass.
    """

    read: Callable[[Request], Asked]
    passes_on: frozenset[HTTPStatus] | None = None
    on_pass: tuple[tuple[str, str], ...] = ()


def _answer(service: Service, request: Request, *, name: str) -> Steps[Reply]:
    dialect = DIALECTS[name]
    decision = yield from decide_for_gateway(
        service, request, name, partial(dialect.read, request), token=request.header(TOKEN_HEADER)
    )
    if decision.passes:
        return HTTPStatus.OK, [*decision.identity.items(), *decision.headers, *dialect.on_pass], b""
    passes_on = dialect.passes_on
    status = decision.status if passes_on is None or decision.status in passes_on else HTTPStatus.FORBIDDEN
    return status, list(decision.headers), decision.body


def _original(request: Request) -> Asked:
    """The host is that of the question itself: a header that the gateway's example may lack is a client's."""
    return asked_of(
        method=request.header("X-Original-Method"),
        host=request.header("Host"),
        target=_target(request, "X-Original-URI"),
        header=partial(_clients_header, request),
        authorization=request.header("Authorization"),
    )


def _forwarded(request: Request) -> Asked:
    return asked_of(
        method=request.header("X-Forwarded-Method"),
        host=request.header("X-Forwarded-Host") or "",
        target=_target(request, "X-Forwarded-Uri"),
        header=partial(_clients_header, request),
        authorization=request.header("Authorization"),
    )


def _as_it_is(request: Request) -> Asked:
    """Envoy asks with the client's own method, path and host."""
    return asked_of(
        method=request.method,
        host=request.header("Host"),
        target=request.path["target"],
        header=partial(_clients_header, request),
        authorization=request.header("Authorization"),
    )


def _target(request: Request, name: str) -> str | None:
    """Where two targets were joined, the second begins behind a comma; other commas are a query's own."""
    value = request.header(name)
    if value is not None and ("," in value.partition("?")[0] or _JOINED.search(value)):
        raise unreadable(f"the path in {name}")
    return value


def _clients_header(request: Request, name: str) -> str | None:
    """Text in UTF-8; a server hands its octets out as Latin-1, and joins two of one name by a comma."""
    value = request.header(name)
    if value is None:
        return None
    try:
        text = value.encode("latin-1").decode()
    except UnicodeError:
        raise Unroutable(f"{name} is not UTF-8", code="gateway_unreadable") from None
    if "," in text:
        raise Unroutable(f"{name} is there twice, or holds a comma", code="gateway_unreadable")
    return text


def _endpoint(name: str, path: str, *, says: str) -> Endpoint:
    return Endpoint(
        name=name,
        method="GET",
        path=path,
        reply=partial(_answer, name=name),
        says=says,
        answers=None,
        codes=CODES,
        audience=Audience.GATEWAYS,
        while_starting=True,  # decide_for_gateway checks it
    )


DIALECTS = {
    "gateway_nginx": Dialect(read=_original, passes_on=_NGINX_PASSES_ON),
    "gateway_forward_auth": Dialect(read=_forwarded),
    "gateway_haproxy": Dialect(read=_original),
    "gateway_ext_authz": Dialect(
        read=_as_it_is, on_pass=(("X-Envoy-Auth-Headers-To-Remove", ",".join(REMOVED)),)
    ),
}
EXT_AUTHZ = _endpoint(
    "gateway_ext_authz",
    f"{EXT_AUTHZ_PREFIX}/{{target}}",
    says="Envoy's ext_authz over HTTP: may this very request pass?",
)
BY_HEADER = (
    _endpoint(
        "gateway_nginx",
        "/gw/nginx",
        says="nginx: may the request in X-Original-Method and X-Original-URI pass?",
    ),
    _endpoint(
        "gateway_forward_auth",
        "/gw/forward-auth",
        says="Traefik and Caddy: may the request in X-Forwarded-Method, -Host and -Uri pass?",
    ),
    _endpoint(
        "gateway_haproxy",
        "/gw/haproxy",
        says="HAProxy: may the request in X-Original-Method and X-Original-URI pass?",
    ),
    EXT_AUTHZ,
)
