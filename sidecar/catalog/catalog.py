"""The catalog as values: what the company sells, and what each role may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """*includes* names every role that this one contains, itself not among them."""

    name: str
    title: str
    includes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    name: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A *counter* is used up and comes back *per* period; a *level* is given back; *members* are counted.

    *per* is None for what is not a counter. *anchor* says where a month starts: in the UTC calendar, or on
    the day of the workspace's subscription.
    """

    name: str
    title: str
    kind: Literal["counter", "level", "members"]
    per: Literal["month", "day", "ever"] | None = None
    anchor: Literal["calendar", "subscription"] = "calendar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    amount: int
    currency: str
    per: str = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What it extends is resolved: *features* and *limits* are all it has. None of a limit is unlimited."""

    name: str
    title: str
    price: Price
    features: frozenset[str]
    limits: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """*roles* are all that may, least first; *takes* maps a meter to what one performance takes of it."""

    name: str
    title: str
    roles: tuple[str, ...]
    feature: str | None
    takes: Mapping[str, int]
    while_suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a gateway finds the user or the workspace of a request: which *kind* of place, and its *name*."""

    kind: Literal["claim", "path", "header"]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """*once_per* names the header by which a repeated request is known, where the route consumes.

    With *ratelimit* whoever asks is told what is left of what the action takes.
    """

    method: str
    path: str
    host: str | None
    action: str
    user: Source
    workspace: Source
    mode: Literal["check", "consume"]
    once_per: str | None = None
    ratelimit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The situations that an invariant speaks of; an empty tuple means any."""

    actions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A promise: in each situation of *cell* the answer is *always* or *never* an allow."""

    title: str
    holds: Literal["always", "never"]
    cell: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """*roles* stand least first, *plans* cheapest first, *actions* with those made for features and roles.

    *declared_actions* are the names of the actions that the file itself declares.
    """

    currency: str
    roles: Mapping[str, Role]
    features: Mapping[str, Feature]
    meters: Mapping[str, Meter]
    plans: Mapping[str, Plan]
    default_plan: str
    actions: Mapping[str, Action]
    declared_actions: tuple[str, ...]
    routes: tuple[Route, ...]
    invariants: tuple[Invariant, ...]
