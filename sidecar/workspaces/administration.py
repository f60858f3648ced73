"""Administration: changes of a workspace's plan, status and overrides, and what stores them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from sidecar.errors import BadQuestion, UnknownPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    from sidecar.catalog.catalog import Catalog

Status: TypeAlias = Literal["active", "suspended"]
Field: TypeAlias = Literal["plan", "features", "limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """An *as_of* older than that of the workspace's plan changes nothing; None is now."""

    plan: str
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    status: Status
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridesChange:
    """Merges: a name that is absent stays as it is, None removes it.

    *limits* are in the meter's own unit. *expires_at* and *reason* are of the names given here.
    """

    features: Mapping[str, bool | None] = field(default_factory=dict)
    limits: Mapping[str, int | Literal["unlimited"] | None] = field(default_factory=dict)
    expires_at: datetime | None = None
    reason: str | None = None


Change: TypeAlias = PlanChange | StatusChange | OverridesChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeclared:
    """A name in a change that the catalog lacks; *declared* are those that it has instead."""

    field: Field
    name: str
    declared: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """*value* is whether the feature is on, or the limit; None of a limit is unlimited."""

    kind: Literal["feature", "limit"]
    name: str
    value: bool | int | None
    expires_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceState:
    """A workspace after a change; *applied* is false when it had a newer plan than the one asked for."""

    workspace_id: UUID
    slug: str
    plan: str
    as_of: datetime
    status: Status
    reason: str | None
    overrides: tuple[Override, ...]
    applied: bool

    @property
    def features(self) -> dict[str, bool]:
        return {each.name: bool(each.value) for each in self.overrides if each.kind == "feature"}

    @property
    def limits(self) -> dict[str, int | None]:
        return {each.name: each.value for each in self.overrides if each.kind == "limit"}


class AdministrationStore(Protocol):
    """A change is one call, recorded as the *actor*'s, and is all or nothing. Sent twice it is one change."""

    def apply(
        self, workspace: str, change: Change, /, *, actor: str, decision: str | None = None, deadline: float
    ) -> WorkspaceState:
        """*workspace* is a UUID or a slug; *deadline* is on the monotonic clock, in seconds.

        *decision* is the id of the line of the decision log that tells of it.

        UnknownWorkspace, UnknownPlan, BadQuestion for what makes no sense. FactsUnavailable if nothing was
        answered: then it may have been applied.
        """
        ...


class Administration:
    """What an administrator does, whoever that is: an operator, or the billing system."""

    def __init__(self, catalog: Catalog, *, store: AdministrationStore) -> None:
        self._catalog = catalog
        self._store = store

    def undeclared(self, change: Change, /) -> tuple[Undeclared, ...]:
        """The names in *change* that the catalog lacks; limits are checked once every feature is declared."""
        match change:
            case PlanChange():
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
        """As `AdministrationStore.apply`; what the catalog lacks is refused before the store is asked."""
        if missing := self.undeclared(change):
            detail = ", ".join(f'{each.field}: "{each.name}" is not in the catalog' for each in missing)
            raise UnknownPlan(detail) if missing[0].field == "plan" else BadQuestion(detail)
        state = self._store.apply(workspace, change, actor=actor, decision=decision, deadline=deadline)
        declared = {"feature": self._catalog.features, "limit": self._catalog.meters}
        shown = tuple(each for each in state.overrides if each.name in declared[each.kind])
        return replace(state, overrides=shown)


def _unless_removed(
    change: Mapping[str, object], where: Field, declared: Mapping[str, object]
) -> tuple[Undeclared, ...]:
    """Nothing where all that is undeclared is removed: what rows have of a catalog before may always go."""
    found = _undeclared(where, change, declared)
    return found if any(change[each.name] is not None for each in found) else ()


def _undeclared(where: Field, names: Iterable[str], declared: Mapping[str, object]) -> tuple[Undeclared, ...]:
    known = tuple(declared)
    return tuple(Undeclared(field=where, name=name, declared=known) for name in names if name not in declared)
