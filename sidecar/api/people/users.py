"""What the end users' routes have in common: whoever asks has shown his token, and each question is told."""

from __future__ import annotations

from functools import cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.api import problems
from sidecar.api.audience import Audience
from sidecar.api.endpoint import (
    JSON,
    OUTAGES,
    Endpoint,
    deadline_of,
    note_decision,
    parameters_of,
    part_of,
    workspace_in,
)
from sidecar.api.v1.questions import MOST_ON_A_PAGE, USUAL_PAGE
from sidecar.errors import Problem
from sidecar.text import shapes
from sidecar.text.emails import LONGEST_EMAIL
from sidecar.text.encoding import encoded
from sidecar.text.shapes import Shape, Text, Whole
from sidecar.workspaces.actor import Actor, Denied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.api.endpoint import Exchange, Service
    from sidecar.api.problems import Reply
    from sidecar.workspaces.membership import WorkspaceSummary

PAGES: dict[str, Shape] = {"after": Text(LONGEST_EMAIL), "limit": Whole(1, MOST_ON_A_PAGE)}
NOTHING: Reply = (HTTPStatus.NO_CONTENT, [], b"")
UsersEndpoint = partial(Endpoint, audience=Audience.END_USERS)  # its name is that of its function
CHANGES = ("workspace_contended", *OUTAGES)
# A person waits longer than a gateway: one route is several questions, and a commit that reaches the disk.
STEPS = 500


def for_user(reply: Callable[[Service, Exchange, Actor], Reply]) -> Callable[[Service, Exchange], Reply]:
    """*reply* on behalf of the end user; what the policy denies him is a problem."""

    def replying(service: Service, exchange: Exchange) -> Reply:
        user = exchange.user
        if user is None:
            raise TypeError("an end user's endpoint is asked by an end user")
        exchange.body = cache(exchange.body)  # what is decided twice reads it twice
        actor = Actor(
            user=user.id,
            email=user.email,
            email_verified=user.email_verified,
            deadline=deadline_of(service, exchange, questions=STEPS),
            record=partial(note_decision, service, exchange, reply.__name__),
        )
        service.people.provision(actor)
        try:
            return reply(service, exchange, actor)
        except Denied as denied:
            return problems.reply_of(problems.denial(denied.decision))

    return replying


def answered(document: object, status: HTTPStatus = HTTPStatus.OK) -> Reply:
    return status, [JSON], encoded(document)


def named_workspace(exchange: Exchange) -> str:
    """The path's. BadQuestion if the header names another one, before anybody looks which of them exists."""
    header, path = exchange.header("X-Workspace-Id"), part_of(exchange, "workspace")
    if header is not None and header != path:
        problem = Problem(pointer="/header/X-Workspace-Id", detail="is not the workspace of the path")
        raise shapes.refusal((problem,))
    return workspace_in(exchange)


def page_of(exchange: Exchange, endpoint: Endpoint) -> tuple[str | None, int]:
    """Behind what, and how many."""
    parameters = parameters_of(exchange, endpoint)
    return parameters.get("after"), parameters.get("limit", USUAL_PAGE)


def paged(name: str, rows: Sequence[Any], *, cursor: str | None) -> Reply:
    """*cursor* is where the next page begins; None on the last."""
    return answered({name: rows} | ({"next": cursor} if cursor is not None else {}))


def stated_role(service: Service, role: str) -> str:
    declared = tuple(service.authorizer.catalog.roles)
    if role not in declared:
        problem = Problem(
            pointer="/role",
            detail=f"{shapes.shown(role)} is not in the catalog",
            suggestion=shapes.nearest(role, declared),
        )
        raise shapes.refusal((problem,))
    return role


def summary_document(summary: WorkspaceSummary) -> dict[str, object]:
    return {
        "id": summary.id,
        "name": summary.name,
        "slug": summary.slug,
        "plan_tier": summary.plan,
        "role": summary.role,
    }
