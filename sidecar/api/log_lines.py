"""The lines of the decision log: who asked, what, what came of it, and where the time went."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidecar.api import rendered
from sidecar.text.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.model import Decision, Question
    from sidecar.decisions.timings import Timings
    from sidecar.identity.callers import Caller

_MS = 1_000
_TOOK = b'{"facts":%.3f,"policy":%.3f,"ledger":%.3f,"total":%.3f}'


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
    note_outcome(
        service, request, endpoint, question, rendered.outcome(decision), timings=decision.timings, also=also
    )


def note(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    outcome: Mapping[str, Any],
) -> None:
    """One line of the decision log. Who asked, what, what came of it, and where the time went.

    It has those parts of the time that its request has waited for so far.
    """
    note_outcome(service, request, endpoint, question, encoded(outcome), timings=None)


def note_outcome(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    outcome: bytes,
    *,
    timings: Timings | None,
    also: Mapping[str, Any] | None = None,
) -> None:
    """As `note`. *outcome* is a JSON object with at least one field; *timings* are a decision's own."""
    head = head_of(request.id, request.caller, endpoint)
    if request.user is not None:
        head += b',"end_user":%b' % encoded(request.user.id)
    if question is not None:
        head += asked_of(
            question.user, question.workspace, question.action, mode=question.mode, amounts=question.amounts
        )
    if also:
        head += also_of(also)
    total_s = monotonic() - request.began
    if timings is not None:
        took = took_of(timings, total_s)
    else:
        waited = {name: round(s * _MS, 3) for name, s in _parts(request.timings).items() if s}
        took = encoded({**waited, "total": round(total_s * _MS, 3)})
    service.log.note(whole(head, outcome, took))


def note_plainly(
    service: Service, head: bytes, question: tuple[str, str, str], outcome: bytes, took: bytes
) -> None:
    """The line of a check that takes nothing: of user, workspace and action, to follow *head*."""
    service.log.note(whole(head + asked_of(*question), outcome, took))


def head_of(request_id: str, caller: Caller | None, endpoint: str) -> bytes:
    """How a line begins, with the time of now."""
    return b'{"at":%b,"request_id":%b,"caller":%b,"endpoint":"%b"' % (
        encoded(datetime.now(UTC)),
        encoded(request_id),
        encoded(caller.name) if caller else b"null",
        endpoint.encode(),
    )


def asked_of(
    user: str, workspace: str, action: str, *, mode: str = "check", amounts: Mapping[str, int] | None = None
) -> bytes:
    """What was asked, to follow the head."""
    return b',"user":%b,"workspace":%b,"action":%b,"mode":"%b","amounts":%b' % (
        encoded(user),
        encoded(workspace),
        encoded(action),
        mode.encode(),
        b"null" if amounts is None else encoded(amounts),
    )


def also_of(also: Mapping[str, Any]) -> bytes:
    """What else a line says, to follow what was asked; *also* is not empty."""
    return b",%b" % encoded(also)[1:-1]


def took_of(timings: Timings, total_s: float) -> bytes:
    return _TOOK % (timings.facts_s * _MS, timings.policy_s * _MS, timings.ledger_s * _MS, total_s * _MS)


def whole(head: bytes, outcome: bytes, took: bytes) -> bytes:
    """The line: *head* is open, *outcome* a JSON object that becomes part of it."""
    return b'%b,%b,"ms":%b}' % (head, outcome[1:-1], took)


def _parts(timings: Timings) -> dict[str, float]:
    return {"facts": timings.facts_s, "policy": timings.policy_s, "ledger": timings.ledger_s}
