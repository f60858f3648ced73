"""The border of every policy engine: a document becomes a verdict, or it is refused.

The schema is closed: nothing is coerced, defaulted or ignored. A document that is nearly a verdict is an
outage, since a policy that breaks its schema cannot be trusted about the rest either.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sidecar.decisions.model import Verdict
from sidecar.decisions.reasons import GRANTED, REASONS
from sidecar.errors import EngineMisbehaved, RevisionMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRYPOINT = "data.authz.decision"
# The question that finds the served revision: a stranger and an unknown action.
NOBODY = b'{"action":null,"overrides":{"features":{}},"plan":null,"role":null,"room":null,"status":null}'

_KEYS = frozenset(
    {"allow", "charges", "detail", "needs", "reason", "revision", "status", "upgrade", "waiting_helps"}
)
_MAX_SHOWN = 120


def verdict_from(document: object, *, revision: str) -> Verdict:
    """RevisionMismatch if *document* names another revision, EngineMisbehaved if it is no verdict."""
    match document:
        case {"revision": str(other)} if other != revision:
            # First, because another revision may have another schema.
            raise RevisionMismatch(
                f"{ENTRYPOINT} is of revision {_shown(other)}, and this process of {_shown(revision)}:"
                " restart the one that is behind"
            )
        case dict():
            fault = next(_faults_in(document), None)
        case _:
            fault = f"expected an object, got {_shown(document)}"
    if fault or not isinstance(document, dict):
        raise EngineMisbehaved(f"{ENTRYPOINT} is no verdict: {fault}")

    needs = document["needs"]
    return Verdict(
        allow=document["allow"],
        reason=document["reason"],
        status=document["status"],
        charges=MappingProxyType(document["charges"]),  # a cached verdict is shared by all requests
        upgrade=tuple(document["upgrade"]),
        waiting_helps=document["waiting_helps"],
        needs_roles=tuple(needs.get("roles", ())),
        needs_feature=needs.get("feature"),
        detail=document["detail"],
        revision=document["revision"],
    )


def document_of(verdict: Verdict) -> dict[str, object]:
    """The document from which `verdict_from` makes *verdict*."""
    needs: dict[str, object] = {}
    if verdict.reason == "role_insufficient":
        needs["roles"] = list(verdict.needs_roles)
    if verdict.needs_feature is not None:
        needs["feature"] = verdict.needs_feature
    return {
        "allow": verdict.allow,
        "charges": dict(verdict.charges),
        "detail": verdict.detail,
        "needs": needs,
        "reason": verdict.reason,
        "revision": verdict.revision,
        "status": verdict.status,
        "upgrade": list(verdict.upgrade),
        "waiting_helps": verdict.waiting_helps,
    }


def named_revision(document: object) -> str:
    """The revision of a verdict; EngineMisbehaved if *document* is not a verdict."""
    revision = document.get("revision") if isinstance(document, dict) else None
    return verdict_from(document, revision=revision if isinstance(revision, str) else "").revision


def _faults_in(document: dict[Any, Any]) -> Iterator[str]:
    """Each check assumes that those before it passed."""
    if missing := _KEYS - document.keys():
        yield f"without {', '.join(sorted(missing))}"
    if extra := document.keys() - _KEYS:
        yield f"with {', '.join(sorted(map(str, extra)))}, which no verdict has"
    if not isinstance(document["revision"], str):
        yield f"/revision: expected a string, got {_shown(document['revision'])}"
    yield from _faults_in_answer(document["allow"], document["reason"], document["status"])
    yield from _faults_in_charges(document["charges"], allow=document["allow"])
    yield from _faults_in_upgrade(document["upgrade"], reason=document["reason"], status=document["status"])
    yield from _faults_in_waiting(
        document["waiting_helps"],
        reason=document["reason"],
        status=document["status"],
        upgrade=document["upgrade"],
    )
    yield from _faults_in_needs(document["needs"], reason=document["reason"])

    detail, reason = document["detail"], document["reason"]
    if reason == "denied_by_policy" and not (isinstance(detail, str) and detail):
        yield f"/detail: expected the code of the rule that denied, got {_shown(detail)}"
    if reason != "denied_by_policy" and detail is not None:
        yield f"/detail: expected null with {reason}, got {_shown(detail)}"


def _faults_in_answer(allow: object, reason: object, status: object) -> Iterator[str]:
    if not isinstance(allow, bool):
        yield f"/allow: expected true or false, got {_shown(allow)}"
    if not isinstance(reason, str) or reason not in REASONS:
        yield f"/reason: expected one of {', '.join(REASONS)}, got {_shown(reason)}"
    elif allow != (reason == GRANTED):
        yield f"/allow: {_shown(allow)} contradicts the reason {reason}"
    elif type(status) is not int or status not in REASONS[reason]:
        expected = " or ".join(map(str, sorted(REASONS[reason])))
        yield f"/status: expected {expected} with {reason}, got {_shown(status)}"


def _faults_in_charges(charges: object, *, allow: bool) -> Iterator[str]:
    if not isinstance(charges, dict):
        yield f"/charges: expected an object, got {_shown(charges)}"
    elif charges and not allow:
        yield f"/charges: expected none with a denial, got {_shown(charges)}"
    else:
        for meter, limit in charges.items():
            if limit is not None and (type(limit) is not int or limit < 0):
                yield f"/charges/{meter}: expected a limit or null, got {_shown(limit)}"


def _faults_in_upgrade(upgrade: object, *, reason: str, status: int) -> Iterator[str]:
    if not _is_names(upgrade):
        yield f"/upgrade: expected plans, each once, got {_shown(upgrade)}"
    if bool(upgrade) != (status == HTTPStatus.PAYMENT_REQUIRED):
        yield f"/upgrade: {_shown(upgrade)} contradicts the status {status} of {reason}"


def _faults_in_waiting(waiting_helps: object, *, reason: str, status: int, upgrade: object) -> Iterator[str]:
    if not isinstance(waiting_helps, bool):
        yield f"/waiting_helps: expected true or false, got {_shown(waiting_helps)}"
    elif waiting_helps and reason != "quota_exceeded":
        yield f"/waiting_helps: true contradicts the reason {reason}"
    elif not upgrade and waiting_helps != (status == HTTPStatus.TOO_MANY_REQUESTS):
        yield f"/waiting_helps: {_shown(waiting_helps)} contradicts the status {status} of {reason}"


def _faults_in_needs(needs: object, *, reason: str) -> Iterator[str]:
    match reason, needs:
        case "role_insufficient", {"roles": roles, **rest} if _is_names(roles) and not rest:
            return
        case "feature_not_in_plan", {"feature": str(feature), **rest} if feature and not rest:
            return
        case _, {**rest} if reason not in {"role_insufficient", "feature_not_in_plan"} and not rest:
            return
    expected = {"role_insufficient": '{"roles": […]}', "feature_not_in_plan": '{"feature": "…"}'}
    yield f"/needs: expected {expected.get(reason, '{}')} with {reason}, got {_shown(needs)}"


def _is_names(value: object) -> bool:
    """Whether it is a list of texts, none of them empty or duplicate."""
    return (
        isinstance(value, list)
        and all(isinstance(each, str) and each for each in value)
        and len(set(value)) == len(value)
    )


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
