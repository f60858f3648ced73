"""What the end user gets instead of the view's response: problems as RFC 9457 writes them."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.guard.errors import (
    BadRequest,
    Conflict,
    Denied,
    GuardError,
    Refused,
    Repeated,
    Unauthenticated,
    Unavailable,
)
from sidecar.guard.limits import limit_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/problem+json"
_OUTAGE_RETRY_S = "1"

_log = logging.getLogger("sidecar.guard")

# The guards' own, beside the reasons of denials; docs/guard.md says the same to people.
PROBLEMS: Mapping[type[GuardError], tuple[HTTPStatus, str, str]] = {
    BadRequest: (HTTPStatus.BAD_REQUEST, "invalid_request", "The request is not right"),
    Unauthenticated: (HTTPStatus.UNAUTHORIZED, "unauthenticated", "Sign in first"),
    Repeated: (HTTPStatus.CONFLICT, "request_repeated", "This was done before"),
    Refused: (HTTPStatus.INTERNAL_SERVER_ERROR, "authorization_misconfigured", "The server has a defect"),
    Unavailable: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "authorization_unavailable",
        "It cannot be decided now whether this is allowed",
    ),
}
_DENIALS = {
    HTTPStatus.PAYMENT_REQUIRED: "Another plan is needed",
    HTTPStatus.FORBIDDEN: "This is not allowed",
    HTTPStatus.TOO_MANY_REQUESTS: "The quota is used up",
}


def problem_reply(error: GuardError) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body. What is not the end user's doing is told to the log alone."""
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    match error:
        case Denied():
            document = _denial(error)
            if error.retry_after is not None:
                headers["Retry-After"] = str(error.retry_after)
            if error.shows_limits and error.decision is not None:
                headers.update(limit_fields([error.decision]))
        case Conflict():
            document = _problem(HTTPStatus.CONFLICT, error.code, "It was settled otherwise before")
            document["detail"] = error.detail
        case _:
            document = _problem(*PROBLEMS[type(error)])
            if isinstance(error, BadRequest):
                document["detail"] = str(error)
    match error:
        case Unauthenticated():
            headers["WWW-Authenticate"] = "Bearer"
        case Unavailable():
            headers["Retry-After"] = _OUTAGE_RETRY_S
            _log.warning("nothing was decided: %s", error)
        case Refused():
            _log.error("the sidecar does not take what this backend asks: %s", error)
        case _:
            pass
    return document["status"], headers, json.dumps(document).encode()


def _denial(denied: Denied) -> dict[str, Any]:
    status = HTTPStatus(denied.status)
    document = _problem(status, denied.reason, _DENIALS[status])
    document["detail"] = denied.message
    if denied.upgrade:
        document["upgrade"] = [
            {
                "plan": upgrade.plan,
                "title": upgrade.title,
                "price": {
                    "amount": upgrade.price.amount,
                    "currency": upgrade.price.currency,
                    "per": upgrade.price.per,
                },
            }
            for upgrade in denied.upgrade
        ]
    if denied.decision is not None:
        if denied.decision.needs_roles:
            document["needs"] = {"roles": list(denied.decision.needs_roles)}
        elif denied.decision.needs_feature is not None:
            document["needs"] = {"feature": denied.decision.needs_feature}
        document["decision_id"] = denied.decision.decision_id
    return document


def _problem(status: HTTPStatus, code: str, title: str) -> dict[str, Any]:
    return {
        "type": f"urn:policy-sidecar:problem:{code}",
        "title": title,
        "status": status.value,
        "code": code,
    }
