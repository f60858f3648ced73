"""The question that an explanation is about: from a line of the decision log, or as it is named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.api.rendered import limits_of
from sidecar.audit.borne_out import KINDS
from sidecar.audit.helping import Asked, RoomAsLogged, RoomByFigures
from sidecar.audit.moments import moment_in
from sidecar.decisions.model import Facts, Question, Room, Situation, Usage
from sidecar.decisions.room import amounts_of
from sidecar.errors import BadQuestion
from sidecar.reports.misasked import Misasked
from sidecar.reports.workspaces import people_in
from sidecar.store.audited_facts import AuditedFacts
from sidecar.store.grants import people_at
from sidecar.store.history import history, workspaces_called
from sidecar.telemetry.log_files import log_files
from sidecar.text.ids import is_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Json
    from sidecar.reports.ruling import Ruling
    from sidecar.store.auditing import Looked
    from sidecar.store.history import Event
    from sidecar.workspaces.holders import Member, Workspace

_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """*workspace*, *member* and *events* are as the history tells; *events* are None if none was asked.

    *figures* are those of each meter that is taken, empty where quotas are not looked at.
    """

    asked: Asked
    user: str
    called: str
    workspace: Workspace | None
    member: Member | None
    events: Sequence[Event] | None
    figures: Mapping[str, Mapping[str, Any]]


def line_about(decision: str, paths: Sequence[str]) -> dict[str, Any]:
    """The line of a decision, with its situation. Misasked if there is none."""
    sought, lines = json.dumps(decision).encode(), 0
    masked = False
    for file in log_files(paths):
        for raw in file:
            lines += 1
            if sought not in raw:
                continue
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict) and line.get("decision_id") == decision and "action" in line:
                if isinstance(line.get("situation"), dict) and isinstance(line.get("policy_revision"), str):
                    return line
                masked = True
    if masked:
        raise Misasked(
            f"the line of decision {decision} has no situation or no revision: it is masked, or was too long"
        )
    raise Misasked(f"none of {lines:,} lines in {', '.join(paths)} is of decision {decision}")


def from_line(line: Mapping[str, Any], ruling: Ruling, looked: Looked | None) -> Explained:
    """As it was decided, with what the history tells of that moment. Misasked if it is no such line."""
    try:
        return _from_line(line, ruling, looked)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Misasked(
            f"the line of decision {line.get('decision_id')} is not as a sidecar writes it: {error!r}"
        ) from error


def _from_line(line: Mapping[str, Any], ruling: Ruling, looked: Looked | None) -> Explained:
    catalog, situation = ruling.compiled.catalog, line["situation"]
    action = catalog.actions.get(situation["action"] or "")
    at = moment_in(line.get("facts_at") or line["at"])
    if at is None:
        raise Misasked(f"the line of decision {line['decision_id']} has no time that can be read")
    workspace = _workspace_at(looked, line, at) if looked else None
    member = _member_of(workspace, line["user"])
    is_member = situation["status"] is not None
    if is_member or workspace is None:
        features = situation["overrides"]["features"]
        plan, status = situation["plan"], situation["status"]
    else:  # the line tells nothing of a workspace to a stranger
        features = workspace.features
        plan, status = _declared(workspace.plan, catalog), workspace.status
    limits = line.get("limits") or {}
    amounts = line.get("amounts") or (dict(action.takes) if action else {})
    room: Any = RoomAsLogged(catalog, tuple(action.takes) if action else (), _room_in(situation["room"]))
    if not is_member or set(limits) >= set(amounts):
        own, seats = (
            {meter: of["limit"] for meter, of in limits.items() if of["of"] == what}
            for what in ("override", "seats")
        )
        used = {
            meter: Usage(used=of["used"], reserved=of["reserved"], resets_at=None)
            for meter, of in limits.items()
        }
        unused = Usage(used=0, reserved=0, resets_at=None)
        facts = _facts(plan, own, {meter: used.get(meter, unused) for meter in amounts}, seats=seats)
        room = RoomByFigures(catalog, amounts if action and action.takes else {}, facts)
    asked = Asked(
        action=action,
        role=situation["role"],
        plan=plan,
        status=status,
        features=features,
        is_member=is_member,
        room=room,
        context=situation.get("context", {}),
        logged=Situation(
            action=situation["action"],
            role=situation["role"],
            plan=situation["plan"],
            status=situation["status"],
            feature_overrides=situation["overrides"]["features"],
            room=_room_in(situation["room"]),
            context=situation.get("context", {}),
        ),
    )
    return Explained(
        asked=asked,
        user=line["user"],
        called=workspace.slug if workspace else line["workspace"],
        workspace=workspace,
        member=member,
        events=_events(looked, workspace, at) if looked else None,
        figures={meter: {"wanted": amounts[meter], **of} for meter, of in limits.items() if meter in amounts},
    )


def from_question(
    looked: Looked,
    ruling: Ruling,
    *,
    user: str,
    workspace: str,
    action: str,
    amounts: Mapping[str, int] | None,
    at: datetime | None,
    context: Mapping[str, Json],
) -> Explained:
    """Now with quotas, or then without. Misasked for an unknown workspace or amount."""
    catalog = ruling.compiled.catalog
    store = AuditedFacts(looked.connection, catalog=catalog, revision=ruling.compiled.revision)
    (found,) = people_in(looked, workspace, at=at, spoken=store.spoken)
    try:
        taken = amounts_of(
            Question(user=user, workspace=found.id, action=action, amounts=amounts), catalog=catalog
        )
    except BadQuestion as bad:
        raise Misasked(f"--amounts: {'; '.join(each.detail for each in bad.faults)}") from bad
    member = _member_of(found, user)
    is_member = member is not None and member.exists is not False
    if at is None:
        facts = _facts_now(store, found, user, taken)
    else:
        unused = Usage(used=0, reserved=0, resets_at=None)
        facts = _facts(found.plan, {}, dict.fromkeys(taken, unused))
    figures = {}
    if at is None:
        figures = {
            meter: {"wanted": taken[meter], **of} for meter, of in limits_of(facts, taken, catalog).items()
        }
    asked = Asked(
        action=catalog.actions[action],
        role=member.role if member is not None and is_member and member.role in catalog.roles else None,
        plan=_declared(found.plan, catalog),
        status=found.status,
        features=found.features,
        is_member=is_member,
        room=RoomByFigures(catalog, taken, facts) if at is None else RoomUnknown(catalog, taken, facts),
        context={name: value for name, value in context.items() if name in ruling.compiled.context_fields},
    )
    told = next(iter(people_at(looked.connection, at or datetime.now(UTC), found.id)), None)
    return Explained(
        asked=asked,
        user=user,
        called=found.slug,
        workspace=told,
        member=_member_of(told, user),
        events=_events(looked, found, at),
        figures=figures,
    )


class RoomUnknown(RoomByFigures):
    """Of a time of which no figures are kept: as if there were room."""

    def lacking(self, plan: str | None, /) -> tuple[str, ...]:  # noqa: ARG002 - of none
        return ()

    def room(self, plan: str | None, /, *, made: bool) -> Room | None:  # noqa: ARG002 - there is
        return RoomByFigures.room(self, plan, made=True)


def _facts_now(store: AuditedFacts, workspace: Workspace, user: str, taken: Mapping[str, int]) -> Facts:
    """Of the user, else of another member: a stranger's question has the room of the workspace."""
    for each in (user, *(member.user for member in workspace.members)):
        (facts,) = store.facts([(each, workspace.id)], [tuple(taken)], deadline=inf)
        if facts is not None:
            return facts
    unused = Usage(used=0, reserved=0, resets_at=None)
    return _facts(workspace.plan, workspace.limits, dict.fromkeys(taken, unused))


