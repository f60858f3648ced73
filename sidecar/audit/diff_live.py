"""Whom a change of policies concerns today: the audience of the database, asked by both policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from sidecar.audit.diff import KINDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sidecar.audit.diff import Compared, Question

Features: TypeAlias = tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Memberships of one role, in workspaces that policies cannot tell apart and that have the same *roles*.

    *features* are pairs of feature and override, by name. *first* are the slugs of the first workspaces.
    """

    plan: str
    status: str
    role: str
    features: Features
    roles: tuple[str, ...]
    workspaces: int
    people: int
    first: tuple[str, ...]

    @property
    def kind(self) -> tuple[object, ...]:
        """Groups of one kind are in the same workspaces."""
        return self.plan, self.status, self.features, self.roles


@dataclass(frozen=True, slots=True)
class Over:
    workspace: str
    plan: str
    meter: str
    limit: int
    used: int


class Population(Protocol):
    """What the database says, in one snapshot."""

    def audience(self, *, at_most: int) -> Iterable[tuple[Any, ...]]:
        """The fields of a Group, which names *at_most* workspaces."""
        ...

    def people(self, workspaces: Collection[str], /, *, at_most: int) -> Sequence[tuple[str, str, str]]:
        """(workspace, role, user) in these *workspaces*: the first *at_most* users of each role."""
        ...

    def not_on(self, plans: Collection[str], /) -> Sequence[tuple[str, str]]:
        """(workspace, plan) of workspaces on other plans, by workspace."""
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
    audience = [Group(*row) for row in population.audience(at_most=limit)]
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
    named = _Named(population, concerned.values(), limit)
    order = {kind: at for at, kind in enumerate(KINDS)}
    changes = [
        LiveChange(
            kind=kind,
            action=action,
            workspaces=_workspaces(groups),
            people=sum(group.people for group in groups),
            who=named.of(groups),
        )
        for (kind, action), groups in sorted(concerned.items(), key=lambda each: (order[each[0][0]], each[0]))  # type: ignore[index]  # keys are kinds
    ]
    return Live(
        workspaces=_workspaces(audience),
        people=sum(group.people for group in audience),
        changes=tuple(changes),
        over=_over(compared, population, lowered, limit),
        gone=_gone(compared, population),
        limit=limit,
    )


def _workspaces(groups: Iterable[Group]) -> int:
    """Each once, though members of several roles are in it."""
    return sum({group.kind: group.workspaces for group in groups}.values())


class _Named:
    """The first people of each change, read for all changes at once."""

    def __init__(self, population: Population, concerned: Iterable[Sequence[Group]], limit: int) -> None:
        self._limit = limit
        self._users: dict[str, list[tuple[str, str]]] = {}
        slugs = {slug for groups in concerned for slug in self._first(groups)}
        for slug, role, user in population.people(sorted(slugs), at_most=limit) if slugs else ():
            self._users.setdefault(slug, []).append((role, user))

    def of(self, groups: Sequence[Group]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Users by workspace."""
        found, left = [], self._limit
        for slug, roles in self._first(groups).items():
            users = sorted(user for role, user in self._users.get(slug, ()) if role in roles)[:left]
            if users:
                found.append((slug, tuple(users)))
                left -= len(users)
        return tuple(found)

    def _first(self, groups: Sequence[Group]) -> dict[str, set[str]]:
        """The first workspaces, each with the roles that are concerned in it."""
        roles: dict[str, set[str]] = {}
        for group in groups:
            for slug in group.first:
                roles.setdefault(slug, set()).add(group.role)
        return {slug: roles[slug] for slug in sorted(roles)[: self._limit]}


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


def _gone(compared: Compared, population: Population) -> tuple[tuple[str, str], ...]:
    """Workspaces on a plan that the new policy does not have: `sidecar migrate` would refuse it."""
    known = compared.new.compiled.catalog.plans
    return tuple(population.not_on(sorted({*known, *map(compared.names.plans.old_of, known)})))
