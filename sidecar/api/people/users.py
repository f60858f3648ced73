"""What the end users' routes have in common: each is for one user, and each decision is logged."""

from __future__ import annotations

from functools import cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.api import problems
from sidecar.api.audience import Audience
from sidecar.api.endpoint import OUTAGES, Endpoint, parameters_of
from sidecar.api.log_lines import note, note_decision
from sidecar.api.reply import json_reply
from sidecar.api.request import part_of, workspace_in
from sidecar.api.service import deadline_of
from sidecar.api.v1.questions import MOST_ON_A_PAGE, USUAL_PAGE
from sidecar.errors import Problem
from sidecar.text import shapes
from sidecar.text.emails import LONGEST_EMAIL
from sidecar.text.ids import fresh_id
from sidecar.text.nearest import nearest
from sidecar.text.shapes import Shape, Text, Whole
from sidecar.workspaces.actor import Actor, Denied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.workspaces.membership import WorkspaceSummary

PAGES: dict[str, Shape] = {"after": Text(LONGEST_EMAIL), "limit": Whole(1, MOST_ON_A_PAGE)}
NOTHING: Reply = (HTTPStatus.NO_CONTENT, [], b"")
UsersEndpoint = partial(
    Endpoint, audience=Audience.END_USERS, for_browsers=True
)  # its name is that of its function
CHANGES = ("workspace_contended", "outcome_unknown", *OUTAGES)
# A person waits longer than a gateway: one route is several questions, and a commit that reaches the disk.
STEPS = 500


def for_user(reply: Callable[[Service, Request, Actor], Reply]) -> Callable[[Service, Request], Reply]:
    """*reply* on behalf of the end user; what the policy denies them is a problem."""

    def replying(service: Service, request: Request) -> Reply:
        user = request.user
        if user is None:
            raise TypeError("an end user's endpoint is asked by an end user")
        request.body = cache(request.body)  # what is decided twice reads it twice
        change_id = fresh_id()
        actor = Actor(
            user=user.id,
            email=user.email,
            email_verified=user.email_verified,
            deadline=deadline_of(service, request, questions=STEPS),
            record=partial(note_decision, service, request, reply.__name__),
            change_id=change_id,
            record_change=partial(_note_change, service, request, reply.__name__, change_id),
            via=None if request.caller is None else request.caller.name,
        )
        service.people.provision(actor)
        try:
            return reply(service, request, actor)
        except Denied as denied:
            return problems.reply_of(problems.denial(denied.decision))

    return replying


def _note_change(service: Service, request: Request, endpoint: str, change_id: str, what: str) -> None:
    user = request.user.id if request.user else None
    outcome = {"decision_id": change_id, "who": user, "user": user, "what": what, "status": HTTPStatus.OK}
    note(service, request, endpoint, None, outcome, kind="change")


def named_workspace(request: Request) -> str:
    """The path's. BadQuestion if the header names another one, before anybody looks which of them exists."""
    header, path = request.header("X-Workspace-Id"), part_of(request, "workspace")
    if header is not None and header != path:
        problem = Problem(pointer="/header/X-Workspace-Id", detail="is not the workspace of the path")
        raise shapes.refusal((problem,))
    return workspace_in(request)


def page_of(request: Request, endpoint: Endpoint) -> tuple[str | None, int]:
    """Behind what, and how many."""
    parameters = parameters_of(request, endpoint)
    return parameters.get("after"), parameters.get("limit", USUAL_PAGE)


def page_reply(name: str, rows: Sequence[Any], *, cursor: str | None) -> Reply:
    """*cursor* is where the next page begins; None on the last."""
    return json_reply({name: rows} | ({"next": cursor} if cursor is not None else {}))


def stated_role(service: Service, role: str) -> str:
    declared = tuple(service.authorizer.catalog.roles)
    if role not in declared:
        problem = Problem(
            pointer="/role",
            detail=f"{shapes.shown(role)} is not in the catalog",
            suggestion=nearest(role, declared),
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
