"""The words of OFREP: contexts in, failures out."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from sidecar.api.problems import headers_of
from sidecar.api.reply import json_reply
from sidecar.api.wire import workspace_from
from sidecar.text import shapes
from sidecar.text.shapes import REQUIRED, Open, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request

# An application puts whatever it likes beside the two that are read.
BODY = Open(
    {"context": Open({"targetingKey": Text(), "workspace": Text()}, required=("targetingKey", "workspace"))},
    required=("context",),
)
ERROR_CODES = ("PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL", "FLAG_NOT_FOUND")
_UNREADABLE = frozenset({"malformed_json", "body_too_large", "unsupported_media_type"})
_TARGETING_KEY = frozenset({"/context", "/context/targetingKey"})


class Context(NamedTuple):
    user: str
    workspace: str


def context_from(raw: bytes) -> Context:
    """BadQuestion with every problem of the body."""
    context = shapes.check(raw, BODY)["context"]
    return Context(user=context["targetingKey"], workspace=workspace_from(context["workspace"]))


def failure(code: str, details: str, *, key: str | None) -> dict[str, str]:
    """*key* None: of all flags. Python's provider cannot do without the details."""
    return {**({} if key is None else {"key": key}), "errorCode": code, "errorDetails": details}


def refused(problem: Mapping[str, Any], request: Request) -> Reply:
    """*problem* in the words of OFREP; an outage has its details alone, since no flag is at fault."""
    details = _details(problem)
    if problem["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        body = {"errorDetails": details}
    else:
        key = request.path.get("key")
        body = failure(_code(problem), details, key=None if key is None else unquote(key))
    status, headers, content = json_reply(body, problem["status"])
    return status, [*headers, *(each for each in headers_of(problem) if each[0] != "Content-Type")], content


def _code(problem: Mapping[str, Any]) -> str:
    if problem["code"] in _UNREADABLE:
        return "PARSE_ERROR"
    errors = problem.get("errors", ())
    if any(each["pointer"] in _TARGETING_KEY and each["detail"] == REQUIRED for each in errors):
        return "TARGETING_KEY_MISSING"
    if any(each["pointer"].startswith("/context") for each in errors):
        return "INVALID_CONTEXT"
    return "PARSE_ERROR" if any(not each["pointer"] for each in errors) else "GENERAL"


def _details(problem: Mapping[str, Any]) -> str:
    errors = [
        f"{each['pointer'] or 'the body'} {each['detail']}"
        + (f"; did you mean {each['suggestion']}?" if "suggestion" in each else "")
        for each in problem.get("errors", ())
    ]
    return "; ".join(errors) or str(problem["detail"])
