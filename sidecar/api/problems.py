"""What is no answer: one table from codes to HTTP, and problems as RFC 9457 writes them."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.api.advice import ADVICE
from sidecar.api.wire import add_help
from sidecar.errors import (
    BadQuestion,
    BillingRefused,
    CallerForbidden,
    CommitExceedsReservation,
    EventReused,
    ExternalIdTaken,
    IdempotencyKeyReused,
    NotServed,
    Problem,
    RefundExceedsUse,
    ReservationExpired,
    ReservationSettled,
    SidecarError,
    UnknownIdempotencyKey,
    UnknownPlan,
    UnknownReservation,
    UnknownWorkspace,
)
from sidecar.text import shapes
from sidecar.text.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.reply import Reply
    from sidecar.decisions.model import Decision

_OUTAGE_RETRY_S = "1"

# Each code with its status and its title; docs/errors.md says the same to people.
PROBLEMS: Mapping[str, tuple[HTTPStatus, str]] = {
    "malformed_request": (HTTPStatus.BAD_REQUEST, "The request is not HTTP/1.1 as this server reads it"),
    "malformed_json": (HTTPStatus.BAD_REQUEST, "The body is not JSON"),
    "invalid_request": (HTTPStatus.BAD_REQUEST, "The request is not as the API describes it"),
    "meter_not_taken": (HTTPStatus.BAD_REQUEST, "The action does not take this meter"),
    "meter_not_consumable": (HTTPStatus.BAD_REQUEST, "The meter is counted, and never taken"),
    "mode_not_batched": (HTTPStatus.BAD_REQUEST, "A batch only checks"),
    "unknown_plan": (HTTPStatus.BAD_REQUEST, "There is no such plan"),
    "signature_invalid": (HTTPStatus.BAD_REQUEST, "The body is not signed as the biller signs"),
    "as_of_in_the_future": (HTTPStatus.BAD_REQUEST, "The date is ahead of the database's clock"),
    "unauthenticated": (HTTPStatus.UNAUTHORIZED, "A caller token is required"),
    "user_unauthenticated": (HTTPStatus.UNAUTHORIZED, "A valid token of the identity provider is required"),
    "scope_missing": (HTTPStatus.FORBIDDEN, "The caller's token lacks the scope"),
    "another_user": (HTTPStatus.FORBIDDEN, "A user's token answers about that user alone"),
    "not_a_member": (HTTPStatus.FORBIDDEN, "The user is not a member of this workspace"),
    "unknown_member": (HTTPStatus.NOT_FOUND, "There is no such member in the workspace"),
    "unknown_invitation": (HTTPStatus.NOT_FOUND, "There is no such open invitation"),
    "invitation_invalid": (HTTPStatus.NOT_FOUND, "There is no such invitation for this user"),
    "unknown_route": (HTTPStatus.FORBIDDEN, "No route is for this request"),
    "unsafe_path": (HTTPStatus.FORBIDDEN, "The path could be read in two ways"),
    "workspace_missing": (HTTPStatus.FORBIDDEN, "The request names no workspace"),
    "gateway_unreadable": (HTTPStatus.FORBIDDEN, "The gateway does not say what is requested"),
    "gateway_untrusted": (HTTPStatus.FORBIDDEN, "The gateway has not proved itself"),
    "not_found": (HTTPStatus.NOT_FOUND, "There is nothing at this path"),
    "unknown_workspace": (HTTPStatus.NOT_FOUND, "There is no such workspace"),
    "unknown_reservation": (HTTPStatus.NOT_FOUND, "There is no such reservation"),
    "unknown_idempotency_key": (HTTPStatus.NOT_FOUND, "Nothing was taken under this key"),
    "external_id_taken": (HTTPStatus.CONFLICT, "Another workspace has this external id"),
    "event_reused": (HTTPStatus.CONFLICT, "The event said something else before"),
    "idempotency_key_reused": (HTTPStatus.CONFLICT, "The key was used for another request"),
    "reservation_settled": (HTTPStatus.CONFLICT, "The reservation was settled otherwise"),
    "reservation_expired": (HTTPStatus.CONFLICT, "The reservation has expired, and it does not fit any more"),
    "commit_exceeds_reservation": (HTTPStatus.CONFLICT, "More was committed than is reserved"),
    "refund_exceeds_use": (HTTPStatus.CONFLICT, "More was given back than was taken"),
    "method_not_allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take this method"),
    "request_timeout": (HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time"),
    "already_a_member": (HTTPStatus.CONFLICT, "They are a member of this workspace already"),
    "owner_must_transfer": (HTTPStatus.CONFLICT, "The owner has to transfer the workspace first"),
    "use_transfer": (HTTPStatus.CONFLICT, "Ownership moves by a transfer"),
    "body_too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "billing_mode_differs": (HTTPStatus.UNPROCESSABLE_ENTITY, "The event is of the other mode, test or live"),
    "billing_workspace_missing": (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The subscription does not say which workspace it is for",
    ),
    "billing_workspace_unknown": (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The subscription is for a workspace that does not exist",
    ),
    "billing_plan_unknown": (HTTPStatus.UNPROCESSABLE_ENTITY, "The prices are not those of one plan"),
    "unsupported_media_type": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json"),
    "head_too_large": (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The request line and the headers are too large",
    ),
    "transfer_coding_unknown": (HTTPStatus.NOT_IMPLEMENTED, "The transfer coding is not supported"),
    "internal_error": (HTTPStatus.INTERNAL_SERVER_ERROR, "The sidecar has a defect"),
    "overloaded": (HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests are waiting for an answer"),
    "starting": (HTTPStatus.SERVICE_UNAVAILABLE, "The sidecar is not ready yet"),
    "policy_engine_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The policy engine did not answer in time"),
    "policy_engine_misbehaved": (HTTPStatus.SERVICE_UNAVAILABLE, "The policy engine gave no verdict"),
    "policy_revision_mismatch": (HTTPStatus.SERVICE_UNAVAILABLE, "The policy engine has another revision"),
    "usage_contended": (HTTPStatus.SERVICE_UNAVAILABLE, "Too many want the same quota at once"),
    "clock_skew": (HTTPStatus.SERVICE_UNAVAILABLE, "The clocks of the database and of the sidecar disagree"),
    "facts_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The database did not answer in time"),
    "facts_misread": (HTTPStatus.SERVICE_UNAVAILABLE, "The database answered outside its contract"),
    "database_not_migrated": (HTTPStatus.SERVICE_UNAVAILABLE, "The database lacks what this sidecar needs"),
    "workspace_contended": (HTTPStatus.SERVICE_UNAVAILABLE, "Too many are changing the workspace at once"),
    "outcome_unknown": (HTTPStatus.SERVICE_UNAVAILABLE, "Nobody said whether the change is made"),
    "log_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The decision log cannot be written"),
    "identity_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The identity provider's keys cannot be had"),
}

# What the policy denies an end user, by its reason; the status is the verdict's.
DENIALS: Mapping[str, str] = {
    "not_a_member": "The user is not a member of this workspace",
    "unknown_action": "The action is not declared",
    "workspace_suspended": "The workspace is suspended",
    "role_insufficient": "The user's role does not allow this",
    "feature_not_in_plan": "The plan does not include this",
    "quota_exceeded": "There is no room left",
    "denied_by_policy": "A rule of the company's own denies this",
}

# The caller's own mistakes: only of these the detail is shown, before what to do.
_SHOWN = (
    BadQuestion,
    BillingRefused,
    CallerForbidden,
    CommitExceedsReservation,
    EventReused,
    ExternalIdTaken,
    IdempotencyKeyReused,
    NotServed,
    RefundExceedsUse,
    ReservationExpired,
    ReservationSettled,
    UnknownIdempotencyKey,
    UnknownPlan,
    UnknownReservation,
    UnknownWorkspace,
)


def problem_of(error: SidecarError) -> dict[str, Any]:
    """The problem document; of what is not the caller's mistake it tells the code and what to do, no more."""
    if isinstance(error, _SHOWN):
        return problem(error.code, detail=_said(error), errors=_errors_of(error))
    return problem(error.code)


