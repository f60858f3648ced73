"""What operators ask: does it live, is it ready, what has it counted, which policies does it serve."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.api.audience import Audience
from sidecar.api.endpoint import Endpoint, parameters_of
from sidecar.api.etag import revalidated
from sidecar.api.reply import json_reply
from sidecar.telemetry.metrics import CONTENT_TYPE as METRICS_TYPE
from sidecar.text.shapes import OneOf

if TYPE_CHECKING:
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service


def bundle(service: Service, request: Request) -> Reply:
    reply = HTTPStatus.OK, [("Content-Type", "application/gzip")], service.bundle()
    return revalidated(reply, request, cache="no-cache")


def metrics(service: Service, _: Request) -> Reply:
    return HTTPStatus.OK, [("Content-Type", METRICS_TYPE)], service.metrics.text()


def healthz(_: Service, __: Request) -> Reply:
    return json_reply({"alive": True})


def readyz(service: Service, request: Request) -> Reply:
    readiness = service.readiness()
    ready, parts = readiness.ready, dict(readiness.parts)
    if request.query:
        # Kubernetes ignores other names. Refused, a misspelt one is found before the first outage.
        excluded = parameters_of(request, READYZ).get("exclude")
        if excluded is not None:
            ready = readiness.without_database
            parts.pop(excluded, None)
    status, headers, body = json_reply({"ready": ready, **parts})
    return status if ready else HTTPStatus.SERVICE_UNAVAILABLE, headers, body


def statusz(service: Service, _: Request) -> Reply:
    return json_reply(service.status())


HEALTHZ = Endpoint(
    name="healthz",
    method="GET",
    path="/healthz",
    reply=healthz,
    says="The process is alive.",
    answers="Alive",
    audience=Audience.ANYBODY,
    while_starting=True,
    at_once=True,
)
READYZ = Endpoint(
    name="readyz",
    method="GET",
    path="/readyz",
    reply=readyz,
    says="It can answer: every verdict is known, and the database is there, unless that is excluded.",
    answers="Readiness",
    audience=Audience.ANYBODY,
    query={"exclude": OneOf(("database",))},
    codes=("invalid_request",),
    while_starting=True,
    at_once=True,
)
STATUSZ = Endpoint(
    name="statusz",
    method="GET",
    path="/statusz",
    reply=statusz,
    says="Whether all of this server is as its files say; each part with its revision and what to do.",
    answers="Status",
    audience=Audience.ANYBODY,
    while_starting=True,
    at_once=True,
)
OPERATION = (
    Endpoint(
        name="bundle",
        method="GET",
        path="/bundles/authz.tar.gz",
        reply=bundle,
        says="The policies and the compiled catalog, for OPA.",
        answers="application/gzip",
        audience=Audience.AUDIT,
        while_starting=True,  # OPA may be waiting for just this
        revalidates=True,
    ),
    Endpoint(
        name="metrics",
        method="GET",
        path="/metrics",
        reply=metrics,
        says="Counters for Prometheus.",
        answers="text/plain",
        audience=Audience.AUDIT,
        while_starting=True,
    ),
    HEALTHZ,
    READYZ,
    STATUSZ,
)
