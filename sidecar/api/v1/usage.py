"""What becomes of quota afterwards: reservations are committed or released, what was taken is given back."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.api import wire
from sidecar.api.audience import Audience
from sidecar.api.endpoint import FACTS_OUTAGES, OUTAGES, Endpoint
from sidecar.api.log_lines import note, note_decision
from sidecar.api.reply import json_reply
from sidecar.api.request import part_of
from sidecar.api.service import deadline_of
from sidecar.text import shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.quota.model import GivenBack, Settlement


def commit(service: Service, request: Request) -> Reply:
    body = shapes.check(request.body(), wire.COMMIT) if request.has_body() else {}
    settled = service.spending.commit(
        part_of(request, "reservation"),
        body.get("amounts"),
        deadline=deadline_of(service, request),
        timings=request.timings,
    )
    if settled.late is not None:
        note_decision(service, request, "commit", *settled.late)
    return _reply_with_settlement(service, request, "commit", settled)


def release(service: Service, request: Request) -> Reply:
    settled = service.spending.release(
        part_of(request, "reservation"), deadline=deadline_of(service, request), timings=request.timings
    )
    return _reply_with_settlement(service, request, "release", settled)


def release_usage(service: Service, request: Request) -> Reply:
    body = shapes.check(request.body(), wire.RELEASE)
    workspace = wire.workspace_from(body["workspace"])
    deadline = deadline_of(service, request)
    if "meter" in body:
        back = service.spending.release_resource(
            workspace, body["meter"], body["resource"], deadline=deadline, timings=request.timings
        )
    else:
        back = service.spending.refund(
            workspace,
            body["idempotency_key"],
            body.get("amounts"),
            deadline=deadline,
            timings=request.timings,
        )
    document = {"released": back.released, **_state_after(service, back)}
    _note(service, request, "release_usage", {"workspace": workspace, **document})
    return json_reply(document)


def _reply_with_settlement(service: Service, request: Request, endpoint: str, settled: Settlement) -> Reply:
    reservation = {**wire.reservation_document(settled.reservation), "committed": settled.committed}
    document = {"reservation": reservation, **_state_after(service, settled)}
    _note(service, request, endpoint, document)
    return json_reply(document)


def _state_after(service: Service, effect: Settlement | GivenBack) -> dict[str, Any]:
    state: dict[str, Any] = {"quota": wire.quotas_document(service.spending.quotas(effect.now))}
    if effect.replayed:
        state["replayed"] = True
    return state


def _note(service: Service, request: Request, endpoint: str, document: Mapping[str, Any]) -> None:
    note(service, request, endpoint, None, {"status": HTTPStatus.OK, **document}, kind="settle")


USAGE = (
    Endpoint(
        name="commit",
        method="POST",
        path="/v1/reservations/{reservation}/commit",
        reply=commit,
        says="Take what was reserved, or less of it; the rest is given back.",
        answers="Settled",
        codes=(
            "meter_not_taken",
            "unknown_reservation",
            "reservation_settled",
            "reservation_expired",
            "commit_exceeds_reservation",
            *OUTAGES,
        ),
        audience=Audience.AUTHORIZE,
        body=wire.COMMIT,
        body_required=False,
    ),
    Endpoint(
        name="release",
        method="POST",
        path="/v1/reservations/{reservation}/release",
        reply=release,
        says="Give back what was reserved.",
        answers="Settled",
        codes=("unknown_reservation", "reservation_settled", "usage_contended", *FACTS_OUTAGES),
        audience=Audience.AUTHORIZE,
    ),
    Endpoint(
        name="release_usage",
        method="POST",
        path="/v1/usage/release",
        reply=release_usage,
        says="Refund what was taken under an idempotency key, or give back a level by its resource.",
        answers="GivenBack",
        codes=(
            "meter_not_consumable",
            "unknown_workspace",
            "unknown_idempotency_key",
            "refund_exceeds_use",
            "usage_contended",
            *FACTS_OUTAGES,
        ),
        audience=Audience.AUTHORIZE,
        body=wire.RELEASE,
    ),
)
