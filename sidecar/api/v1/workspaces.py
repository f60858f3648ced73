"""Workspaces as administrators and auditors read them, and the id that the application has for one."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.api import wire
from sidecar.api.audience import Audience
from sidecar.api.endpoint import CHANGE_OUTAGES, FACTS_OUTAGES, Endpoint, parameters_of
from sidecar.api.log_lines import note, note_listing
from sidecar.api.problems import problems_in
from sidecar.api.reply import json_reply
from sidecar.api.request import workspace_in
from sidecar.api.service import deadline_of
from sidecar.api.v1.documents import found_document, known_document
from sidecar.errors import UnknownWorkspace
from sidecar.text import shapes
from sidecar.text.ids import fresh_id
from sidecar.text.shapes import OneOf, Text, Whole
from sidecar.workspaces.administration import Search

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.workspaces.administration import KnownWorkspace

MOST_ON_A_PAGE = 1_000
USUAL_PAGE = 100


def get_workspace(service: Service, request: Request) -> Reply:
    workspace, asked = workspace_in(request), parameters_of(request, GET_WORKSPACE)
    limit = asked.get("limit", MOST_ON_A_PAGE)
    known = _named(
        lambda: service.administration.known(
            workspace, after=asked.get("after"), limit=limit + 1, deadline=deadline_of(service, request)
        )
    )
    reply = json_reply(known_document(known, limit=limit))
    return note_listing(service, request, "get_workspace", reply, found=1, workspace=workspace)


def patch_workspace(service: Service, request: Request) -> Reply:
    body = shapes.check(request.body(), wire.PATCH)
    workspace, decision = workspace_in(request), fresh_id()
    who = request.caller.name if request.caller else ""
    known = _named(
        lambda: service.administration.name_externally(
            workspace,
            body["external_id"],
            actor=who,
            decision=decision,
            deadline=deadline_of(service, request),
        )
    )
    note(
        service,
        request,
        "patch_workspace",
        None,
        {
            "decision_id": decision,
            "who": who,
            "workspace": workspace,
            "workspace_id": known.state.workspace_id,
            "what": body,
            "status": HTTPStatus.OK,
        },
        kind="change",
    )
    return json_reply(known_document(known, limit=MOST_ON_A_PAGE))


def find_workspaces(service: Service, request: Request) -> Reply:
    asked = parameters_of(request, FIND_WORKSPACES)
    limit = asked.pop("limit", USUAL_PAGE)
    if "q" in asked:
        asked["q"] = wire.workspace_from(asked["q"])
    found = service.administration.find(
        Search(**asked), limit=limit + 1, deadline=deadline_of(service, request)
    )
    rows = [found_document(each) for each in found[:limit]]
    document = {"workspaces": rows, "next": rows[-1]["slug"] if len(found) > limit else None}
    return note_listing(service, request, "find_workspaces", json_reply(document), found=len(rows))


def _named(ask: Callable[[], KnownWorkspace]) -> KnownWorkspace:
    try:
        return ask()
    except UnknownWorkspace as error:
        raise UnknownWorkspace(error.detail, problems=problems_in(error, at="/path")) from error


FIND_WORKSPACES = Endpoint(
    name="find_workspaces",
    method="GET",
    path="/v1/workspaces",
    reply=find_workspaces,
    says="Find workspaces, by plan, status, id, member or the beginning of slug or name.",
    answers="FoundWorkspaces",
    codes=FACTS_OUTAGES,
    audience=Audience.READERS,
    query={
        "plan": Text(),
        "status": OneOf(("active", "suspended")),
        "q": Text(),
        "after": Text(),
        "limit": Whole(1, MOST_ON_A_PAGE),
    },
    while_starting=True,
)
GET_WORKSPACE = Endpoint(
    name="get_workspace",
    method="GET",
    path="/v1/workspaces/{workspace}",
    reply=get_workspace,
    says="Show a workspace as administrators know it, with its members in pages.",
    answers="KnownWorkspace",
    codes=("unknown_workspace", *FACTS_OUTAGES),
    audience=Audience.READERS,
    query={"after": Text(), "limit": Whole(1, MOST_ON_A_PAGE)},
    while_starting=True,
)
WORKSPACES = (
    FIND_WORKSPACES,
    GET_WORKSPACE,
    Endpoint(
        name="patch_workspace",
        method="PATCH",
        path="/v1/workspaces/{workspace}",
        reply=patch_workspace,
        says="Set the id that the application has for a workspace; null removes it.",
        answers="KnownWorkspace",
        codes=("unknown_workspace", "external_id_taken", *CHANGE_OUTAGES),
        audience=Audience.ADMIN,
        body=wire.PATCH,
        while_starting=True,
    ),
)
