"""What the history says of the facts that a question was decided by: since when, by whom, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.audit.explain import FactTold
from sidecar.audit.moments import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.audit.events import Event
    from sidecar.audit.helping import Asked
    from sidecar.workspaces.holders import Grant, Member, Workspace

KINDS = (
    "workspace.created",
    "workspace.found",
    "workspace.plan_changed",
    "workspace.status_changed",
    "override.set",
    "override.removed",
)


def facts_told(
    asked: Asked,
    *,
    user: str,
    called: str,
    workspace: Workspace | None,
    member: Member | None,
    events: Iterable[Event] | None,
    figures: Mapping[str, Mapping[str, Any]],
) -> list[FactTold]:
    """Role, plan, status, the override of the feature, and the figures of what is taken.

    *workspace* and *member* are as the history tells of them, None if it does not; *events* are None if no
    history was asked.
    """
    found = [_role(asked, user, called, member, is_asked=events is not None)]
    if asked.status is None:
        return [*found, FactTold(what="workspace", value=None, words=f"there is no workspace {called}")]
    last = _last(events) if events is not None else None
    plan, status, features = (
        (workspace.plan, workspace.status, workspace.features) if workspace else (None, None, {})
    )
    words = f"{called} is on {asked.plan or 'a plan that is not declared'}"
    found.append(_fact("plan", asked.plan, words, last=last, told=plan))
    found.append(_fact("status", asked.status, f"{called} is {asked.status}", last=last, told=status))
    feature = asked.action.feature if asked.action else None
    if feature is not None:
        value = asked.features.get(feature)
        words = (
            f"no override of {feature}"
            if value is None
            else f"an override: {feature} {'on' if value else 'off'}"
        )
        fact = _fact(f"override {feature}", value, words, last=last, told=features.get(feature))
        if value is not None or fact.in_history is False or fact.event is not None:
            found.append(fact)
    found += [
        FactTold(what=meter, value=dict(of), words=figure_text(meter, of)) for meter, of in figures.items()
    ]
    return found


def figure_text(meter: str, figure: Mapping[str, Any]) -> str:
    limit = "unlimited" if figure["limit"] is None else f"{figure['limit']:,}"
    reserved = f", {figure['reserved']:,} reserved" if figure["reserved"] else ""
    own = {"override": ", by an override", "seats": ", by its seats"}.get(figure.get("of", ""), "")
    wanted = f"{figure['wanted']:,} wanted, " if "wanted" in figure else ""
    return f"{meter}: {wanted}{figure['used']:,} of {limit} used{reserved}{own}"


def by_of(grant: Grant) -> dict[str, str | None]:
    return {"kind": grant.kind, "name": grant.by}


def _role(asked: Asked, user: str, called: str, member: Member | None, *, is_asked: bool) -> FactTold:
    grant = member.grant if member else None
    role = asked.role if asked.is_member else None
    words = f"{user} is {role or 'of a role that is not declared'} of {called}"
    if not asked.is_member:
        words = f"{user} is no member of {called}"
    told = grant.role if grant else None
    in_history = (
        (told == role or (asked.is_member and role is None and told is not None)) if is_asked else None
    )
    if grant is None or not in_history:
        return FactTold(what="role", value=role, words=words, in_history=in_history)
    return FactTold(
        what="role",
        value=role,
        words=words,
        since=moment_text(grant.since),
        by=by_of(grant),
        event=grant.event,
        in_history=True,
    )


def _fact(
    what: str, value: object, words: str, *, last: Mapping[str, Event] | None, told: object
) -> FactTold:
    """*last* is None where no history was asked; *told* is the value that the history tells."""
    if last is None:
        return FactTold(what=what, value=value, words=words)
    event = last.get(what)
    is_undeclared = value is None and what == "plan"  # a situation does not tell its name
    in_history = told == value or (is_undeclared and told is not None)
    if event is None or not in_history:
        return FactTold(what=what, value=value, words=words, in_history=in_history)
    found = event.kind == "workspace.found"
    return FactTold(
        what=what,
        value=value,
        words=words,
        since=moment_text(event.at),
        by={"kind": "found", "name": None} if found else {"kind": event.actor_kind, "name": event.actor},
        event=event.id,
        in_history=True,
    )


def _last(events: Iterable[Event]) -> dict[str, Event]:
    """The last event about each thing."""
    found: dict[str, Event] = {}
    for event in events:
        match event.kind:
            case "workspace.created" | "workspace.found":
                found["plan"] = found["status"] = event
                for override in event.data.get("overrides", ()):
                    found[f"override {override['name']}"] = event
            case "workspace.plan_changed":
                found["plan"] = event
            case "workspace.status_changed":
                found["status"] = event
            case _ if event.data.get("of") == "feature":
                found[f"override {event.data['name']}"] = event
    return found
