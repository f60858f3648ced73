"""/openapi.json: the API for machines, made from the tables that the endpoints themselves use."""

from __future__ import annotations

import re
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sidecar.api.audience import Audience
from sidecar.api.endpoint import ABOUT_WHO_ASKS
from sidecar.api.people.acting import ACT_AS, ACT_AS_EMAIL
from sidecar.api.problems import DENIALS, PROBLEMS
from sidecar.api.schemas import SCHEMAS, ref
from sidecar.decisions.reasons import REASONS
from sidecar.text.emails import LONGEST_EMAIL
from sidecar.text.shapes import FREE_OBJECT, Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.api.endpoint import Endpoint

LICENSE = "Apache-2.0"  # as SPDX writes it
# Each operation has one of them: what it is about, which is mostly who asks it.
_TAGS = {
    "questions": "Backends ask on behalf of their users: may they, and what is left of their quota?",
    "administration": "What billers and operators tell and read of a workspace: subscription, plan, status.",
    "users": "End users' own routes, which a frontend may call: workspaces, members, invitations, plans.",
    "flags": "Features, plan, role and limits as flags for OpenFeature's providers: OFREP 0.3.",
    "authzen": "The same questions in the words of AuthZEN's Authorization API.",
    "gateways": "What a gateway asks about each request before it lets it through.",
    "operation": "Health, metrics and documents of the sidecar itself.",
}
_WHO = {
    Audience.ANYBODY: "Open: no token is asked for.",
    Audience.AUTHORIZE: "For callers whose token has the scope `authorize`.",
    Audience.ADMIN: "For callers whose token has the scope `admin`.",
    Audience.AUDIT: "For callers whose token has the scope `audit`.",
    Audience.READERS: "For callers whose token has the scope `admin` or `audit`.",
    Audience.END_USERS: (
        "For end users, with the token of the identity provider; or for callers whose token has the scope"
        " `people`, who act for the user in X-Act-As."
    ),
    Audience.EITHER: (
        "For callers whose token has the scope `authorize`, about anybody; for end users, with the token of"
        " the identity provider, about themselves."
    ),
    Audience.GATEWAYS: "For gateways: from this machine, or with a caller token in X-Sidecar-Token.",
}
_OF_CALLERS: list[dict[str, list[str]]] = [{"token": []}, {}]  # a Unix socket, or loopback, needs none
_OF_USERS = ("user_unauthenticated", "identity_unavailable")
_ACTING: list[dict[str, Any]] = [
    {
        "name": ACT_AS,
        "in": "header",
        "schema": Text().schema,
        "description": "whom a caller with the scope `people` acts for",
    },
    {
        "name": ACT_AS_EMAIL,
        "in": "header",
        "schema": Text(LONGEST_EMAIL).schema,
        "description": "their e-mail address, which counts as verified; only with X-Act-As",
    },
]
_NOT_LOGGED = {Audience.ANYBODY, Audience.AUDIT}
_MEDIA_TYPES: dict[str, dict[str, Any]] = {
    "application/gzip": {},
    "application/json": FREE_OBJECT,
    "text/plain": {"type": "string"},
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    bodies: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        if endpoint.body is not None:
            bodies[_body_of(endpoint)] = endpoint.body.schema
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "policy-sidecar",
            "version": version("policy-sidecar"),
            "description": "May this user, in this workspace, perform this action now, and if not, why?",
            "license": {"name": "Apache License 2.0", "identifier": LICENSE},
            "contact": {"name": "whoever operates this sidecar"},
        },
        "servers": [{"url": "/", "description": "where this document was found"}],
        "tags": [{"name": name, "description": says} for name, says in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS, **bodies},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "made by `sidecar token`"},
                "user": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "the identity provider's, of the end user themselves",
                },
                "gateway": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Sidecar-Token",
                    "description": "a caller token with the scope `authorize`, of the gateway itself",
                },
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^\\u0000]+$"}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ] + [
        {"name": name, "in": "query", "required": name in endpoint.required_query, "schema": shape.schema}
        for name, shape in endpoint.query.items()
    ]
    if endpoint.audience is Audience.END_USERS:
        parameters += _ACTING
    if endpoint.revalidates:
        known = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}
        parameters.append(
            {**known, "description": "the ETag of what is known already: then the answer is 304"}
        )
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [_tag_of(endpoint)],
        "summary": endpoint.says,
        "description": f"{endpoint.says} {_WHO[endpoint.audience]}",
        "parameters": parameters,
        "responses": _responses(endpoint),
        "security": _security_of(endpoint),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.body_required,
            "content": {"application/json": {"schema": ref(_body_of(endpoint))}},
        }
    if endpoint.audience.scope is not None:
        operation["x-scope"] = endpoint.audience.scope
    return operation


