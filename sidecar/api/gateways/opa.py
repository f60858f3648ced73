"""Gateways that would ask an OPA: the request is a JSON input, and each wants a result of its own form.

The three forms do not agree on a name for anything, so that the path says which one is spoken.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from sidecar.api import problems
from sidecar.api.audience import Audience
from sidecar.api.endpoint import Endpoint
from sidecar.api.gateways.by_header import CODES, TOKEN_HEADER
from sidecar.api.gateways.decision import REMOVED, asked_of, decide_for_gateway, unreadable
from sidecar.api.reply import json_reply
from sidecar.api.request import parsed
from sidecar.api.service import deadline_of
from sidecar.errors import Unroutable
from sidecar.text import shapes
from sidecar.text.encoding import Duplicated, document_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.api.gateways.decision import Asked, GatewayDecision
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.steps import Steps

# Most of the input is a client's text, which may be anything: what is not read is not looked at.
_INPUT = shapes.Record({"input": shapes.Open({})}, required=("input",))


def _answer(
    service: Service,
    request: Request,
    *,
    name: str,
    read: Callable[[Mapping[str, Any]], Asked],
    result: Callable[[GatewayDecision], dict[str, Any]],
) -> Steps[Reply]:
    """In trouble there is no result, which all three take for one: as an OPA that is not there."""
    body = yield from parsed(_input_in, request.body(), deadline=deadline_of(service, request))
    document = body["input"]
    decision = yield from decide_for_gateway(
        service, request, name, partial(read, document), token=_shown(request)
    )
    if decision.problem is not None and decision.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return problems.reply_of(decision.problem)
    return json_reply({"result": result(decision)})


def _input_in(raw: bytes) -> dict[str, Any]:
    # OpenResty's JSON has a client's octets as they came: what is no UTF-8 becomes halves of surrogate pairs.
    value = document_from(raw, errors="surrogateescape")
    if problems_found := shapes.problems_with(value, _INPUT):
        raise shapes.refusal(problems_found)
    return cast("dict[str, Any]", value)


def _shown(request: Request) -> str | None:
    """The gateway's token. As under /v1 it may be in Authorization: the end user's own is in the input."""
    authorization = request.header("Authorization")
    if authorization is None:
        return request.header(TOKEN_HEADER)
    if request.refused is not None:
        raise request.refused
    return authorization.partition(" ")[2].strip()


def _request(said: Mapping[str, Any], *, target: Callable[[str], str] = str) -> Asked:
    headers = _at(said, "headers")
    by_name: dict[str, list[object]] = {}
    for name, value in headers.items():
        by_name.setdefault(name.lower(), []).extend([value] * (2 if _is_repeated(headers, name) else 1))

    def header(name: str) -> str | None:
        match by_name.get(name.lower()):
            case None:
                return None
            case [str() as value]:
                return value
            case _:
                raise Unroutable(f"{name} is there twice, or is no text", code="gateway_unreadable")

    host = _text(said, "host")
    if not host:
        raise unreadable("the host")
    shown = by_name.get("authorization", [])  # two are none: nobody knows which one is meant
    authorization = shown[0] if len(shown) == 1 and isinstance(shown[0], str) else None
    return asked_of(
        method=_text(said, "method"),
        host=host,
        target=target(_text(said, "path") or ""),
        header=header,
        authorization=authorization,
    )


def _text(said: Mapping[str, Any], name: str) -> str | None:
    """None too where it is there twice."""
    value = said.get(name)
    return value if isinstance(value, str) and not _is_repeated(said, name) else None


def _is_repeated(said: Mapping[str, Any], name: str) -> bool:
    return isinstance(said, Duplicated) and name in said.names


def _at(document: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        inner = document.get(name)
        if not isinstance(inner, dict) or _is_repeated(document, name):
            raise unreadable(f"the request, at /{'/'.join(names)},")
        document = inner
    return document


def _encoded_again(path: str) -> str:
    """The path that APISIX has already decoded: what stands in it was not written so, and is not believed."""
    return quote(path, safe="/;\\!$&'()*+,=:@|", errors="surrogatepass")


def _apisix(document: Mapping[str, Any]) -> Asked:
    return _request(_at(document, "request"), target=_encoded_again)


def _kong(document: Mapping[str, Any]) -> Asked:
    return _request(_at(document, "request", "http"))


def _envoy(document: Mapping[str, Any]) -> Asked:
    return _request(_at(document, "attributes", "request", "http"))


def _for_apisix(decision: GatewayDecision) -> dict[str, Any]:
    if decision.passes:
        return {"allow": True, "headers": decision.identity}
    return {
        "allow": False,
        "status_code": decision.status,
        "headers": dict(decision.headers),
        "reason": decision.problem,
    }


def _for_kong(decision: GatewayDecision) -> dict[str, Any]:
    """Kong wraps the message into an object of its own, whose type is not a problem's."""
    if decision.passes:
        return {"allow": True, "headers": decision.identity}
    headers = {name: value for name, value in decision.headers if name != "Content-Type"}
    return {"allow": False, "status": decision.status, "headers": headers, "message": decision.problem}


def _for_envoy(decision: GatewayDecision) -> dict[str, Any]:
    if decision.passes:
        return {
            "allowed": True,
            "headers": decision.identity,
            "request_headers_to_remove": REMOVED,
            **({"response_headers_to_add": dict(decision.headers)} if decision.headers else {}),
        }
    return {
        "allowed": False,
        "http_status": decision.status,
        "headers": dict(decision.headers),
        "body": decision.body.decode(),
    }


def _endpoint(
    gateway: str,
    *,
    read: Callable[[Mapping[str, Any]], Asked],
    result: Callable[[GatewayDecision], dict[str, Any]],
    says: str,
) -> Endpoint:
    name = f"gateway_{gateway}"
    return Endpoint(
        name=name,
        method="POST",
        path=f"/v1/data/{gateway}",
        reply=partial(_answer, name=name, read=read, result=result),
        says=says,
        answers="application/json",
        codes=tuple(code for code in CODES if problems.PROBLEMS[code][0] == HTTPStatus.SERVICE_UNAVAILABLE),
        audience=Audience.ANYBODY,  # decide_for_gateway checks the gateway's token; the method is always POST
        body=_INPUT,
        while_starting=True,  # decide_for_gateway checks it
    )


LIKE_OPA = (
    _endpoint("apisix", read=_apisix, result=_for_apisix, says="As an OPA answers APISIX's plugin opa."),
    _endpoint("kong", read=_kong, result=_for_kong, says="As an OPA answers Kong's plugin opa."),
    _endpoint("envoy", read=_envoy, result=_for_envoy, says="As the plugin opa-envoy has its result."),
)
