"""The lines of the decision log: who asked, what, what came of it, and where the time went."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.text.encoding import embedded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.model import Decision, Question
    from sidecar.decisions.timings import Timings

_MS = 1_000


def outcome_of(decision: Decision) -> dict[str, Any]:
    """What the log says of a decision: enough to put the same situation to the same revision again."""
    verdict = decision.verdict
    outcome: dict[str, Any] = {
        "decision_id": decision.decision_id,
        "allow": verdict.allow,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "status": verdict.status,
        "policy_revision": verdict.revision,
        "situation": embedded(decision.situation),
        "facts_at": decision.at,
        "facts_cached": decision.cached,
    }
    if decision.reservation:
        outcome["reservation"] = decision.reservation.id
    if decision.replayed:
        outcome["replayed"] = True
    return outcome


def note_decision(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    decision: Decision,
    *,
    also: Mapping[str, Any] | None = None,
) -> None:
    """Count *decision* and write its line; *also* is what else the line says."""
    service.metrics.count_decision(decision, catalog=service.authorizer.catalog)
    outcome = {**(also or {}), **outcome_of(decision)}
    note(service, request, endpoint, question, outcome, timings=decision.timings)


def note(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    outcome: Mapping[str, Any],
    *,
    timings: Timings | None = None,
) -> None:
    """One line of the decision log. Who asked, what, what came of it, and where the time went.

    *timings* are a decision's own. Any other line has those parts that its request has waited for so far.
    """
    now = datetime.now(UTC)
    entry: dict[str, Any] = {
        "at": now,
        "request_id": request.id,
        "caller": request.caller.name if request.caller else None,
        "endpoint": endpoint,
    }
    if request.user is not None:
        entry["end_user"] = request.user.id
    if question is not None:
        entry["user"] = question.user
        entry["workspace"] = question.workspace
        entry["action"] = question.action
        entry["mode"] = question.mode
        entry["amounts"] = question.amounts
    entry.update(outcome)
    parts = _parts(timings) if timings else {name: s for name, s in _parts(request.timings).items() if s}
    parts["total"] = monotonic() - request.began
    entry["ms"] = {name: round(seconds * _MS, 3) for name, seconds in parts.items()}
    service.log.note(entry)


def _parts(timings: Timings) -> dict[str, float]:
    return {"facts": timings.facts_s, "policy": timings.policy_s, "ledger": timings.ledger_s}
