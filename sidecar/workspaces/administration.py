"""Administration: changes of a workspace's plan, status, overrides and subscriptions, and their store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from sidecar.errors import BadQuestion, UnknownPlan
from sidecar.workspaces.subscriptions import NO_PLAN, SubscriptionChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    from sidecar.catalog.catalog import Catalog
    from sidecar.workspaces.membership import Member
    from sidecar.workspaces.subscriptions import Subscription

Status: TypeAlias = Literal["active", "suspended"]
Field: TypeAlias = Literal["plan", "features", "limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """An *as_of* older than that of the workspace's plan changes nothing, unless *overrule*; None is now."""

    plan: str
    as_of: datetime | None = None
    overrule: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """*as_of* and *overrule* are as of a PlanChange."""

    status: Status
    reason: str | None = None
    as_of: datetime | None = None
    overrule: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridesChange:
    """Merges: a name that is absent stays as it is, None removes it.

    *limits* are in the meter's own unit. *expires_at*, *until_plan_change* and *reason* are of the names that
    are given here.
    """

    features: Mapping[str, bool | None] = field(default_factory=dict)
    limits: Mapping[str, int | Literal["unlimited"] | None] = field(default_factory=dict)
    expires_at: datetime | None = None
    reason: str | None = None
    until_plan_change: bool = False