def _said(error: SidecarError) -> str:
    """What is wrong, and what to do, where its *errors* do not say so."""
    advice = ADVICE[error.code]
    if not error.detail or advice in error.detail:
        return error.detail or advice
    whole = error.detail.endswith(".")  # a sentence for people
    return f"{advice}: {error.detail}" if whole else f"{error.detail}: {advice}"


def problems_in(error: SidecarError, *, at: str = "") -> tuple[Problem, ...]:
    """Everything that *error* says is wrong, with pointers below *at*; each field of a fault becomes one."""
    return (
        *(replace(each, pointer=f"{at}{each.pointer}") for each in error.problems),
        *(
            Problem(
                pointer=reduce(shapes.below, each.field, at), detail=each.detail, suggestion=each.suggestion
            )
            for each in error.faults
        ),
    )


def moved(bad: BadQuestion, at: str) -> BadQuestion:
    """As *bad*, when what it is about stands at the pointer *at* of a larger body."""
    return BadQuestion(bad.detail, code=bad.code, problems=problems_in(bad, at=at))


def problem(
    code: str, *, detail: str | None = None, errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """*detail* None: the advice that everybody gets."""
    status, title = PROBLEMS[code]
    document: dict[str, Any] = {
        "type": f"urn:policy-sidecar:problem:{code}",
        "title": title,
        "status": status.value,
        "code": code,
        "detail": detail or ADVICE[code],
    }
    if errors:
        document["errors"] = errors
    return document


def denial(decision: Decision) -> dict[str, Any]:
    """A denial as an end user gets it, with what would help them."""
    verdict = decision.verdict
    document = {
        "type": f"urn:policy-sidecar:problem:{verdict.reason}",
        "title": DENIALS[verdict.reason],
        "status": verdict.status,
        "code": verdict.reason,
        "detail": decision.message,
    }
    add_help(document, decision)
    return document


def reply_of(document: Mapping[str, Any]) -> Reply:
    return document["status"], headers_of(document), encoded(document)


def headers_of(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    headers = [("Content-Type", "application/problem+json")]
    if document["status"] == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", 'Bearer realm="sidecar"'))
    if document["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", _OUTAGE_RETRY_S))
    if "retry_after" in document:
        headers.append(("Retry-After", str(document["retry_after"])))
    return headers


def _errors_of(error: SidecarError) -> list[dict[str, str]]:
    return [
        {"pointer": each.pointer, "detail": each.detail}
        | ({"suggestion": each.suggestion} if each.suggestion else {})
        for each in problems_in(error)
    ]
