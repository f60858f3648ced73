"""Every endpoint there is, in one table: routing, /openapi.json and the documents are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.api.audience import Audience
from sidecar.api.authzen.endpoints import AUTHZEN
from sidecar.api.billing.stripe import STRIPE_EVENTS
from sidecar.api.endpoint import Endpoint
from sidecar.api.gateways.by_header import BY_HEADER
from sidecar.api.gateways.opa import LIKE_OPA
from sidecar.api.ofrep.endpoints import OFREP
from sidecar.api.openapi import document
from sidecar.api.operation import OPERATION
from sidecar.api.people.entitlements import SHOW_ENTITLEMENTS
from sidecar.api.people.invitations import INVITATIONS
from sidecar.api.people.plans import PLANS
from sidecar.api.people.workspaces import PEOPLE
from sidecar.api.reply import json_reply
from sidecar.api.v1.administration import ADMINISTRATION
from sidecar.api.v1.questions import NATIVE
from sidecar.api.v1.usage import USAGE
from sidecar.api.v1.workspaces import WORKSPACES

if TYPE_CHECKING:
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service


def openapi(_: Service, __: Request) -> Reply:
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
    *WORKSPACES,
    STRIPE_EVENTS,
    *PEOPLE,
    *INVITATIONS,
    SHOW_ENTITLEMENTS,
    PLANS,
    *OFREP,
    *BY_HEADER,
    *LIKE_OPA,
    *OPERATION,
    OPENAPI,
)