Change: TypeAlias = PlanChange | StatusChange | OverridesChange | SubscriptionChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeclared:
    """A name in a change that the catalog lacks; *declared* are those that it has instead."""

    field: Field
    name: str
    declared: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """*value* is whether the feature is on, or the limit; None of a limit is unlimited.

    With *until_plan_change* it holds while the workspace has the plan that it had then.
    """

    kind: Literal["feature", "limit"]
    name: str
    value: bool | int | None
    expires_at: datetime | None
    reason: str | None
    until_plan_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceState:
    """A workspace after a change; *plan* and *status* are what holds now.

    *applied* is false when something newer was known. *replayed*: the event of a subscription was known.
    """

    workspace_id: UUID
    slug: str
    plan: str
    as_of: datetime
    status: Status
    reason: str | None
    overrides: tuple[Override, ...]
    applied: bool
    subscriptions: tuple[Subscription, ...] = ()
    replayed: bool = False

    @property
    def features(self) -> dict[str, bool]:
        return {each.name: bool(each.value) for each in self.overrides if each.kind == "feature"}

    @property
    def limits(self) -> dict[str, int | None]:
        return {each.name: each.value for each in self.overrides if each.kind == "limit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWorkspace:
    """All that administrators know of a workspace; of its *members* a page."""

    state: WorkspaceState
    name: str
    external_id: str | None
    owner: str | None
    members: tuple[Member, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundWorkspace:
    id: UUID
    slug: str
    name: str
    external_id: str | None
    plan: str
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """*q* is an id, a slug, ext: and an external id, a member or their e-mail; or how slug or name begin.

    *after* is the slug behind which a page begins.
    """

    plan: str | None = None
    status: Status | None = None
    q: str | None = None
    after: str | None = None


class AdministrationStore(Protocol):
    """A change is one call, recorded as the *actor*'s, and is all or nothing. Sent twice it is one change."""

    def apply(
        self, workspace: str, change: Change, /, *, actor: str, decision: str | None = None, deadline: float
    ) -> WorkspaceState:
        """*workspace* is a UUID or a slug; *deadline* is on the monotonic clock, in seconds.

        *decision* is the id of the line of the decision log that tells of it.

        UnknownWorkspace, UnknownPlan, BadQuestion for what makes no sense, EventReused. FactsUnavailable if
        nothing was answered: then it may have been applied.
        """
        ...

    def was_purged(self, workspace: str, /, *, deadline: float) -> bool:
        """Of a workspace that is not there: whether it was, and is gone for good."""
        ...

    def known(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> KnownWorkspace:
        """With up to *limit* members, ordered by user, those behind *after*. UnknownWorkspace."""
        ...

    def name_externally(
        self, workspace: str, external_id: str | None, /, *, actor: str, decision: str | None, deadline: float
    ) -> KnownWorkspace:
        """None removes it. UnknownWorkspace, ExternalIdTaken."""
        ...

    def find(self, search: Search, /, *, limit: int, deadline: float) -> list[FoundWorkspace]:
        """Up to *limit* of them, ordered by slug."""
        ...


class Administration:
    """What an administrator does, whoever that is: an operator, or the billing system."""

    def __init__(self, catalog: Catalog, *, store: AdministrationStore) -> None:
        self._catalog = catalog
        self._store = store

    def undeclared(self, change: Change, /) -> tuple[Undeclared, ...]:
        """The names in *change* that the catalog lacks; limits are checked once every feature is declared."""
        match change:
            case PlanChange() | SubscriptionChange():
                return _undeclared("plan", (change.plan,), self._catalog.plans)
            case OverridesChange():
                return _unless_removed(change.features, "features", self._catalog.features) or (
                    _unless_removed(change.limits, "limits", self._catalog.meters)
                )
            case StatusChange():
                return ()

    def apply(
        self, workspace: str, change: Change, /, *, actor: str, decision: str | None = None, deadline: float
    ) -> WorkspaceState:
        """As `AdministrationStore.apply`; what the catalog lacks is refused before the store is asked.

        But an event of a subscription that was kept is a replay, whether or not its plan is still declared.
        """
        missing = self.undeclared(change)
        if missing and isinstance(change, SubscriptionChange):
            change = replace(change, plan=NO_PLAN, known_by=change.fingerprint)
        elif missing:
            raise _refusal_of(missing)
        try:
            state = self._store.apply(workspace, change, actor=actor, decision=decision, deadline=deadline)
        except UnknownPlan as error:
            if missing:
                raise _refusal_of(missing) from error
            raise
        return self._declared(state)

    def was_purged(self, workspace: str, /, *, deadline: float) -> bool:
        """As `AdministrationStore.was_purged`."""
        return self._store.was_purged(workspace, deadline=deadline)

    def known(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> KnownWorkspace:
        """As `AdministrationStore.known`."""
        known = self._store.known(workspace, after=after, limit=limit, deadline=deadline)
        return replace(known, state=self._declared(known.state))

    def name_externally(
        self, workspace: str, external_id: str | None, /, *, actor: str, decision: str | None, deadline: float
    ) -> KnownWorkspace:
        """As `AdministrationStore.name_externally`."""
        known = self._store.name_externally(
            workspace, external_id, actor=actor, decision=decision, deadline=deadline
        )
        return replace(known, state=self._declared(known.state))

    def find(self, search: Search, /, *, limit: int, deadline: float) -> list[FoundWorkspace]:
        """As `AdministrationStore.find`."""
        return self._store.find(search, limit=limit, deadline=deadline)

    def _declared(self, state: WorkspaceState) -> WorkspaceState:
        declared = {"feature": self._catalog.features, "limit": self._catalog.meters}
        shown = tuple(each for each in state.overrides if each.name in declared[each.kind])
        return replace(state, overrides=shown)


def _refusal_of(missing: Iterable[Undeclared]) -> UnknownPlan | BadQuestion:
    detail = ", ".join(f'{each.field}: "{each.name}" is not in the catalog' for each in missing)
    return UnknownPlan(detail) if any(each.field == "plan" for each in missing) else BadQuestion(detail)


def _unless_removed(
    change: Mapping[str, object], where: Field, declared: Mapping[str, object]
) -> tuple[Undeclared, ...]:
    """Nothing where all that is undeclared is removed: what rows have of a catalog before may always go."""
    found = _undeclared(where, change, declared)
    return found if any(change[each.name] is not None for each in found) else ()


def _undeclared(where: Field, names: Iterable[str], declared: Mapping[str, object]) -> tuple[Undeclared, ...]:
    known = tuple(declared)
    return tuple(Undeclared(field=where, name=name, declared=known) for name in names if name not in declared)
