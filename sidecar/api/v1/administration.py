"""Administration over HTTP: a request becomes a change of a workspace, and its new state a reply."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sidecar.api import wire
from sidecar.api.audience import Audience
from sidecar.api.endpoint import CHANGE_OUTAGES, Endpoint
from sidecar.api.log_lines import note
from sidecar.api.problems import problems_in
from sidecar.api.reply import json_reply
from sidecar.api.request import workspace_in
from sidecar.api.service import deadline_of
from sidecar.api.v1.documents import document_of
from sidecar.errors import BadQuestion, Problem, UnknownPlan, UnknownWorkspace
from sidecar.text import shapes
from sidecar.text.ids import fresh_id
from sidecar.text.nearest import nearest
from sidecar.workspaces.administration import OverridesChange, PlanChange, StatusChange
from sidecar.workspaces.subscriptions import SubscriptionChange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.api.service import Service
    from sidecar.workspaces.administration import Change, Undeclared


def put_plan(service: Service, request: Request) -> Reply:
    body = shapes.check(request.body(), wire.PLAN)
    change = PlanChange(plan=body["plan"], as_of=_moment(body, "as_of"), overrule=body.get("overrule", False))
    return _apply(service, request, "put_plan", change)


def put_overrides(service: Service, request: Request) -> Reply:
    body = shapes.check(request.body(), wire.OVERRIDES)
    change = OverridesChange(
        features=body.get("features", {}),
        limits=body.get("limits", {}),
        expires_at=_moment(body, "expires_at"),
        reason=body.get("reason"),
        until_plan_change=body.get("until_plan_change", False),
    )
    return _apply(service, request, "put_overrides", change)


def put_status(service: Service, request: Request) -> Reply:
    body = shapes.check(request.body(), wire.STATUS)
    change = StatusChange(
        status=body["status"],
        reason=body.get("reason"),
        as_of=_moment(body, "as_of"),
        overrule=body.get("overrule", False),
    )
    return _apply(service, request, "put_status", change)


def put_subscription(service: Service, request: Request) -> Reply:
    body = shapes.check(request.body(), wire.SUBSCRIPTION)
    times = {name: _moment(body, name) for name in ("trial_ends_at", "billing_anchor", "as_of")}
    if body["status"] == "trialing" and times["trial_ends_at"] is None:
        problem = Problem(pointer="/trial_ends_at", detail="is required where the status is trialing")
        raise shapes.refusal((problem,))
    change = SubscriptionChange(**{**body, **times})
    return _apply(service, request, "put_subscription", change)


def _moment(body: Mapping[str, Any], name: str) -> datetime | None:
    text = body.get(name)
    return None if text is None else shapes.moment_from(text)


def _apply(service: Service, request: Request, endpoint: str, change: Change) -> Reply:
    undeclared = service.administration.undeclared(change)
    if not isinstance(change, SubscriptionChange):
        _refuse_undeclared(undeclared)  # before the path is read
    workspace = workspace_in(request)
    try:
        return apply_noted(service, request, endpoint, workspace, change, who=_name_of(request), within=1)
    except UnknownWorkspace as error:
        raise UnknownWorkspace(error.detail, problems=problems_in(error, at="/path")) from error
    except UnknownPlan:
        _refuse_undeclared(undeclared)  # here rather than by `apply`, which knows no pointers
        raise


def apply_noted(
    service: Service,
    request: Request,
    endpoint: str,
    workspace: str,
    change: Change,
    *,
    who: str,
    within: int,
) -> Reply:
    """Apply *change* and write its line. It may take as long as *within* questions."""
    decision = fresh_id()
    state = service.administration.apply(
        workspace,
        change,
        actor=who,
        decision=decision,
        deadline=deadline_of(service, request, questions=within),
    )
    what = asdict(change)
    what.pop("known_by", None)
    document = document_of(
        state, subscription=change.subscription if isinstance(change, SubscriptionChange) else None
    )
    note(
        service,
        request,
        endpoint,
        None,
        {
            "decision_id": decision,
            "who": who,
            "workspace": workspace,
            "workspace_id": state.workspace_id,
            "what": what,
            "status": HTTPStatus.OK,
            **document,
        },
        kind="change",
    )
    return json_reply(document)


def _refuse_undeclared(names: Sequence[Undeclared]) -> None:
    if names:
        problems = tuple(
            Problem(
                pointer="/plan" if each.field == "plan" else shapes.below(f"/{each.field}", each.name),
                detail=f"{shapes.shown(each.name)} is not in the catalog",
                suggestion=nearest(each.name, each.declared),
            )
            for each in names
        )
        code = "unknown_plan" if names[0].field == "plan" else "invalid_request"
        raise BadQuestion(shapes.refusal(problems).detail, code=code, problems=problems)


def _name_of(request: Request) -> str:
    if request.caller is None:
        raise TypeError("an endpoint with a scope is asked by a caller")
    return request.caller.name


ADMINISTRATION = (
    Endpoint(
        name="put_plan",
        method="PUT",
        path="/v1/workspaces/{workspace}/plan",
        reply=put_plan,
        says="Put a workspace on a plan.",
        answers="Changed",
        codes=("unknown_workspace", "unknown_plan", "as_of_in_the_future", *CHANGE_OUTAGES),
        audience=Audience.ADMIN,
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
        codes=("unknown_workspace", *CHANGE_OUTAGES),
        audience=Audience.ADMIN,
        body=wire.OVERRIDES,
        while_starting=True,
    ),
    Endpoint(
        name="put_status",
        method="PUT",
        path="/v1/workspaces/{workspace}/status",
        reply=put_status,
        says="Suspend a workspace, or take that back; its subscription may suspend it too.",
        answers="Changed",
        codes=("unknown_workspace", "as_of_in_the_future", *CHANGE_OUTAGES),
        audience=Audience.ADMIN,
        body=wire.STATUS,
        while_starting=True,
    ),
    Endpoint(
        name="put_subscription",
        method="PUT",
        path="/v1/workspaces/{workspace}/subscription",
        reply=put_subscription,
        says="Tell what a biller knows of a subscription; late, repeated and out of order is the same.",
        answers="Subscribed",
        codes=(
            "unknown_workspace",
            "unknown_plan",
            "as_of_in_the_future",
            "event_reused",
            *CHANGE_OUTAGES,
        ),
        audience=Audience.ADMIN,
        body=wire.SUBSCRIPTION,
        while_starting=True,
    ),
)
