"""Whom a change of policies concerns today: the audience of the database, asked by both policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sidecar.audit.diff import KINDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sidecar.audit.diff import Compared, Question

_FEW = 20_000  # people whose workspaces are always counted one by one
_OWNER = "owner"  # the database goes by this name
Features: TypeAlias = tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Memberships that policies cannot tell apart; *features* are pairs of feature and override, by name."""

    plan: str
    status: str
    role: str
    features: Features
    workspaces: int
    people: int


@dataclass(frozen=True, slots=True)
class Over:
    workspace: str
    plan: str
    meter: str
    limit: int
    used: int


class Population(Protocol):
    """What the database says, in one snapshot."""

    def audience(self) -> list[tuple[str, str, str, Features, int, int]]:
        """The fields of a Group."""
        ...

    def people(self, groups: Collection[Group], /, *, at_most: int) -> list[tuple[str, str]]:
        """(workspace, user) of the first *at_most* by workspace and user."""
        ...

    def workspaces(self, groups: Collection[Group], /) -> int:
        """How many workspaces have somebody in one of *groups*."""
        ...

    def over(self, limits: Mapping[str, Mapping[str, int]], /) -> list[tuple[str, str, str, int, int]]:
        """The fields of Over, of who has used more than *limits*, by plan and meter."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    kind: str
    action: str
    workspaces: int
    people: int
    who: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def named(self) -> int:
        return sum(len(users) for _, users in self.who)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOver:
    plan: str
    meter: str
    limit: int
    workspaces: int
    who: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    workspaces: int
    people: int
    changes: tuple[LiveChange, ...]
    over: tuple[LiveOver, ...]
    gone: tuple[tuple[str, str], ...]
    limit: int

    @property
    def document(self) -> dict[str, object]:
        return {
            "workspaces": self.workspaces,
            "people": self.people,
            "changes": [
                {
                    "kind": each.kind,
                    "action": each.action,
                    "workspaces": each.workspaces,
                    "people": each.people,
                    "who": [{"workspace": slug, "users": list(users)} for slug, users in each.who],
                }
                for each in self.changes
            ],
            "over": [
                {
                    "plan": each.plan,
                    "meter": each.meter,
                    "limit": each.limit,
                    "workspaces": each.workspaces,
                    "who": [{"workspace": slug, "used": used, "over": over} for slug, used, over in each.who],
                }
                for each in self.over
            ],
            "gone": [{"workspace": slug, "plan": plan} for slug, plan in self.gone],
        }


def live_of(
    compared: Compared, population: Population, *, lowered: Sequence[tuple[str, str, int]], limit: int
) -> Live:
    """*lowered* are (plan, meter, limit) of the new policy; *limit* is how many people a change names."""
    audience = [Group(*row) for row in population.audience()]
    asked: list[tuple[Group, Question]] = [
        (group, compared.both_about(action, group.role, group.plan, group.status, dict(group.features)))
        for group in audience
        for action in compared.names.actions.pairs
    ]
    compared.learn([question for _, question in asked])
    concerned: dict[tuple[str, str], list[Group]] = {}
    for group, question in asked:
        if kind := compared.kind_about(question):
            concerned.setdefault((kind, question.action.name), []).append(group)
    # In one statement for all changes, which share groups.
    population.people([group for groups in concerned.values() for group in groups], at_most=limit)
    order = {kind: at for at, kind in enumerate(KINDS)}
    changes = [
        LiveChange(
            kind=kind,
            action=action,
            workspaces=_workspaces(groups, population),
            people=sum(group.people for group in groups),
            who=_by_workspace(population.people(groups, at_most=limit)),
        )
        for (kind, action), groups in sorted(concerned.items(), key=lambda each: (order[each[0][0]], each[0]))  # type: ignore[index]  # keys are kinds
    ]
    return Live(
        workspaces=_workspaces(audience, population),
        people=sum(group.people for group in audience),
        changes=tuple(changes),
        over=_over(compared, population, lowered, limit),
        gone=_gone(compared, population, audience),
        limit=limit,
    )


def _workspaces(groups: Sequence[Group], population: Population) -> int:
    """Each once. Groups of one kind of workspace overlap: it has members of several roles.

    Of a large audience, those who have an owner among *groups* are counted by their owners: one each.
    """
    kinds: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        kinds.setdefault((group.plan, group.status, group.features), []).append(group)
    counted, overlapping = 0, list[Group]()
    few = sum(group.people for group in groups) <= _FEW
    for alike in kinds.values():
        most = max(alike, key=lambda group: (group.workspaces, group.role == _OWNER))
        if len(alike) == 1 or (most.role == _OWNER and not few):
            counted += most.workspaces
        else:
            overlapping += alike
    return counted + (population.workspaces(overlapping) if overlapping else 0)


def _by_workspace(people: Sequence[tuple[str, str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for workspace, user in people:
        found.setdefault(workspace, []).append(user)
    return tuple((workspace, tuple(users)) for workspace, users in found.items())


def _over(
    compared: Compared, population: Population, lowered: Sequence[tuple[str, str, int]], limit: int
) -> tuple[LiveOver, ...]:
    """The database may know plans and meters by their names of before."""
    names, limits = compared.names, dict[str, dict[str, int]]()
    for plan, meter, number in lowered:
        for plan_ in {plan, names.plans.old_of(plan)}:
            for meter_ in {meter, names.meters.old_of(meter)}:
                limits.setdefault(plan_, {})[meter_] = number
    found: dict[tuple[str, str, int], list[Over]] = {}
    for row in population.over(limits) if limits else ():
        each = Over(*row)
        key = names.plans.new_of(each.plan), names.meters.new_of(each.meter), each.limit
        found.setdefault(key, []).append(each)
    return tuple(
        LiveOver(
            plan=plan,
            meter=meter,
            limit=number,
            workspaces=len(rows),
            who=tuple((row.workspace, row.used, row.used - row.limit) for row in rows[:limit]),
        )
        for (plan, meter, number), rows in sorted(found.items())
    )


def _gone(
    compared: Compared, population: Population, audience: Sequence[Group]
) -> tuple[tuple[str, str], ...]:
    """Workspaces on a plan that the new policy does not have: `sidecar migrate` would refuse it."""
    known = compared.new.compiled.catalog.plans
    found: dict[str, list[Group]] = {}
    for group in audience:
        if compared.names.plans.new_of(group.plan) not in known:
            found.setdefault(group.plan, []).append(group)
    rows = {
        (workspace, plan)
        for plan, groups in found.items()
        for workspace, _ in population.people(groups, at_most=sum(group.people for group in groups))
    }
    return tuple(sorted(rows))
