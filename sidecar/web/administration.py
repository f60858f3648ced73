"""What an administrator changes of a workspace: its plan, its overrides, its status."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.errors import BadQuestion, Problem
from sidecar.text import shapes
from sidecar.web import wire
from sidecar.web.endpoint import FACTS_OUTAGES, Endpoint, deadline_of, json_reply, note, workspace_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sidecar.store.workspaces import WorkspaceState
    from sidecar.web.endpoint import Exchange, Service
    from sidecar.web.problems import Reply


def put_plan(service: Service, exchange: Exchange) -> Reply:
    body = shapes.checked(exchange.body(), wire.PLAN)
    _refuse_undeclared({"plan": body["plan"]}, service.authorizer.catalog.plans, at="", code="unknown_plan")
    workspace = workspace_in(exchange)
    changed = service.workspaces.set_plan(
        workspace,
        body["plan"],
        as_of=_moment(body, "as_of"),
        actor=_name_of(exchange),
        deadline=deadline_of(service, exchange),
    )
    return _changed(service, exchange, "put_plan", workspace, changed)


def put_overrides(service: Service, exchange: Exchange) -> Reply:
    body = shapes.checked(exchange.body(), wire.OVERRIDES)
    catalog = service.authorizer.catalog
    features, limits = body.get("features", {}), body.get("limits", {})
    _refuse_undeclared({name: name for name in features}, catalog.features, at="/features")
    _refuse_undeclared({name: name for name in limits}, catalog.meters, at="/limits")
    workspace = workspace_in(exchange)
    changed = service.workspaces.set_overrides(
        workspace,
        features=features,
        limits=limits,
        expires_at=_moment(body, "expires_at"),
        reason=body.get("reason"),
        actor=_name_of(exchange),
        deadline=deadline_of(service, exchange),
    )
    return _changed(service, exchange, "put_overrides", workspace, changed)


def put_status(service: Service, exchange: Exchange) -> Reply:
    body = shapes.checked(exchange.body(), wire.STATUS)
    workspace = workspace_in(exchange)
    changed = service.workspaces.set_status(
        workspace,
        body["status"],
        reason=body.get("reason"),
        actor=_name_of(exchange),
        deadline=deadline_of(service, exchange),
    )
    return _changed(service, exchange, "put_status", workspace, changed)


def _name_of(exchange: Exchange) -> str:
    if exchange.caller is None:
        raise TypeError("an endpoint with a scope is asked by a caller")
    return exchange.caller.name


def _moment(body: Mapping[str, Any], name: str) -> datetime | None:
    text = body.get(name)
    return None if text is None else shapes.moment_from(text)


def _refuse_undeclared(
    named: Mapping[str, str], declared: Mapping[str, object], *, at: str, code: str = "invalid_request"
) -> None:
    found = tuple(
        Problem(
            pointer=shapes.below(at, place),
            detail=f"{shapes.shown(name)} is not in the catalog",
            suggestion=shapes.nearest(name, tuple(declared)),
        )
        for place, name in named.items()
        if name not in declared
    )
    if found:
        raise BadQuestion(shapes.refusal(found).detail, code=code, problems=found)


def _changed(
    service: Service, exchange: Exchange, endpoint: str, workspace: str, changed: WorkspaceState
) -> Reply:
    document = wire.document_of(changed)
    note(service, exchange, endpoint, None, {"workspace": workspace, "status": HTTPStatus.OK, **document})
    return json_reply(document)


ADMINISTRATION = (
    Endpoint(
        name="put_plan",
        method="PUT",
        path="/v1/workspaces/{workspace}/plan",
        reply=put_plan,
        says="Put a workspace on a plan.",
        answers="Changed",
        codes=("unknown_workspace", "unknown_plan", *FACTS_OUTAGES),
        scope="admin",
        body=wire.PLAN,
        while_starting=True,
    ),
    Endpoint(
        name="put_overrides",
        method="PUT",
        path="/v1/workspaces/{workspace}/overrides",
        reply=put_overrides,
        says="Change what a workspace has beyond its plan; absent names stay, null removes.",
        answers="Changed",
        codes=("unknown_workspace", *FACTS_OUTAGES),
        scope="admin",
        body=wire.OVERRIDES,
        while_starting=True,
    ),
    Endpoint(
        name="put_status",
        method="PUT",
        path="/v1/workspaces/{workspace}/status",
        reply=put_status,
        says="Suspend a workspace, or make it active.",
        answers="Changed",
        codes=("unknown_workspace", *FACTS_OUTAGES),
        scope="admin",
        body=wire.STATUS,
        while_starting=True,
    ),
)
