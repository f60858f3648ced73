"""Gateways that ask over HTTP and take 200 for a yes; each endpoint reads its own dialect's headers alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.api.audience import Audience
from sidecar.api.endpoint import OUTAGES, Endpoint
from sidecar.api.gateways.decision import (
    REMOVED,
    asked_of,
    decide_for_gateway,
    for_grpc,
    host_and_port,
    unreadable,
)
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
# As ingress-nginx writes it: the client's Host as it came, and their path and query as they came.
_URL = re.compile(r"https?://([^/]+)(/.*)", re.DOTALL)
# nginx makes a 500 of anything else, which tells the client that the server is broken.
_NGINX_PASSES_ON = frozenset({HTTPStatus.OK, HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """*read* finds the client's request in the gateway's own.

    *passes_on* are the statuses that the gateway gives to its client as they are; None: every one. *on_pass*
    are header fields of each reply that lets a request pass. *translates*: the gateway tells a gRPC client a
    status of gRPC's.
    """

    read: Callable[[Request], Asked]
    passes_on: frozenset[HTTPStatus] | None = None
    on_pass: tuple[tuple[str, str], ...] = ()
    translates: bool = False


def _answer(service: Service, request: Request, *, name: str) -> Steps[Reply]:
    dialect = DIALECTS[name]
    decision = yield from decide_for_gateway(
        service, request, name, partial(dialect.read, request), token=request.header(TOKEN_HEADER)
    )
    if decision.passes:
        return HTTPStatus.OK, [*decision.identity.items(), *decision.headers, *dialect.on_pass], b""
    passes_on = dialect.passes_on
    status = decision.status if passes_on is None or decision.status in passes_on else HTTPStatus.FORBIDDEN
    translated = for_grpc(decision, request.header("Content-Type")) if dialect.translates else ()
    return status, [*decision.headers, *translated], decision.body


def _original(request: Request) -> Asked:
    """The host is that of the question itself: a header that the gateway's example may lack is a client's."""
    return _asked(
        request,
        method="X-Original-Method",
        host=_line(request, "Host"),
        target=_line(request, "X-Original-URI"),
    )


def _original_of_nginx(request: Request) -> Asked:
    """As `_original`; but ingress-nginx asks with a Host of the sidecar, and has the client's in a URL."""
    asked = _original(request)
    url = _line(request, "X-Original-URL")
    if url is None:
        return asked
    found = _URL.fullmatch(url)
    same = found is not None and host_and_port(found[1])[0] == asked.host
    return asked if same else replace(asked, host=None)


def _original_url(request: Request) -> Asked:
    found = _URL.fullmatch(_line(request, "X-Original-URL") or "")
    if found is None:
        raise unreadable("the address")
    return _asked(request, method="X-Original-Method", host=found[1], target=found[2])


def _forwarded(request: Request) -> Asked:
    host = _line(request, "X-Forwarded-Host")
    if not host:
        raise unreadable("the host")
    return _asked(request, method="X-Forwarded-Method", host=host, target=_line(request, "X-Forwarded-Uri"))


def _as_it_is(request: Request) -> Asked:
    """Envoy asks with the client's own method, path and host."""
    return _asked(request, method=None, host=_line(request, "Host"), target=request.path["target"])


def _asked(request: Request, *, method: str | None, host: str | None, target: str | None) -> Asked:
    """*method* is the name of its header; None: it is that of the question."""
    return asked_of(
        method=request.method if method is None else _line(request, method),
        host=host,
        target=target,
        header=partial(_clients_header, request),
        # Two are none: nobody knows which one is meant.
        authorization=None if "authorization" in request.repeated else request.header("Authorization"),
    )


def _line(request: Request, name: str) -> str | None:
    """The value of a header of a dialect, which is one line; its text may hold anything, commas too."""
    if name.lower() in request.repeated:
        raise unreadable(name)
    return request.header(name)


def _clients_header(request: Request, name: str) -> str | None:
    """Text in UTF-8; a server hands its octets out as Latin-1."""
    if name.lower() in request.repeated:
        raise Unroutable(f"{name} is there twice", code="gateway_unreadable")
    value = request.header(name)
    if value is None:
        return None
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        raise Unroutable(f"{name} is not UTF-8", code="gateway_unreadable") from None


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
    "gateway_nginx": Dialect(read=_original_of_nginx, passes_on=_NGINX_PASSES_ON),
    "gateway_ingress_nginx": Dialect(read=_original_url, passes_on=_NGINX_PASSES_ON),
    "gateway_forward_auth": Dialect(read=_forwarded),
    "gateway_haproxy": Dialect(read=_original),
    "gateway_ext_authz": Dialect(
        read=_as_it_is,
        on_pass=(("X-Envoy-Auth-Headers-To-Remove", ",".join(REMOVED)),),
        translates=True,
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
        "gateway_ingress_nginx",
        "/gw/ingress-nginx",
        says="ingress-nginx: may the request in X-Original-Method and X-Original-URL pass?",
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
