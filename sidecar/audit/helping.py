"""The smallest changes by which a denied question would be granted: of role, plan, status, override, room."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.decisions.model import Room, Situation, Usage
from sidecar.decisions.room import Rooms, meters_without_room, quotas_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.audit.answers import Answers
    from sidecar.catalog.catalog import Action, Catalog, Price
    from sidecar.decisions.model import Facts, Json

_KINDS = ("role", "plan", "status", "override", "room")


class RoomIn(Protocol):
    """The room of one question, were the workspace on another plan."""

    def lacking(self, plan: str | None, /) -> tuple[str, ...]:
        """The meters without room."""
        ...

    def room(self, plan: str | None, /, *, made: bool) -> Room | None:
        """*made*: as it would be if there were room in each meter. None where nothing is taken."""
        ...


class RoomByFigures:
    """By what is used: *facts* have the usage of each meter of *amounts*."""

    def __init__(self, catalog: Catalog, amounts: Mapping[str, int], facts: Facts) -> None:
        self._catalog = catalog
        self._amounts = amounts
        self._facts = facts
        self._rooms = Rooms(catalog)

    def lacking(self, plan: str | None, /) -> tuple[str, ...]:
        facts = replace(self._facts, plan=plan or "")
        quotas = quotas_of(self._amounts, facts, catalog=self._catalog)
        return tuple(meters_without_room(self._amounts, quotas))

    def room(self, plan: str | None, /, *, made: bool) -> Room | None:
        if not self._amounts:
            return None
        facts = replace(self._facts, plan=plan or "")
        if made:
            facts = self._emptied(facts)
        return self._rooms.room_for(self._amounts, facts)

    def _emptied(self, facts: Facts) -> Facts:
        """Without use; and with a limit of its own of each meter that has no room even then."""
        unused = {
            meter: Usage(used=0, reserved=0, resets_at=facts.usage[meter].resets_at)
            for meter in self._amounts
        }
        empty = replace(facts, usage={**facts.usage, **unused})
        quotas = quotas_of(self._amounts, empty, catalog=self._catalog)
        own = {meter: self._amounts[meter] for meter in meters_without_room(self._amounts, quotas)}
        return replace(empty, limit_overrides={**empty.limit_overrides, **own})


class RoomAsLogged:
    """By the room that a line of the decision log has, where it has no figures."""

    def __init__(self, catalog: Catalog, meters: tuple[str, ...], room: Room | None) -> None:
        self._all = tuple(sorted(catalog.plans))
        self._meters = meters
        self._room = room

    def lacking(self, plan: str | None, /) -> tuple[str, ...]:
        return () if self._room is None or plan in self._room.fits_in else self._meters

    def room(self, plan: str | None, /, *, made: bool) -> Room | None:
        if self._room is None:
            return None
        if made:
            return Room(fits_in=self._all, waiting_helps=False)
        return self._room if plan not in self._room.fits_in else replace(self._room, waiting_helps=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as policies see it. None of *role* is a stranger's, or of one whose role is not declared.

    *plan* and *status* are the workspace's also where a stranger asks; they are None if there is none.
    """

    action: Action | None
    role: str | None
    plan: str | None
    status: str | None
    features: Mapping[str, bool]
    is_member: bool
    room: RoomIn
    context: Mapping[str, Json]
    logged: Situation | None = None

    @property
    def situation(self) -> Situation:
        """As it was *logged*, if it was."""
        return self.logged or _situation(self, made=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Helping:
    """Changes that together would help: what is None stays. *override* is of the action's feature.

    A *value* of an override is None where it is taken away; *room* names the meters.
    """

    role: str | None = None
    plan: str | None = None
    status: str | None = None
    override: tuple[str, bool | None] | None = None
    room: tuple[str, ...] = ()
    price: Price | None = None

    @property
    def document(self) -> dict[str, Any]:
        """Without what stays."""
        document: dict[str, Any] = {}
        for name in ("role", "plan", "status"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        if self.override is not None:
            feature, value = self.override
            document["override"] = {feature: value}
        if self.room:
            document["room"] = list(self.room)
        if self.price is not None:
            document["price"] = {
                "amount": self.price.amount,
                "currency": self.price.currency,
                "per": self.price.per,
            }
        return document


def smallest(asked: Asked, catalog: Catalog, answers: Answers) -> list[Helping]:
    """All sets of changes of the least size by which it would be granted; none if it is, or nothing helps."""
    if answers.about(asked.situation).allow or asked.action is None or asked.status is None:
        return []
    for size in range(1, len(_KINDS) + 1):
        tried = list(_changes(asked, catalog, size))
        answers.learn(situation for _, situation in tried)
        if found := [change for change, situation in tried if answers.about(situation).allow]:
            return found
    return []


def _changes(asked: Asked, catalog: Catalog, size: int) -> Iterator[tuple[Helping, Situation]]:
    values = _values(asked, catalog)
    for kinds in combinations(_KINDS, size):
        for chosen in product(*(values[kind] for kind in kinds)):
            change = dict(zip(kinds, chosen, strict=True))
            after = _changed(asked, change)
            lacking = after.room.lacking(after.plan) if "room" in change else ()
            if "room" in change and not lacking:
                continue
            plan = change.get("plan")
            helping = Helping(
                role=change.get("role"),
                plan=plan,
                status=change.get("status"),
                override=change.get("override"),
                room=lacking,
                price=catalog.plans[plan].price if plan else None,
            )
            yield helping, _situation(after, made="room" in change)


def _values(asked: Asked, catalog: Catalog) -> dict[str, list[Any]]:
    feature = asked.action.feature if asked.action else None
    now = asked.features.get(feature) if feature else None
    return {
        "role": [role for role in catalog.roles if role != asked.role],
        "plan": [plan for plan in catalog.plans if plan != asked.plan],
        "status": ["active"] if asked.status != "active" else [],
        "override": [(feature, value) for value in (True, False, None) if value != now] if feature else [],
        "room": [True],
    }


def _changed(asked: Asked, change: Mapping[str, Any]) -> Asked:
    features = dict(asked.features)
    if "override" in change:
        feature, value = change["override"]
        features.pop(feature, None)
        if value is not None:
            features[feature] = value
    return replace(
        asked,
        role=change.get("role", asked.role),
        is_member=asked.is_member or "role" in change,
        plan=change.get("plan", asked.plan),
        status=change.get("status", asked.status),
        features=features,
    )


def _situation(asked: Asked, *, made: bool) -> Situation:
    """As `situation_of` makes it of facts: a stranger's tells nothing."""
    action = asked.action
    name = action.name if action else None
    if not asked.is_member:
        return Situation(action=name, role=None, plan=None, status=None, context=asked.context)
    feature = action.feature if action else None
    overrides = {feature: asked.features[feature]} if feature and feature in asked.features else {}
    return Situation(
        action=name,
        role=asked.role,
        plan=asked.plan,
        status=asked.status,
        feature_overrides=overrides,
        room=asked.room.room(asked.plan, made=made),
        context=asked.context,
    )
