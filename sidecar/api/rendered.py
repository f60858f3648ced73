"""Decisions as text: what all decisions of one cell have in common is rendered once, and then filled in.

The template of a text is made by the same code that renders any decision: it renders one whose ids, times
and figures are marks, which are then replaced by places to fill. So there is one definition of each format.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003 - msgspec reads the annotation

from sidecar.api import problems, wire
from sidecar.api.wire import lag_of
from sidecar.decisions.model import Quota
from sidecar.decisions.room import quotas_of
from sidecar.engines.verdict import document_of
from sidecar.text.encoding import Record, embedded, encoded
from sidecar.text.ids import fresh_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Decision, Facts
    from sidecar.decisions.ports import PlainFacts

Fills = dict[bytes, bytes]
# None of these can be in a real decision: no text has a NUL, and no clock says so.
_MARK_OF_ID, _MARK_OF_MESSAGE, _MARK_OF_SLUG = "\0id\0", "\0message\0", "\0slug\0"
_MARK_OF_TIME = datetime.fromisoformat("0001-02-03T04:05:06.700001+00:00")
_MARK_OF_QUOTA = {"\0": Quota(limit=1, used=2, reserved=3, resets_at=_MARK_OF_TIME)}
_MARK_OF_WAIT = 7 * 10**14 + 1
_MARK_OF_LAG = 3 * 10**14 + 7
_WITH_FIGURES = "quota_exceeded"  # the reason whose message and whose wait are another each time


def native(decision: Decision) -> bytes:
    """`wire.document_about` in JSON."""
    return _rendered(decision, "native", wire.document_about)


def authzen(decision: Decision) -> bytes:
    """As AuthZEN answers an evaluation."""
    return _rendered(decision, "authzen", authzen_document)


def denial(decision: Decision) -> bytes:
    """`problems.denial` in JSON."""
    return _rendered(decision, "denial", problems.denial)


def outcome(decision: Decision) -> bytes:
    """`outcome_of` in JSON, for the decision log."""
    return _rendered(decision, "outcome", outcome_of)


def authzen_document(decision: Decision) -> dict[str, Any]:
    context = wire.document_about(decision)
    del context["allow"], context["reservation"]  # the one is the decision, the other is never made
    return {"decision": decision.allowed, "context": context}


def outcome_of(decision: Decision) -> dict[str, Any]:
    """What the log says of a decision: enough to put the same situation to the same revision again."""
    verdict = decision.verdict
    document: dict[str, Any] = {
        "decision_id": decision.decision_id,
        "allow": verdict.allow,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "status": verdict.status,
        "charges": dict(verdict.charges),
        "upgrade": verdict.upgrade,
        "needs": document_of(verdict)["needs"],
        "waiting_helps": verdict.waiting_helps,
        "policy_revision": verdict.revision,
        "situation": embedded(decision.situation),
        "facts_at": decision.at.astimezone(UTC),
        "facts_cached": decision.cached,
    }
    if (lag_ms := lag_of(decision.facts)) is not None:
        document["facts_lag_ms"] = lag_ms
    if decision.reservation:
        document["reservation"] = decision.reservation.id
    if decision.replayed:
        document["replayed"] = True
    return document


def name_of(form: str, facts: Facts | PlainFacts | None) -> str:
    """Under which name a text of this *form* is kept: one that says how old *facts* are has a place more."""
    return form if facts is None or facts.lag_ms is None else f"{form} of a replica"


def fills_in(at: bytes, member: Facts | PlainFacts | None = None) -> Fills:
    """What varies of a decision without figures: a new id, the time *at* in JSON, and a *member*'s names."""
    return {b"id": fresh_id().encode(), **fills_of(at, member)}


def fills_of(at: bytes, member: Facts | PlainFacts | None) -> Fills:
    """As `fills_in`, without an id."""
    fills = {b"at": at}
    if member is not None:
        fills[b"workspace"] = encoded(_Workspace(member.workspace_id, member.slug))
        if member.lag_ms is not None:
            fills[b"lag"] = b"%d" % member.lag_ms
    return fills


class _Workspace(Record):
    """As `wire.workspace_document`."""

    id: UUID | str
    slug: str


def limits_of(facts: Facts, amounts: Mapping[str, int], catalog: Catalog) -> dict[str, Any]:
    """The figures of the meters of *amounts*, and where each limit is from: plan, seats or override."""
    return {
        meter: {
            "limit": quota.limit,
            "of": "override"
            if meter in facts.limit_overrides
            else "seats"
            if meter in facts.seats
            else "plan",
            "used": quota.used,
            "reserved": quota.reserved,
        }
        for meter, quota in quotas_of(amounts, facts, catalog=catalog).items()
    }


def _rendered(decision: Decision, form: str, document_of: Callable[[Decision], Mapping[str, Any]]) -> bytes:
    texts = decision.texts
    if texts is None or decision.replayed or decision.reservation is not None:
        return encoded(document_of(decision))
    name = name_of(form, decision.facts)
    template = texts.get(name)
    if template is None:
        template = texts[name] = _template(decision, document_of)
    at = decision.at if decision.at.tzinfo is UTC else decision.at.astimezone(UTC)
    fills = {b"id": decision.decision_id.encode(), b"at": encoded(at)}
    if decision.slug is not None:
        fills[b"workspace"] = encoded(wire.workspace_document(decision.workspace_id, decision.slug))
    if decision.quota is not None:
        fills[b"quota"] = encoded(wire.quotas_document(decision.quota))
    if decision.verdict.reason == _WITH_FIGURES:
        fills[b"message"] = encoded(decision.message)
        fills[b"wait"] = b"%d" % (decision.retry_after_s or 0)
    if (lag_ms := lag_of(decision.facts)) is not None:
        fills[b"lag"] = b"%d" % lag_ms
    return template % fills


def _template(decision: Decision, document_of: Callable[[Decision], Mapping[str, Any]]) -> bytes:
    marked = replace(
        decision,
        decision_id=_MARK_OF_ID,
        message=_MARK_OF_MESSAGE if decision.verdict.reason == _WITH_FIGURES else decision.message,
        at=_MARK_OF_TIME,
        slug=None if decision.slug is None else _MARK_OF_SLUG,
        quota=None if decision.quota is None else _MARK_OF_QUOTA,
        retry_after_s=None if decision.retry_after_s is None else _MARK_OF_WAIT,
        facts=decision.facts
        if decision.facts is None or decision.facts.lag_ms is None
        else replace(decision.facts, lag_ms=_MARK_OF_LAG),
    )
    workspace = wire.workspace_document(marked.workspace_id, _MARK_OF_SLUG)
    text = encoded(document_of(marked)).replace(b"%", b"%%")
    for mark, place in (
        (encoded(_MARK_OF_ID), b'"%(id)b"'),
        (encoded(workspace), b"%(workspace)b"),
        (encoded(wire.quotas_document(_MARK_OF_QUOTA)), b"%(quota)b"),
        (encoded(_MARK_OF_TIME), b"%(at)b"),
        (encoded(_MARK_OF_MESSAGE), b"%(message)b"),
        (b"%d" % _MARK_OF_WAIT, b"%(wait)b"),
        (b"%d" % _MARK_OF_LAG, b"%(lag)b"),
    ):
        text = text.replace(mark, place)
    return text