def _body_of(endpoint: Endpoint) -> str:
    """The name of the schema of its body: `authorize_batch` has an AuthorizeBatchBody."""
    return "".join(part.capitalize() for part in endpoint.name.split("_")) + "Body"


def _tag_of(endpoint: Endpoint) -> str:
    if endpoint.path.startswith(("/access/", "/.well-known/")):
        return "authzen"
    if endpoint.path.startswith("/ofrep/"):
        return "flags"
    if endpoint.name.startswith("gateway_"):
        return "gateways"
    if endpoint.path.startswith("/billing/"):
        return "administration"
    if endpoint.for_browsers:
        return "users"
    return {Audience.AUTHORIZE: "questions", Audience.ADMIN: "administration"}.get(
        endpoint.audience, "operation"
    )


def _security_of(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.audience is Audience.GATEWAYS:
        return [{"gateway": []}, {}]
    if endpoint.audience is Audience.END_USERS:
        return [{"user": []}, {"token": []}]
    if endpoint.audience is Audience.EITHER:
        return [{"user": []}, *_OF_CALLERS]
    return _OF_CALLERS if endpoint.audience.scope is not None or endpoint.name.startswith("gateway_") else []


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    content = {}
    if endpoint.answers in _MEDIA_TYPES:
        content[endpoint.answers] = {"schema": _MEDIA_TYPES[endpoint.answers]}
    elif endpoint.answers is not None:
        content["application/json"] = {"schema": ref(endpoint.answers)}
    done = HTTPStatus(endpoint.status)
    responses: dict[str, Any] = {str(done.value): {"description": done.phrase, "content": content}}
    if endpoint.revalidates:
        tag = {"ETag": {"description": "of this very answer", "schema": {"type": "string"}}}
        responses[str(done.value)]["headers"] = tag
        responses["304"] = {"description": "What is known by the ETag is still the answer", "headers": tag}
    if endpoint.name == "readyz":
        responses["503"] = {"description": "Not ready", "content": content}
    may_be = _problems_of(endpoint)
    for status in sorted({status for status, _ in may_be}):
        named = sorted(code for its, code in may_be if its is status)
        responses[str(status.value)] = {
            "description": " · ".join(named),
            "content": _told(endpoint, status),
        }
    return responses


def _told(endpoint: Endpoint, status: HTTPStatus) -> dict[str, Any]:
    if endpoint.refusals is None or status in ABOUT_WHO_ASKS:
        return {"application/problem+json": {"schema": ref("Problem")}}
    return {"application/json": {"schema": ref(endpoint.refusals.schema)}}


def _problems_of(endpoint: Endpoint) -> set[tuple[HTTPStatus, str]]:
    codes = ["invalid_request", "internal_error", *endpoint.codes]
    if endpoint.audience not in _NOT_LOGGED:
        codes.append("log_unavailable")
    if endpoint.audience.scope is not None:
        codes += ["unauthenticated", "scope_missing"]
    if endpoint.audience is Audience.END_USERS:
        codes += [*_OF_USERS, "not_found", "unauthenticated", "scope_missing"]
    if endpoint.audience is Audience.EITHER:
        codes += [*_OF_USERS, "another_user"]
    if endpoint.body is not None:
        codes += endpoint.body_codes
    if not endpoint.while_starting:
        codes.append("starting")
    found = {(PROBLEMS[code][0], code) for code in codes}
    if endpoint.audience is Audience.END_USERS:
        found |= {(HTTPStatus(status), reason) for reason in DENIALS for status in REASONS[reason]}
    return found