def _facts(
    plan: str | None,
    limits: Mapping[str, int | None],
    usage: Mapping[str, Usage],
    *,
    seats: Mapping[str, int] | None = None,
) -> Facts:
    """What rooms are found by; the rest of it is not looked at."""
    return Facts(
        workspace_id=_NOBODY,
        slug="",
        name="",
        role="",
        plan=plan or "",
        status="active",
        feature_overrides={},
        limit_overrides=limits,
        usage=usage,
        at=datetime.now(UTC),
        token=None,
        seats=seats or {},
    )


def _workspace_at(looked: Looked, line: Mapping[str, Any], at: datetime) -> Workspace | None:
    id_ = line.get("workspace_id") or (line["workspace"] if is_uuid(line["workspace"]) else None)
    if id_:
        return next(iter(people_at(looked.connection, at, id_)), None)
    for called in workspaces_called(looked.connection, line["workspace"]):
        for found in people_at(looked.connection, at, str(called.id)):
            if found.slug == line["workspace"]:
                return found
    return None


def _events(looked: Looked, workspace: Workspace | None, at: datetime | None) -> list[Event]:
    if workspace is None:
        return []
    found = history(looked.connection, workspace=UUID(workspace.id), kinds=KINDS)
    return [event for event in found if at is None or event.at <= at]


def _member_of(workspace: Workspace | None, user: str) -> Member | None:
    if workspace is None:
        return None
    return next((member for member in workspace.members if member.user == user), None)


def _room_in(document: Mapping[str, Any] | None) -> Room | None:
    if document is None:
        return None
    return Room(fits_in=tuple(document["fits_in"]), waiting_helps=document["waiting_helps"])


def _declared(plan: str, catalog: Catalog) -> str | None:
    return plan if plan in catalog.plans else None
