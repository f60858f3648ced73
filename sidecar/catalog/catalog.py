"""The catalog as values: what the company sells, and what each role may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """*includes* names every role that this one includes, without itself."""

    name: str
    title: str
    includes: frozenset[str]
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    name: str
    title: str
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A *counter* is used up and resets *per* period; a *level* is given back.

    The database counts *members*, and the workspaces that the asking user owns: *owned*.

    *per* is None unless it is a counter. *anchor* says where a month starts: in the UTC calendar, or on
    the day of the workspace's subscription.
    """

    name: str
    title: str
    kind: Literal["counter", "level", "members", "owned"]
    per: Literal["month", "day", "ever"] | None = None
    anchor: Literal["calendar", "subscription"] = "calendar"
    renamed_from: str | None = None

    @property
    def is_counted(self) -> bool:
        """By the database itself: nobody takes it, or gives it back."""
        return self.kind in {"members", "owned"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    amount: int
    currency: str
    per: str = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldAs:
    """What a *biller* calls a plan; with *seats* the quantity that is bought limits the members."""

    biller: str
    price: str
    seats: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """What a subscription gives that is neither active nor in its trial: a plan, or None for suspended.

    *past_due* follows *grace_days* in which the plan still holds, *trial* the end of a trial.
    """

    grace_days: int
    past_due: str | None
    unpaid: str | None
    paused: str | None
    canceled: str | None
    trial: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """*features* and *limits* include the inherited ones. A limit of None is unlimited.

    A plan that is not *sold* is held by workspaces and never offered. *sold_as* is not inherited.
    """

    name: str
    title: str
    price: Price
    features: frozenset[str]
    limits: Mapping[str, int | None]
    sold: bool = True
    renamed_from: str | None = None
    sold_as: tuple[SoldAs, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """*roles* are all that may, least first; *takes* maps a meter to the default amount."""

    name: str
    title: str
    roles: tuple[str, ...]
    feature: str | None
    takes: Mapping[str, int]
    while_suspended: bool
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a gateway finds the user or the workspace of a request: which *kind* of place, and its *name*."""

    kind: Literal["claim", "path", "header"]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """*once_per* names the header that identifies a retry, if the route consumes.

    With *ratelimit* the answer says what is left of the meters that the action takes.
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


Form = Literal["never", "always", "only", "whenever", "separate", "ladder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Any of *values*, or with *others* any but those."""

    values: tuple[str, ...]
    others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What an invariant says of situations, and behind *whenever* and *then* of their verdicts.

    None is not said. `stranger` and `undeclared` are roles and plans too, `none` and `some` are upgrades.
    """

    action: Choice | None = None
    role: Choice | None = None
    plan: Choice | None = None
    status: Choice | None = None
    override: Choice | None = None
    room: Choice | None = None
    allow: Choice | None = None
    http_status: Choice | None = None
    reason: Choice | None = None
    upgrade: Choice | None = None
    needs: Choice | None = None
    detail: Choice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Separate:
    """No role but *exempt* is granted more than one of *actions*."""

    actions: tuple[str, ...]
    exempt: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Along *order*; empty is that of `includes` for roles, and that of the price for plans."""

    of: Literal["roles", "plans"]
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A promise. *cell* is that of never, always, only or whenever; *then* belongs to whenever.

    *line* is where it stands in the file, from 1; it is 0 where there was no file.
    """

    title: str
    form: Form
    cell: Cell = Cell()
    then: Cell = Cell()
    separate: Separate | None = None
    ladder: Ladder | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """*roles* are least first, *plans* cheapest first; *actions* include those made for features and roles.

    *declared_actions* are the names of the actions in the file. *renamed_from* of anything is the name that
    rows of a database may have it under, from a revision before. *document* is all of the file but its
    invariants and comments, in canonical form. *billing* is None where there was no file.
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
    document: str = ""
    billing: Billing | None = None
