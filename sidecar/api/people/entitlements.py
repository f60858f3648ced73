"""What a member may and has in one workspace, for a page to draw itself; of a suspended workspace too."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sidecar.api.endpoint import OUTAGES
from sidecar.api.etag import revalidated
from sidecar.api.log_lines import note_listing
from sidecar.api.people.users import UsersEndpoint, for_user, named_workspace
from sidecar.api.reply import json_reply
from sidecar.api.v1.questions import entitlements_document

if TYPE_CHECKING:
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.workspaces.actor import Actor


def show_entitlements(service: Service, request: Request, actor: Actor) -> Reply:
    workspace = named_workspace(request)
    # Membership alone is asked for: who must pay first has to see what they have.
    has = service.authorizer.entitlements(actor.user, workspace, deadline=actor.deadline)
    features = {
        name: {"enabled": has.features[name], "title": feature.title, "unlocked_by": has.unlocked_by[name]}
        for name, feature in service.authorizer.catalog.features.items()
    }
    reply = json_reply(entitlements_document(service, has, features=features))
    _, _, body = reply
    return note_listing(
        service,
        request,
        "show_entitlements",
        revalidated(reply, request, cache="private, no-cache"),
        sha256=sha256(body).hexdigest(),
        found=sum(has.actions.values()),
        user=actor.user,
        workspace=workspace,
        workspace_id=has.facts.workspace_id,
        facts_version=has.facts.version,
    )


SHOW_ENTITLEMENTS = UsersEndpoint(
    name="show_entitlements",
    method="GET",
    path="/workspaces/{workspace}/entitlements",
    reply=for_user(show_entitlements),
    says="All that a page needs to draw itself for the user in one workspace, suspended or not.",
    answers="OwnEntitlements",
    codes=OUTAGES,
    revalidates=True,
)
