"""The end users' routes about workspaces and their members."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.api import wire
from sidecar.api.endpoint import OUTAGES
from sidecar.api.log_lines import note, note_listing
from sidecar.api.people.users import (
    CHANGES,
    NOTHING,
    PAGES,
    UsersEndpoint,
    for_user,
    named_workspace,
    page_of,
    page_reply,
    stated_role,
    summary_document,
)
from sidecar.api.reply import json_reply
from sidecar.api.request import part_of
from sidecar.errors import Problem, UseTransfer
from sidecar.text import shapes
from sidecar.text.shapes import Record, Text
from sidecar.workspaces.membership import OWNER, summary_of

if TYPE_CHECKING:
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.workspaces.actor import Actor
    from sidecar.workspaces.membership import Member

NAME = Record({"name": Text()}, required=("name",))
ROLE = Record({"role": Text()}, required=("role",))
USER = Record({"user": Text()}, required=("user",))


def list_workspaces(service: Service, request: Request, actor: Actor) -> Reply:
    after, limit = page_of(request, LIST_WORKSPACES)
    page = service.people.workspaces(actor, after=after, limit=limit)
    rows = [summary_document(summary_of(facts)) for facts in page.workspaces]
    return note_listing(
        service,
        request,
        "list_workspaces",
        page_reply("workspaces", rows, cursor=page.next),
        found=len(rows),
        user=actor.user,
    )


def create_workspace(service: Service, request: Request, actor: Actor) -> Reply:
    summary = service.people.create(actor, lambda: _name_in(request))
    note(
        service,
        request,
        "create_workspace",
        None,
        {
            "decision_id": actor.change_id,
            "who": actor.user,
            "user": actor.user,
            "workspace": summary.slug,
            "workspace_id": summary.id,
            "what": {"name": summary.name},
            "status": HTTPStatus.CREATED,
        },
        kind="change",
    )
    return json_reply(summary_document(summary), HTTPStatus.CREATED)


def show_workspace(service: Service, request: Request, actor: Actor) -> Reply:
    has = service.people.details(actor, named_workspace(request))
    return json_reply(
        {
            **summary_document(summary_of(has.facts)),
            "status": has.facts.status,
            "features": has.features,
            "quotas": wire.quotas_document(has.quotas),
        }
    )


def rename_workspace(service: Service, request: Request, actor: Actor) -> Reply:
    renamed = service.people.rename(actor, named_workspace(request), lambda: _name_in(request))
    return json_reply(summary_document(renamed))


def delete_workspace(service: Service, request: Request, actor: Actor) -> Reply:
    service.people.delete(actor, named_workspace(request))
    return NOTHING


def list_members(service: Service, request: Request, actor: Actor) -> Reply:
    workspace = named_workspace(request)
    after, limit = page_of(request, LIST_MEMBERS)
    found = service.people.members(actor, workspace, after=after, limit=limit + 1)
    more = found[limit - 1].user if len(found) > limit else None
    rows = [_member_document(member) for member in found[:limit]]
    reply = page_reply("members", rows, cursor=more)
    return note_listing(
        service, request, "list_members", reply, found=len(rows), user=actor.user, workspace=workspace
    )


def change_role(service: Service, request: Request, actor: Actor) -> Reply:
    def role() -> str:
        stated = stated_role(service, shapes.check(request.body(), ROLE)["role"])
        if stated == OWNER:
            raise UseTransfer
        return stated

    workspace, user = named_workspace(request), part_of(request, "user")
    return json_reply(_member_document(service.people.change_role(actor, workspace, user, role)))


def remove_member(service: Service, request: Request, actor: Actor) -> Reply:
    service.people.remove(actor, named_workspace(request), part_of(request, "user"))
    return NOTHING


def transfer(service: Service, request: Request, actor: Actor) -> Reply:
    owner, former = service.people.transfer(
        actor, named_workspace(request), lambda: shapes.check(request.body(), USER)["user"]
    )
    return json_reply({"owner": _member_document(owner), "former_owner": _member_document(former)})


def leave(service: Service, request: Request, actor: Actor) -> Reply:
    service.people.leave(actor, named_workspace(request))
    return NOTHING


def _name_in(request: Request) -> str:
    name: str = shapes.check(request.body(), NAME)["name"]
    if not name.strip():
        raise shapes.refusal((Problem(pointer="/name", detail="must not be blank"),))
    return name


def _member_document(member: Member) -> dict[str, object]:
    return {
        "user": member.user,
        "role": member.role,
        "email": member.email,
        "joined_at": member.joined_at,
    }


LIST_WORKSPACES = UsersEndpoint(
    name="list_workspaces",
    method="GET",
    path="/workspaces",
    reply=for_user(list_workspaces),
    says="The user's workspaces, by slug.",
    answers="OwnWorkspaces",
    codes=OUTAGES,
    query=PAGES,
)
LIST_MEMBERS = UsersEndpoint(
    name="list_members",
    method="GET",
    path="/workspaces/{workspace}/members",
    reply=for_user(list_members),
    says="Who is in the workspace, by user.",
    answers="Members",
    codes=OUTAGES,
    query=PAGES,
)
PEOPLE = (
    LIST_WORKSPACES,
    UsersEndpoint(
        name="create_workspace",
        method="POST",
        path="/workspaces",
        reply=for_user(create_workspace),
        says="A new workspace on the default plan, which the user owns.",
        answers="Place",
        status=HTTPStatus.CREATED,
        codes=CHANGES,
        body=NAME,
    ),
    UsersEndpoint(
        name="show_workspace",
        method="GET",
        path="/workspaces/{workspace}",
        reply=for_user(show_workspace),
        says="One workspace, with its features and quotas.",
        answers="Details",
        codes=OUTAGES,
    ),
    UsersEndpoint(
        name="rename_workspace",
        method="PATCH",
        path="/workspaces/{workspace}",
        reply=for_user(rename_workspace),
        says="Give the workspace another name; its slug stays.",
        answers="Place",
        codes=CHANGES,
        body=NAME,
    ),
    UsersEndpoint(
        name="delete_workspace",
        method="DELETE",
        path="/workspaces/{workspace}",
        reply=for_user(delete_workspace),
        says="Delete the workspace: from now on nobody is in it.",
        answers=None,
        status=HTTPStatus.NO_CONTENT,
        codes=CHANGES,
    ),
    LIST_MEMBERS,
    UsersEndpoint(
        name="change_role",
        method="PATCH",
        path="/workspaces/{workspace}/members/{user}",
        reply=for_user(change_role),
        says="Give a member another role, but not that of the owner.",
        answers="Member",
        codes=("unknown_member", "owner_must_transfer", "use_transfer", *CHANGES),
        body=ROLE,
    ),
    UsersEndpoint(
        name="remove_member",
        method="DELETE",
        path="/workspaces/{workspace}/members/{user}",
        reply=for_user(remove_member),
        says="Remove a member, but not the owner.",
        answers=None,
        status=HTTPStatus.NO_CONTENT,
        codes=("unknown_member", "owner_must_transfer", *CHANGES),
    ),
    UsersEndpoint(
        name="transfer",
        method="POST",
        path="/workspaces/{workspace}/transfer",
        reply=for_user(transfer),
        says="Make another member the owner; who was it becomes an admin.",
        answers="Transferred",
        codes=CHANGES,
        body=USER,
    ),
    UsersEndpoint(
        name="leave",
        method="POST",
        path="/workspaces/{workspace}/leave",
        reply=for_user(leave),
        says="Leave the workspace; the owner cannot.",
        answers=None,
        status=HTTPStatus.NO_CONTENT,
        codes=("owner_must_transfer", *CHANGES),
    ),
)
