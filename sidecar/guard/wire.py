"""Parses a response: a document, or the error that it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from sidecar.guard.answers import Misread
from sidecar.guard.errors import Conflict, Denied, GuardError, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.guard.answers import T
    from sidecar.guard.connections import Reply

_OK, _FORBIDDEN, _CONFLICT = 200, 403, 409
_CLIENT_ERRORS, _SERVER_ERRORS = range(400, 500), range(500, 600)


def answered(reply: Reply, *, request_id: str) -> object:
    """The document of an answer with 200 to the request with *request_id*; all else is raised."""
    if reply.request_id != request_id:
        raise misbehaved(f"status {reply.status} without the X-Request-ID of this question")
    document = _document(reply)
    if reply.status != _OK:
        raise problem_from(reply.status, document)
    return document


def read(reader: Callable[[object], T], document: object) -> T:
    try:
        return reader(document)
    except Misread as misread:
        raise misbehaved(str(misread)) from misread


def _document(reply: Reply) -> object:
    media_type = reply.content_type.partition(";")[0].strip().lower()
    if media_type != ("application/json" if reply.status == _OK else "application/problem+json"):
        raise misbehaved(f"status {reply.status} with {media_type or 'no content type'}")
    try:
        return json.loads(reply.body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise misbehaved(f"status {reply.status} with what is not JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def problem_from(status: object, document: object) -> GuardError:
    """What a problem of the sidecar's means here."""
    problem = document if isinstance(document, dict) else {}
    code, said = problem.get("code"), problem.get("status")
    if not isinstance(code, str) or not isinstance(said, int) or said != status:
        return misbehaved(f"status {status} with what is no problem of the sidecar's")
    detail = str(problem.get("detail") or problem.get("title") or code)
    if said == _FORBIDDEN and code == "not_a_member":
        return Denied(said, code, detail)
    if said == _CONFLICT:
        return Conflict(code, detail)
    if said in _CLIENT_ERRORS:
        return Refused(said, code, detail, errors=_errors_in(problem))
    if said in _SERVER_ERRORS:
        return Unavailable(code, detail, uncertain=True)
    return misbehaved(f"status {status} is none that the sidecar has")


def _errors_in(problem: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    errors = problem.get("errors")
    return tuple(
        (str(each.get("pointer", "")), str(each.get("detail", "")) + _hint_in(each))
        for each in (errors if isinstance(errors, list) else ())
        if isinstance(each, Mapping)
    )


def _hint_in(error: Mapping[str, Any]) -> str:
    near = error.get("suggestion")
    return f'; did you mean "{near}"?' if isinstance(near, str) else ""


def misbehaved(detail: str) -> Unavailable:
    return Unavailable("sidecar_misbehaved", detail, uncertain=True)
