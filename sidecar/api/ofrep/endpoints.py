"""OFREP's two endpoints: one flag, and all flags of a user in a workspace."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.api.audience import Audience
from sidecar.api.endpoint import OUTAGES, Endpoint, Refusals, parameters_of
from sidecar.api.etag import revalidated
from sidecar.api.log_lines import note_listing
from sidecar.api.ofrep import wire
from sidecar.api.ofrep.flags import LIMIT, flag, keys_of
from sidecar.api.reply import json_reply
from sidecar.api.request import part_of
from sidecar.api.service import deadline_of
from sidecar.errors import AnotherUser, NotAMember
from sidecar.text.nearest import did_you_mean
from sidecar.text.shapes import Text, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.api.ofrep.wire import Context
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.decisions.model import Facts


def evaluate_flag(service: Service, request: Request) -> Reply:
    key = part_of(request, "key")
    context = _context(request)
    keys = keys_of(service.authorizer.catalog)
    if key not in keys:
        hint = did_you_mean(key, keys) or "."
        details = f"There is no flag {shown(key)}{hint}"
        return json_reply(wire.failure("FLAG_NOT_FOUND", details, key=key), HTTPStatus.NOT_FOUND)
    facts, [found] = _flags(service, request, context, [key])
    return _noted(
        service, request, EVALUATE_FLAG.name, json_reply(found), context, facts, flags=[found], flag=key
    )


def evaluate_flags(service: Service, request: Request) -> Reply:
    parameters_of(request, EVALUATE_FLAGS)  # known, and of no use: what is answered is as of now
    context = _context(request)
    facts, flags = _flags(service, request, context, keys_of(service.authorizer.catalog))
    revision = service.authorizer.policy.revision
    reply = json_reply({"flags": flags, "metadata": {"policy_revision": revision}})
    _, _, body = reply
    return _noted(
        service,
        request,
        EVALUATE_FLAGS.name,
        revalidated(reply, request, cache="private, no-cache"),
        context,
        facts,
        flags=flags,
        sha256=sha256(body).hexdigest(),
    )


def _context(request: Request) -> Context:
    """AnotherUser where a user's own token asks about somebody else."""
    context = wire.context_from(request.body())
    if request.user is not None and request.user.id != context.user:
        raise AnotherUser
    return context


def _flags(
    service: Service, request: Request, context: Context, keys: Sequence[str]
) -> tuple[Facts | None, list[dict[str, Any]]]:
    """In the order of *keys*, from one read of the facts; a stranger has none."""
    catalog = service.authorizer.catalog
    told = partial(flag, catalog=catalog, revision=service.authorizer.policy.revision)
    try:
        facts, features = service.authorizer.features_of(
            context.user,
            context.workspace,
            [key for key in keys if key in catalog.features],
            meters=tuple(key.removeprefix(LIMIT) for key in keys if key.startswith(LIMIT)),
            deadline=deadline_of(service, request),
        )
    except NotAMember:
        return None, [told(key, None, {}) for key in keys]
    return facts, [told(key, facts, features) for key in keys]


def _noted(
    service: Service,
    request: Request,
    name: str,
    reply: Reply,
    context: Context,
    facts: Facts | None,
    *,
    flags: list[dict[str, Any]],
    **about: str,
) -> Reply:
    return note_listing(
        service,
        request,
        name,
        reply,
        found=sum(each["reason"] == "TARGETING_MATCH" for each in flags),
        user=context.user,
        workspace=context.workspace,
        workspace_id=facts.workspace_id if facts else None,
        facts_version=facts.version if facts else None,
        **about,
    )


_FlagsEndpoint = partial(
    Endpoint,
    method="POST",
    codes=OUTAGES,
    audience=Audience.EITHER,
    body=wire.BODY,
    for_browsers=True,
    refusals=Refusals(reply=wire.refused, schema="FlagFailure"),
)
EVALUATE_FLAG = _FlagsEndpoint(
    name="evaluate_flag",
    path="/ofrep/v1/evaluate/flags/{key}",
    reply=evaluate_flag,
    says="One flag of a user in a workspace: a feature, plan, role, or a limit.",
    answers="Flag",
    codes=("not_found", *OUTAGES),
)
EVALUATE_FLAGS = _FlagsEndpoint(
    name="evaluate_flags",
    path="/ofrep/v1/evaluate/flags",
    reply=evaluate_flags,
    says="All flags of a user in a workspace.",
    answers="Flags",
    query={"flagConfigEtag": Text(), "flagConfigLastModified": Text()},
    revalidates=True,
)
OFREP = (EVALUATE_FLAG, EVALUATE_FLAGS)
