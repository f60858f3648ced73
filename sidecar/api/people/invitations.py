"""The end users' routes about invitations."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.api.endpoint import OUTAGES
from sidecar.api.log_lines import note_listing
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
from sidecar.errors import Problem
from sidecar.text import shapes
from sidecar.text.emails import LONGEST_EMAIL, is_email
from sidecar.text.ids import is_uuid
from sidecar.text.shapes import Record, Text
from sidecar.workspaces.membership import OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.workspaces.actor import Actor
    from sidecar.workspaces.membership import Invitation


@dataclass(frozen=True, slots=True)
class Email:
    def problems(self, value: object, at: str) -> Iterator[Problem]:
        found = list(Text(LONGEST_EMAIL).problems(value, at))
        if not found and not is_email(str(value)):
            found.append(Problem(pointer=at, detail=f"must be an e-mail address, got {shapes.shown(value)}"))
        yield from found

    @property
    def schema(self) -> dict[str, Any]:
        return Text(LONGEST_EMAIL).schema | {"pattern": "^[^@\\s\\u0000]+@[^@\\s\\u0000]+$"}


INVITATION = Record({"email": Email(), "role": Text()}, required=("email", "role"))
TOKEN = Record({"token": Text()}, required=("token",))


def invite(service: Service, request: Request, actor: Actor) -> Reply:
    def stated() -> tuple[str, str]:
        body = shapes.check(request.body(), INVITATION)
        role = stated_role(service, body["role"])
        if role == OWNER:
            problem = Problem(pointer="/role", detail="nobody is invited as owner: ownership is transferred")
            raise shapes.refusal((problem,))
        return body["email"], role

    invitation, token = service.invitations.invite(actor, named_workspace(request), stated)
    return json_reply({**_document(invitation), "token": token}, HTTPStatus.CREATED)


def list_invitations(service: Service, request: Request, actor: Actor) -> Reply:
    workspace = named_workspace(request)
    after, limit = page_of(request, LIST_INVITATIONS)
    found = service.invitations.invitations(actor, workspace, after=after, limit=limit + 1)
    more = found[limit - 1].email if len(found) > limit else None
    rows = [_document(invitation) for invitation in found[:limit]]
    reply = page_reply("invitations", rows, cursor=more)
    return note_listing(
        service, request, "list_invitations", reply, found=len(rows), user=actor.user, workspace=workspace
    )


def revoke_invitation(service: Service, request: Request, actor: Actor) -> Reply:
    workspace, named = named_workspace(request), part_of(request, "invitation")
    service.invitations.revoke(actor, workspace, UUID(named) if is_uuid(named) else None)
    return NOTHING


def accept_invitation(service: Service, request: Request, actor: Actor) -> Reply:
    place = service.invitations.accept(actor, lambda: shapes.check(request.body(), TOKEN)["token"])
    return json_reply(summary_document(place))


def _document(invitation: Invitation) -> dict[str, object]:
    return {
        "id": invitation.id,
        "email": invitation.email,
        "role": invitation.role,
        "invited_by": invitation.invited_by,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
    }


LIST_INVITATIONS = UsersEndpoint(
    name="list_invitations",
    method="GET",
    path="/workspaces/{workspace}/invitations",
    reply=for_user(list_invitations),
    says="The open invitations, by e-mail; never their tokens.",
    answers="Invitations",
    codes=OUTAGES,
    query=PAGES,
)
INVITATIONS = (
    UsersEndpoint(
        name="invite",
        method="POST",
        path="/workspaces/{workspace}/invite",
        reply=for_user(invite),
        says="Invite an e-mail address. The token in the answer is shown this once.",
        answers="Invited",
        status=HTTPStatus.CREATED,
        codes=("already_a_member", *CHANGES),
        body=INVITATION,
    ),
    LIST_INVITATIONS,
    UsersEndpoint(
        name="revoke_invitation",
        method="DELETE",
        path="/workspaces/{workspace}/invitations/{invitation}",
        reply=for_user(revoke_invitation),
        says="Withdraw an open invitation.",
        answers=None,
        status=HTTPStatus.NO_CONTENT,
        codes=("unknown_invitation", *CHANGES),
    ),
    UsersEndpoint(
        name="accept_invitation",
        method="POST",
        path="/invitations/accept",
        reply=for_user(accept_invitation),
        says="Come in by the token of an invitation for the user's own, verified e-mail.",
        answers="Place",
        codes=("invitation_invalid", "already_a_member", *CHANGES),
        body=TOKEN,
    ),
)
