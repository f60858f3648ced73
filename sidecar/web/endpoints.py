"""Every endpoint there is, in one table: routing, /openapi.json and the documents are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.web.administration import ADMINISTRATION
from sidecar.web.audience import Audience
from sidecar.web.authzen import AUTHZEN
from sidecar.web.endpoint import Endpoint, json_reply
from sidecar.web.gateways.by_header import BY_HEADER
from sidecar.web.gateways.opa import LIKE_OPA
from sidecar.web.invitations import INVITATIONS
from sidecar.web.native import NATIVE
from sidecar.web.openapi import document
from sidecar.web.operation import OPERATION
from sidecar.web.people import PEOPLE
from sidecar.web.usage import USAGE

if TYPE_CHECKING:
    from sidecar.web.endpoint import Exchange, Service
    from sidecar.web.problems import Reply


def openapi(_: Service, __: Exchange) -> Reply:
    return json_reply(document(ENDPOINTS))


OPENAPI = Endpoint(
    name="openapi",
    method="GET",
    path="/openapi.json",
    reply=openapi,
    says="This document.",
    answers="application/json",
    audience=Audience.ANYBODY,
    while_starting=True,
)
ENDPOINTS = (
    *NATIVE,
    *USAGE,
    *AUTHZEN,
    *ADMINISTRATION,
    *PEOPLE,
    *INVITATIONS,
    *BY_HEADER,
    *LIKE_OPA,
    *OPERATION,
    OPENAPI,
)
