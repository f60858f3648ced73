"""What to do about each problem: the sentence that stands where a problem has no more to tell.

It is the same whoever asks, so that a stranger learns nothing from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.text.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LATER = "nothing was decided, so treat it as no and retry later; the log has more under this request id"
_OPERATOR = "nothing was decided, so treat it as no; the log has the cause under this request id"
_LONGEST_PATH = 256

ADVICE: Mapping[str, str] = {
    "malformed_request": "send HTTP/1.1 with one Host, one Content-Length or chunks, and CRLF after a line",
    "malformed_json": "send one JSON document in UTF-8",
    "invalid_request": "compare the request with /openapi.json",
    "meter_not_taken": "leave the meter out, or declare it under the action's takes in plans.yaml",
    "meter_not_consumable": "check it only: an invitation or a new member takes it",
    "mode_not_batched": "ask for an effect with /v1/authorize",
    "unknown_plan": "name a plan of plans.yaml",
    "signature_invalid": (
        "send the body as it was signed, within five minutes; SIDECAR_STRIPE_SECRETS holds the signing secret"
        " (whsec_…) of this very endpoint"
    ),
    "billing_mode_differs": "send test and live events to sidecars of their own; see SIDECAR_STRIPE_LIVEMODE",
    "billing_workspace_missing": (
        "set subscription_data.metadata.workspace where the Checkout session is made; put it on this"
        " subscription by hand, and Stripe sends an event with it"
    ),
    "billing_workspace_unknown": (
        "correct the metadata of the subscription: workspace is an id, a slug, or ext: and an external id"
    ),
    "billing_plan_unknown": (
        "say in plans.yaml, sold_as, which one plan these prices are; then resend the event"
    ),
    "as_of_in_the_future": "send the date of the event, at most five minutes ahead; check the sender's clock",
    "unauthenticated": (
        "send `Authorization: Bearer TOKEN` with a caller token of this sidecar;"
        " `sidecar token --name NAME --scope SCOPE --file FILE` makes one, SIGHUP loads it"
    ),
    "user_unauthenticated": (
        "send `Authorization: Bearer JWT` with a valid token of the identity provider: sign in to get one"
    ),
    "scope_missing": (
        "send a caller token with the scope that this endpoint needs;"
        " `sidecar token --name NAME --scope SCOPE --file FILE` makes one, SIGHUP loads it"
    ),
    "another_user": (
        "send the token's own sub as the targetingKey; a backend may ask about anybody, with a caller token"
    ),
    "not_a_member": "ask for a user and a workspace that the user is a member of",
    "unknown_member": "name a member of the workspace; GET /workspaces/{workspace}/members lists them",
    "unknown_invitation": "name an open invitation; GET /workspaces/{workspace}/invitations lists them",
    "already_a_member": "change their role instead: PATCH /workspaces/{workspace}/members/{user}",
    "invitation_invalid": "ask for a new invitation to the verified e-mail address of who accepts it",
    "unknown_route": "add a route for this method, host and path to plans.yaml, or use one that is there",
    "unsafe_path": "send the path exactly as the route in plans.yaml has it",
    "workspace_missing": "name the workspace where the route takes it from: a header or a claim",
    "gateway_unreadable": "configure the gateway as its document in docs/gateways has it",
    "gateway_untrusted": (
        "have the gateway send X-Sidecar-Token with a caller token that has the scope authorize;"
        " `sidecar token --name NAME --scope authorize --file FILE` makes one"
    ),
    "not_found": "/openapi.json lists every path",
    "unknown_workspace": "name a workspace by its id, by its slug, or by ext: and its external id",
    "unknown_reservation": "use the id that the answer to mode reserve has, within a month of its end",
    "unknown_idempotency_key": "name the key that the quota was taken under, in the same workspace",
    "external_id_taken": "take it from the other workspace first; GET /v1/workspaces?q=ext:ID finds that one",
    "event_reused": "give another event another name; a repeat says the same as before",
    "idempotency_key_reused": "use a new key for a new request; a retry is identical to its first request",
    "reservation_settled": "leave it as it is: the first call stands",
    "reservation_expired": "reserve for longer with ttl_seconds, or commit sooner",
    "commit_exceeds_reservation": "commit at most what is reserved, and consume the rest",
    "refund_exceeds_use": "refund at most what was taken under the key, and once",
    "method_not_allowed": "use a method that the header Allow names",
    "request_timeout": "send the head of a request within 5 seconds and its body within 10",
    "owner_must_transfer": "transfer the workspace first: POST /workspaces/{workspace}/transfer",
    "use_transfer": "use POST /workspaces/{workspace}/transfer",
    "body_too_large": (
        "send at most 64 KiB, 256 KiB to /v1/data and /billing, or 1 MiB to an endpoint for many questions"
    ),
    "unsupported_media_type": "send Content-Type: application/json, in UTF-8 and not compressed",
    "head_too_large": "send a request line and headers of at most 128 KiB together, in at most 1,000 lines",
    "transfer_coding_unknown": "send the body with a Content-Length, or in the transfer coding chunked alone",
    "internal_error": "report the traceback that standard error has under this request id",
    "overloaded": "nothing was decided or taken, so treat it as no and retry after a second",
    "starting": "nothing was decided, so treat it as no; retry after a second; /readyz says what is missing",
    "policy_engine_unavailable": _LATER,
    "policy_engine_misbehaved": _OPERATOR,
    "policy_revision_mismatch": _OPERATOR,
    "usage_contended": "nothing was taken: retry after a second, with the same idempotency key",
    "clock_skew": "nothing was taken; the operator corrects the clock that is wrong, by NTP",
    "facts_unavailable": (
        "nothing is known, so treat it as no; retry after a second, with the same idempotency key:"
        " a consume or reserve may have taken effect"
    ),
    "facts_misread": _OPERATOR,
    "database_not_migrated": "the operator runs `sidecar migrate` of this version; until then treat it as no",
    "log_unavailable": (
        "what was consumed stands: repeat the request with the same idempotency key; the operator has to make"
        " room for the decision log"
    ),
    "workspace_contended": "nothing was done: retry after a second",
    "outcome_unknown": "look whether the change is made, and make it again if it is not",
    "identity_unavailable": _LATER,
}


def where_to(path: str, templates: Iterable[str]) -> str:
    """Of a *path* where nothing is: the nearest of *templates*, in their words and never in the request's."""
    advice = ADVICE["not_found"]
    if len(path) > _LONGEST_PATH:
        return advice
    parts = path.lower().split("/")
    written = {"/".join(_filled_in(template.split("/"), parts)): template for template in templates}
    near = nearest(path.lower(), tuple(written))
    return advice if near is None else f"the nearest path is {written[near]}; {advice}"


def which_method(methods: Iterable[str]) -> str:
    """Of a method that a path does not take."""
    return f"this path takes {' or '.join(sorted(methods))}"


def which_scope(*scopes: str) -> str:
    """Of a caller whose token has none of *scopes*."""
    return (
        f"send a caller token with the scope {' or '.join(scopes)};"
        f" `sidecar token --name NAME --scope {scopes[0]} --file FILE` makes one, SIGHUP loads it"
    )


def _filled_in(template: list[str], parts: list[str]) -> list[str]:
    """*template* with the request's own words where it takes any."""
    return [
        parts[place] if part.startswith("{") and place < len(parts) and parts[place] else part
        for place, part in enumerate(template)
    ]
