"""The lines of the decision log: who asked, what, what came of it, and where the time went.

All are made here, of the same pieces. A line stays open at its end: the log adds its number and its seal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from sidecar.api import rendered
from sidecar.decisions.steps import Wait
from sidecar.errors import BillingRefused, UnknownUser
from sidecar.text.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.masking import Masks
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.model import Decision, Facts, Question
    from sidecar.decisions.ports import PlainFacts
    from sidecar.decisions.steps import Steps
    from sidecar.decisions.timings import Timings
    from sidecar.errors import SidecarError
    from sidecar.identity.callers import Caller

Kind = Literal["decision", "listing", "change", "settle", "problem"]
_MS = 1_000
_WRITTEN_WITHIN_S = 1.0  # a disk that takes longer is not there
_TOOK = b'{"facts":%.3f,"policy":%.3f,"ledger":%.3f,"total":%.3f}'
_TOOK_FACTS = b'{"facts":%b,"policy":0.000,"ledger":0.000,"total":%b}'  # where all of it was theirs
_HEAD = b'{"v":1,"kind":"%b","at":%b,"request_id":%b,"caller":%b,"endpoint":"%b"'
_LINE = b'%b%b,%b,"catalog":"%b","ms":%b'
_ASKED = b',"user":%b,"workspace":%b,"action":%b,"mode":"%b","amounts":%b,"resource":%b'
_PLAINLY = _ASKED % (b"%b", b"%b", b"%b", b"check", b"null", b"null") + b"%b"  # with facts to come
_FACTS = b',"workspace_id":%b,"facts_version":%b,"limits":%b'
_NO_FACTS = b',"workspace_id":null,"facts_version":null,"limits":{}'


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
    is_check = question is not None and question.mode == "check"
    if leave_out(service, request, is_granted_check=is_check and decision.allowed):
        return
    outcome = rendered.outcome(decision)
    note_outcome(
        service,
        request,
        endpoint,
        question,
        outcome,
        timings=decision.timings,
        decision=decision,
        also=also,
    )


def note(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    outcome: Mapping[str, Any],
    *,
    kind: Kind,
) -> None:
    """The line of anything but a decision. It has those parts of the time that its request has waited for."""
    said = b"" if question is None else _asked(service, question, question.amounts)
    waited = {name: round(s * _MS, 3) for name, s in _parts(request.timings).items() if s}
    took = encoded({**waited, "total": round((monotonic() - request.began) * _MS, 3)})
    _note(service, request, kind, endpoint, said, encoded(outcome), took)


def why_of(error: SidecarError) -> dict[str, object]:
    """What a line says of *error* beside its code: what it is about is nobody's to know but an operator's."""
    if isinstance(error, BillingRefused):
        return dict(error.about)  # by field, so that masks find what they hide
    why: dict[str, object] = {"why": error.detail} if error.detail else {}
    if isinstance(error, UnknownUser) and error.unverified:
        why["unverified"] = error.unverified
    return why


def note_listing(
    service: Service, request: Request, endpoint: str, reply: Reply, *, found: int, **about: object
) -> Reply:
    """*reply*, which tells *found* things: its line says by which revision, and which answer it was.

    *about* may have the `sha256` of that answer itself, where the reply says only that it is known.
    """
    status, _, body = reply
    outcome = {
        **about,
        "status": status,
        "policy_revision": service.authorizer.policy.revision,
        "found": found,
    }
    if "sha256" not in about:
        outcome["sha256"] = sha256(body).hexdigest()
    note(service, request, endpoint, None, outcome, kind="listing")
    return reply


def note_outcome(
    service: Service,
    request: Request,
    endpoint: str,
    question: Question | None,
    outcome: bytes,
    *,
    timings: Timings,
    decision: Decision | None = None,
    also: Mapping[str, Any] | None = None,
) -> None:
    """The line of a decision, ours or not. *outcome* is a JSON object with a field; *timings* are its own."""
    said = b""
    if question is not None:
        said = _asked(service, question, (decision.amounts if decision else None) or question.amounts)
    if decision is not None:
        said += _facts_and_limits(service, decision)
    if also:
        said += also_of(service, also)
    took = took_of(timings, monotonic() - request.began)
    _note(service, request, "decision", endpoint, said, outcome, took)


def leave_out(service: Service, request: Request, *, is_granted_check: bool) -> bool:
    """Whether there is no line for it; then it is counted. What an end user does is never left out."""
    leaves_out = is_granted_check and service.skips_grants and request.user is None
    if leaves_out:
        service.log.skip()
    return leaves_out


def _note(
    service: Service,
    request: Request,
    kind: Kind,
    endpoint: str,
    said: bytes,
    outcome: bytes,
    took: bytes,
) -> None:
    if request.user is not None:
        said = b',"end_user":%b%b' % (_text(service, "end_user", request.user.id), said)
    if service.masks is not None:
        outcome = service.masks.document(outcome)
    request.is_noted = True
    caller = request.caller
    head = _HEAD % (
        kind.encode(),
        encoded(datetime.now(UTC)),
        encoded(request.id),
        _text(service, "caller", caller.name) if caller else b"null",
        endpoint.encode(),
    )
    service.log.note(_LINE % (head, said, outcome[1:-1], service.catalog, took))


def _asked(service: Service, question: Question, amounts: Mapping[str, int] | None) -> bytes:
    """What was asked."""
    resource = question.resource
    return _ASKED % (
        _text(service, "user", question.user),
        _text(service, "workspace", question.workspace),
        encoded(question.action),
        question.mode.encode(),
        b"null" if amounts is None else encoded(amounts),
        b"null" if resource is None else _text(service, "resource", resource),
    )


class PlainLines(NamedTuple):
    """The lines of checks that take nothing, by one caller at one endpoint: what they share is put in."""

    form: bytes
    caller: str | None
    masks: Masks | None

    @classmethod
    def of(cls, service: Service, caller: Caller | None, endpoint: str, *, also: bytes = b"") -> Self:
        """*also* is what else each of them says, by `also_of`."""
        head = _HEAD % (b"decision", b"%b", b"%b", b"%b", endpoint.encode())
        form = _LINE % (head, _PLAINLY + also.replace(b"%", b"%%"), b"%b", service.catalog, b"%b")
        return cls(form, None if caller is None else caller.name, service.masks)

    def line(
        self,
        at: bytes,
        request_id: str,
        question: tuple[str, str, str],
        facts: bytes,
        outcome: bytes,
        took: bytes,
    ) -> bytes:
        """*at* and *outcome*, an object, are JSON; *facts* are by `facts_of`, *took* by `took_of`."""
        user, workspace, action = question
        form, caller, masks = self
        return form % (
            at,
            encoded(request_id),
            encoded(caller) if masks is None else masks.text("caller", caller),
            encoded(user) if masks is None else masks.text("user", user),
            encoded(workspace) if masks is None else masks.text("workspace", workspace),
            encoded(action),
            facts,
            outcome[1:-1],
            took,
        )


class LinesOfOne(NamedTuple):
    """As `PlainLines`, of one request, at one time."""

    form: bytes
    masks: Masks | None

    @classmethod
    def of(cls, service: Service, request: Request, endpoint: str, *, at: bytes) -> Self:
        """*at* is that time in JSON. What each of them took is what all have waited for."""
        caller = request.caller
        by = _text(service, "caller", caller.name) if caller else b"null"
        head = _HEAD % (b"decision", at, encoded(request.id), by, endpoint.encode())
        took = took_of(request.timings, monotonic() - request.began)
        form = _LINE % (head.replace(b"%", b"%%"), _PLAINLY, b"%b", service.catalog, took)
        return cls(form, service.masks)

    def line(self, question: tuple[str, str, str], facts: bytes, outcome: bytes) -> bytes:
        """As of `PlainLines`."""
        user, workspace, action = question
        form, masks = self
        return form % (
            encoded(user) if masks is None else masks.text("user", user),
            encoded(workspace) if masks is None else masks.text("workspace", workspace),
            encoded(action),
            facts,
            outcome[1:-1],
        )


def facts_of(facts: Facts | PlainFacts | None, limits: bytes = b"{}") -> bytes:
    """What was decided on: of a member, as it was before anything was taken. *limits* are JSON."""
    if facts is None:
        return _NO_FACTS
    version = b"null" if facts.version is None else b"%d" % facts.version
    return _FACTS % (encoded(facts.workspace_id), version, limits)


def _facts_and_limits(service: Service, decision: Decision) -> bytes:
    facts, amounts = decision.facts, decision.amounts
    if facts is None or not amounts:
        return facts_of(facts)
    return facts_of(facts, encoded(rendered.limits_of(facts, amounts, service.authorizer.catalog)))


def also_of(service: Service, also: Mapping[str, Any]) -> bytes:
    """What else a line says; *also* is not empty."""
    text = encoded(also)
    return b",%b" % (text if service.masks is None else service.masks.document(text))[1:-1]


def took_reading(total_s: float) -> bytes:
    """As `took_of`, where all of the time was spent on facts."""
    ms = b"%.3f" % (total_s * _MS)
    return _TOOK_FACTS % (ms, ms)


def took_of(timings: Timings, total_s: float) -> bytes:
    return _TOOK % (timings.facts_s * _MS, timings.policy_s * _MS, timings.ledger_s * _MS, total_s * _MS)


def written(service: Service, request: Request) -> Steps[None]:
    """Where answers wait for their lines: wait for those of *request*. LogUnavailable."""
    if service.log.waits and request.is_noted:
        yield Wait(service.log.await_written, request.began, deadline=monotonic() + _WRITTEN_WITHIN_S)


def _text(service: Service, field: str, value: str) -> bytes:
    return encoded(value) if service.masks is None else service.masks.text(field, value)


def _parts(timings: Timings) -> dict[str, float]:
    return {"facts": timings.facts_s, "policy": timings.policy_s, "ledger": timings.ledger_s}
