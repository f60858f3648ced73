"""What the end user gets instead of the view's response: problems as RFC 9457 writes them."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.guard.errors import (
    BadRequest,
    Conflict,
    Denied,
    GuardError,
    Misconfigured,
    Refused,
    Repeated,
    Unauthenticated,
    Unavailable,
)
from sidecar.guard.limits import limit_fields
from sidecar.guard.requirement import UNDECLARED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.guard.answers import Quota

MEDIA_TYPE = "application/problem+json"
_OUTAGE_RETRY_S = "1"

_log = logging.getLogger("sidecar.guard")

_DEFECT = (HTTPStatus.INTERNAL_SERVER_ERROR, "authorization_misconfigured", "The server has a defect")
_TELL = "tell the operator: the log of this backend has the cause"
# The guards' own codes, beside the reasons of denials; docs/guard.md lists them.
PROBLEMS: Mapping[type[GuardError], tuple[HTTPStatus, str, str]] = {
    BadRequest: (HTTPStatus.BAD_REQUEST, "invalid_request", "The request is not right"),
    Unauthenticated: (HTTPStatus.UNAUTHORIZED, "unauthenticated", "Sign in first"),
    Repeated: (HTTPStatus.CONFLICT, "request_repeated", "This was done before"),
    Refused: _DEFECT,
    Misconfigured: _DEFECT,
    Unavailable: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "authorization_unavailable",
        "It cannot be decided now whether this is allowed",
    ),
}
# What the end user, or whoever is told, does about it; a BadRequest says so itself.
_ADVICE: Mapping[type[GuardError], str] = {
    Unauthenticated: "sign in, and send what proves it with the request",
    Repeated: "leave it as it is: the first request has been answered; a new one needs a new key",
    Refused: _TELL,
    Misconfigured: _TELL,
    Unavailable: "it is not known whether this is allowed: send the same again after a second",
}
# Titles of denials by reason, as in the sidecar's own routes: an end user meets both. That an action is not
# declared is no denial here: the guards have asked for it, not the user.
DENIALS: Mapping[str, str] = {
    "not_a_member": "The user is not a member of this workspace",
    "workspace_suspended": "The workspace is suspended",
    "role_insufficient": "The user's role does not allow this",
    "feature_not_in_plan": "The plan does not include this",
    "quota_exceeded": "There is no room left",
    "denied_by_policy": "A rule of the company's own denies this",
}
# Titles of conflicts by code, as the sidecar's own.
CONFLICTS: Mapping[str, str] = {
    "idempotency_key_reused": "The key was used for another request",
    "reservation_settled": "The reservation was settled otherwise",
    "reservation_expired": "The reservation has expired, and it does not fit any more",
    "commit_exceeds_reservation": "More was committed than is reserved",
    "refund_exceeds_use": "More was given back than was taken",
}
_CONFLICT = "It was settled otherwise before"  # by a code of a newer sidecar
_DENIED = "This is not allowed"  # for a reason of a newer sidecar


def problem_reply(error: GuardError, *, view: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body. What is not the end user's mistake goes to the log only, with *view*."""
    if isinstance(error, Denied) and error.reason == UNDECLARED:  # of a call that the view makes itself
        error = Misconfigured(error.message)
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    match error:
        case Denied():
            document = _denial(error)
            if error.retry_after is not None:
                headers["Retry-After"] = str(error.retry_after)
            if error.shows_limits and error.decision is not None:
                headers.update(limit_fields([error.decision]))
        case Conflict():
            document = _problem(HTTPStatus.CONFLICT, error.code, CONFLICTS.get(error.code, _CONFLICT))
            document["detail"] = error.detail
        case _:
            document = _problem(*PROBLEMS[type(error)])
            document["detail"] = str(error) if isinstance(error, BadRequest) else _ADVICE[type(error)]
    match error:
        case Unauthenticated():
            headers["WWW-Authenticate"] = "Bearer"
        case Unavailable():
            headers["Retry-After"] = _OUTAGE_RETRY_S
            _log.warning("nothing was decided: %s", error)
        case Refused():
            _log.error(_in_one_line(f'the sidecar does not take what the view "{view}" asks: {error}'))
        case Misconfigured():
            _log.error(_in_one_line(f'the view "{view}" asks for what plans.yaml does not declare: {error}'))
        case _:
            pass
    return document["status"], headers, json.dumps(document).encode()


def _in_one_line(text: str) -> str:
    """Names of meters may be the end user's, who must not write lines of their own into the log."""
    return "".join(each if each.isprintable() else " " for each in text)


def _denial(denied: Denied) -> dict[str, Any]:
    document = _problem(HTTPStatus(denied.status), denied.reason, DENIALS.get(denied.reason, _DENIED))
    document["detail"] = denied.message
    if (decision := denied.decision) is None:
        return document
    if decision.needs_roles:
        document["needs"] = {"roles": list(decision.needs_roles)}
    elif decision.needs_feature is not None:
        document["needs"] = {"feature": decision.needs_feature}
    if decision.upgrade:
        document["upgrade"] = [asdict(upgrade) for upgrade in decision.upgrade]
    if decision.quota:
        document["quota"] = {meter: _quota_document(quota) for meter, quota in decision.quota.items()}
    if decision.retry_after is not None:
        document["retry_after"] = decision.retry_after
    document["decision_id"] = decision.decision_id
    return document


def _quota_document(quota: Quota) -> dict[str, Any]:
    document = asdict(quota)
    for moment in ("resets_at", "grows_at"):
        if document[moment] is not None:
            document[moment] = document[moment].isoformat().replace("+00:00", "Z")
    if quota.grows_at is None:
        del document["grows_at"]
    if not quota.over_by:
        del document["over_by"]
    return document


def _problem(status: HTTPStatus, code: str, title: str) -> dict[str, Any]:
    return {
        "type": f"urn:policy-sidecar:problem:{code}",
        "title": title,
        "status": status.value,
        "code": code,
    }
