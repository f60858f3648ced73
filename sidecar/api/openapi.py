"""/openapi.json: the API for machines, made from the tables that the endpoints themselves use."""

from __future__ import annotations

import re
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sidecar.api.audience import Audience
from sidecar.api.problems import DENIALS, PROBLEMS
from sidecar.api.schemas import SCHEMAS, ref
from sidecar.decisions.reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.api.endpoint import Endpoint

LICENSE = "Apache-2.0"  # as SPDX writes it
_OF_USERS = ("user_unauthenticated", "identity_unavailable", "not_found")

_LOGGED = {Audience.AUTHORIZE, Audience.ADMIN, Audience.READERS, Audience.END_USERS, Audience.GATEWAYS}
_MEDIA_TYPES: dict[str, dict[str, Any]] = {
    "application/gzip": {},
    "application/json": {"type": "object"},
    "text/plain": {"type": "string"},
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "policy-sidecar",
            "version": version("policy-sidecar"),
            "description": "May this user, in this workspace, perform this action now, and if not, why?",
            "license": {"name": "Apache License 2.0", "identifier": LICENSE},
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "made by `sidecar token`"},
                "user": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "the identity provider's, of the end user themselves",
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
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.says,
        "parameters": parameters,
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.body_required,
            "content": {"application/json": {"schema": endpoint.body.schema}},
        }
    if endpoint.audience.scope is not None:
        operation["security"] = [{"token": []}, {}]  # a Unix socket, or loopback, needs none
        operation["x-scope"] = endpoint.audience.scope
    if endpoint.audience is Audience.END_USERS:
        operation["security"] = [{"user": []}]
    return operation


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    content = {}
    if endpoint.answers in _MEDIA_TYPES:
        content[endpoint.answers] = {"schema": _MEDIA_TYPES[endpoint.answers]}
    elif endpoint.answers is not None:
        content["application/json"] = {"schema": ref(endpoint.answers)}
    done = HTTPStatus(endpoint.status)
    responses: dict[str, Any] = {str(done.value): {"description": done.phrase, "content": content}}
    if endpoint.name == "readyz":
        responses["503"] = {"description": "Not ready", "content": content}
    if endpoint.name == "bundle":
        responses["304"] = {"description": "It is still the one with this ETag"}
    may_be = _problems_of(endpoint)
    for status in sorted({status for status, _ in may_be}):
        named = sorted(code for its, code in may_be if its is status)
        responses[str(status.value)] = {
            "description": " · ".join(named),
            "content": {"application/problem+json": {"schema": ref("Problem")}},
        }
    return responses


def _problems_of(endpoint: Endpoint) -> set[tuple[HTTPStatus, str]]:
    codes = ["invalid_request", "internal_error", *endpoint.codes]
    if endpoint.audience in _LOGGED:
        codes.append("log_unavailable")
    if endpoint.audience.scope is not None:
        codes += ["unauthenticated", "scope_missing"]
    if endpoint.audience is Audience.END_USERS:
        codes += _OF_USERS
    if endpoint.body is not None:
        codes += endpoint.body_codes
    if not endpoint.while_starting:
        codes.append("starting")
    found = {(PROBLEMS[code][0], code) for code in codes}
    if endpoint.audience is Audience.END_USERS:
        found |= {(HTTPStatus(status), reason) for reason in DENIALS for status in REASONS[reason]}
    return found
