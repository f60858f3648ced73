"""What the ledger is asked to take, and what it answers: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sidecar.decisions.model import Facts, Quota, Reservation, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """The one counter that is to be taken from, as the decision saw it: with room, and nothing held of it.

    *limit* is what holds in the workspace, overridden or not; *resets_at* is the end of its period, if any.
    """

    limit: int | None
    resets_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """What the ledger is to take, or with *ttl_s* to hold under the id *reservation*.

    *limits* are the verdict's, of the meters of *amounts*; *token* is that of the facts it was made from.
    Without *ttl_s*, *reservation* is one that has expired and is committed late. *role*, *plan* and *message*
    are what a repeat is told again. With a *counter* it may be done at once, if that still is so.
    """

    workspace_id: UUID
    token: object
    user: str
    action: str
    amounts: Mapping[str, int]
    limits: Mapping[str, int | None]
    resource: str | None
    key: str | None
    fingerprint: str
    ttl_s: int | None
    reservation: str | None
    decision_id: str
    revision: str
    role: str
    plan: str
    message: str
    counter: Counter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    quota: Mapping[str, Quota]
    reservation: Reservation | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """It was taken before, by the decision *decision_id*: what was told then."""

    decision_id: str
    revision: str
    role: str
    plan: str
    message: str
    quota: Mapping[str, Quota]
    reservation: Reservation | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The resource exists already, since the decision *decision_id*."""

    decision_id: str
    revision: str
    now: UsageNow


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """Nothing was taken; *facts* are as the ledger saw them."""

    facts: Facts


class Unsettled(Enum):
    """Nothing was taken, and the question is to be decided again."""

    STALE = "stale"  # the workspace has changed since the facts were read
    SETTLED = "settled"  # the reservation that was to be committed late


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageNow:
    """A workspace's plan, its overridden limits, and the usage of some meters, after an effect."""

    plan: str
    limit_overrides: Mapping[str, int | None]
    usage: Mapping[str, Usage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A reservation that was committed or released; *committed* is None if it was released."""

    reservation: Reservation
    state: Literal["committed", "released"]
    committed: Mapping[str, int] | None
    now: UsageNow
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A reservation whose time is over: to commit *amounts* of it is a new question."""

    workspace_id: UUID
    user: str
    action: str
    resource: str | None
    amounts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBack:
    released: Mapping[str, int]
    now: UsageNow
    replayed: bool
