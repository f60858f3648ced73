"""/openapi.json: the API for machines, made from the tables that the endpoints themselves use."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sidecar.web.problems import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.web.endpoint import Endpoint

_BAD_BODY = ("malformed_json", "invalid_request", "body_too_large", "unsupported_media_type")

_TEXT = {"type": "string"}
_NAMES = {"type": "array", "items": _TEXT, "minItems": 1}
_MOMENT = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}


def _object(properties: dict[str, Any], *, optional: Iterable[str] = ()) -> dict[str, Any]:
    absent = set(optional)
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in absent],
        "additionalProperties": False,
    }


def _map(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_PART = _object(
    {"ready": {"type": "boolean"}, "revision": _or_null(_TEXT), "code": _TEXT, "why": _TEXT},
    optional=("revision", "code", "why"),
)
_SCHEMAS: dict[str, dict[str, Any]] = {
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": list(PROBLEMS)},
            "detail": _TEXT,
            "errors": {
                "type": "array",
                "items": _object(
                    {"pointer": _TEXT, "detail": _TEXT, "suggestion": _TEXT}, optional=("suggestion",)
                ),
            },
        },
        optional=("detail", "errors"),
    ),
    "Quota": _object(
        {
            "limit": _or_null(_COUNT),
            "used": _COUNT,
            "reserved": _COUNT,
            "remaining": _or_null(_COUNT),
            "resets_at": _or_null(_MOMENT),
            "over_by": _COUNT,
        },
        optional=("over_by",),
    ),
    "Decision": _object(
        {
            "allow": {"type": "boolean"},
            "status": {"type": "integer", "enum": [200, 402, 403, 429]},
            "reason": _TEXT,
            "message": _TEXT,
            "role": _TEXT,
            "plan": _TEXT,
            "needs": {
                "anyOf": [_object({"roles": _NAMES}), _object({"feature": _TEXT})],
            },
            "upgrade": {
                "type": "array",
                "minItems": 1,
                "items": _object(
                    {
                        "plan": _TEXT,
                        "title": _TEXT,
                        "price": _object({"amount": _COUNT, "currency": _TEXT, "per": _TEXT}),
                    }
                ),
            },
            "quota": _map(_ref("Quota")),
            "retry_after": {"type": "integer", "minimum": 1},
            "reservation": _or_null(_ref("Reservation")),
            "decision_id": _TEXT,
            "policy_revision": _TEXT,
            "facts": _object({"at": _MOMENT, "cached": {"type": "boolean"}}),
            "replayed": {"const": True},
        },
        optional=("role", "plan", "needs", "upgrade", "quota", "retry_after", "replayed"),
    ),
    "Reservation": _object({"id": _TEXT, "expires_at": _MOMENT, "amounts": _map(_COUNT)}),
    "Settled": _object(
        {
            "reservation": _object(
                {
                    "id": _TEXT,
                    "expires_at": _MOMENT,
                    "amounts": _map(_COUNT),
                    "state": {"type": "string", "enum": ["committed", "released"]},
                    "committed": _or_null(_map(_COUNT)),
                }
            ),
            "quota": _map(_ref("Quota")),
            "replayed": {"const": True},
        },
        optional=("replayed",),
    ),
    "GivenBack": _object(
        {"released": _map(_COUNT), "quota": _map(_ref("Quota")), "replayed": {"const": True}},
        optional=("replayed",),
    ),
    "Answers": _object(
        {"answers": {"type": "array", "items": {"anyOf": [_ref("Decision"), _ref("Problem")]}}}
    ),
    "Entitlements": _object(
        {
            "workspace": _object({"id": {"type": "string", "format": "uuid"}, "slug": _TEXT, "name": _TEXT}),
            "role": _TEXT,
            "plan": _TEXT,
            "features": _map({"type": "boolean"}),
            "quotas": _map(_ref("Quota")),
            "actions": _map({"type": "boolean"}),
            "policy_revision": _TEXT,
        }
    ),
    "Workspaces": _object(
        {
            "workspaces": {
                "type": "array",
                "items": _object(
                    {
                        "id": {"type": "string", "format": "uuid"},
                        "slug": _TEXT,
                        "name": _TEXT,
                        "role": _TEXT,
                        "plan": _TEXT,
                    }
                ),
            },
            "next": _or_null(_TEXT),
        }
    ),
    "Changed": _object(
        {
            "plan": _TEXT,
            "status": {"type": "string", "enum": ["active", "suspended"]},
            "overrides": _object(
                {
                    "features": _map({"type": "boolean"}),
                    "limits": _map({"anyOf": [_COUNT, {"const": "unlimited"}]}),
                }
            ),
            "as_of": _MOMENT,
            "applied": {"type": "boolean"},
        }
    ),
    "Alive": _object({"alive": {"const": True}}),
    "Readiness": _object(
        {"ready": {"type": "boolean"}, "worker": _PART, "policy_engine": _PART, "database": _PART}
    ),
}
_MEDIA_TYPES: dict[str, dict[str, Any]] = {
    "application/gzip": {},
    "application/json": {"type": "object"},
    "text/plain": _TEXT,
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
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "made by `sidecar token`"}
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
    if endpoint.scope is not None:
        operation["security"] = [{"token": []}, {}]  # a Unix socket, or loopback, needs none
        operation["x-scope"] = endpoint.scope
    return operation


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    codes = ["invalid_request", "internal_error", *endpoint.codes]
    if endpoint.scope is not None:
        codes += ["unauthenticated", "scope_missing"]
    if endpoint.body is not None:
        codes += _BAD_BODY
    if not endpoint.while_starting:
        codes.append("starting")
    content = {}
    if endpoint.answers in _MEDIA_TYPES:
        content[endpoint.answers] = {"schema": _MEDIA_TYPES[endpoint.answers]}
    elif endpoint.answers is not None:
        content["application/json"] = {"schema": _ref(endpoint.answers)}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if endpoint.name == "readyz":
        responses["503"] = {"description": "Not ready", "content": content}
    if endpoint.name == "bundle":
        responses["304"] = {"description": "It is still the one with this ETag"}
    for status in sorted({PROBLEMS[code][0] for code in codes}):
        named = sorted({code for code in codes if PROBLEMS[code][0] is status})
        responses[str(status.value)] = {
            "description": " · ".join(named),
            "content": {"application/problem+json": {"schema": _ref("Problem")}},
        }
    return responses
