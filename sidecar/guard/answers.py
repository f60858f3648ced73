"""The sidecar's answers as frozen values, validated strictly: anything unexpected is Misread."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
_STATUSES = (200, 402, 403, 429)


class Misread(Exception):
    """The document is not an answer of the sidecar; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One meter; *limit* and *remaining* are None when unlimited, *resets_at* when nothing resets.

    *grows_at* is when a reservation ends and *remaining* grows; None if none ends before the reset.
    """

    limit: int | None
    used: int
    reserved: int
    remaining: int | None
    resets_at: datetime | None
    over_by: int
    grows_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    amount: int
    currency: str
    per: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """A plan that would allow it."""

    plan: str
    title: str
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """*state* is ``held``, ``committed``, ``released`` or ``expired``."""

    id: str
    expires_at: datetime
    amounts: Mapping[str, int]
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The outcome: *amounts* were taken or given back, and *quota* is the new state.

    *replayed*: a duplicate of an earlier call, which changed nothing.
    """

    amounts: Mapping[str, int]
    quota: Mapping[str, Quota]
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedWorkspace:
    """The workspace that a decision about a member is about, however the question named it."""

    id: str
    slug: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether the user may. *role*, *plan* and *workspace* are None for a stranger.

    *retry_after* (seconds) is there where waiting helps: with 429, and with some 402. *idempotency_key* is
    the key for a refund; None when nothing was taken.
    """

    allowed: bool
    status: int
    reason: str
    message: str
    role: str | None
    plan: str | None
    needs_roles: tuple[str, ...]
    needs_feature: str | None
    upgrade: tuple[Upgrade, ...]
    quota: Mapping[str, Quota]
    retry_after: int | None
    reservation: Reservation | None
    replayed: bool
    decision_id: str
    policy_revision: str
    facts_at: datetime
    facts_cached: bool
    workspace: DecidedWorkspace | None = None
    idempotency_key: str | None = None

    def __bool__(self) -> bool:
        # A dataclass is truthy: without this, `if decision:` would allow everyone.
        return self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A workspace that the user belongs to, and their role."""

    id: str
    slug: str
    name: str
    role: str
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlements:
    """All that a member may and has: to draw buttons and meters with, not to guard routes by."""

    workspace: Workspace
    features: Mapping[str, bool]
    quotas: Mapping[str, Quota]
    actions: Mapping[str, bool]
    policy_revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    workspaces: tuple[Workspace, ...]
    next: str | None


def decision_from(value: object) -> Decision:
    answer = _Fields(value, "the decision")
    facts = answer.fields("facts")
    needs = answer.fields("needs", absent={})
    decision = Decision(
        allowed=answer.of("allow", bool),
        status=answer.of("status", int),
        reason=answer.of("reason", str),
        message=answer.of("message", str),
        role=answer.of("role", str, absent=None),
        plan=answer.of("plan", str, absent=None),
        needs_roles=tuple(_all_of(str, needs.of("roles", list, absent=[]), "needs.roles")),
        needs_feature=needs.of("feature", str, absent=None),
        upgrade=tuple(_upgrade_from(each) for each in answer.of("upgrade", list, absent=[])),
        quota=_quotas_from(answer.of("quota", dict, absent={})),
        retry_after=answer.of("retry_after", int, absent=None),
        reservation=_reservation_from(answer.of("reservation", dict, null=True)),
        replayed=answer.of("replayed", bool, absent=False),
        decision_id=answer.of("decision_id", str),
        policy_revision=answer.of("policy_revision", str),
        facts_at=facts.moment("at"),
        facts_cached=facts.of("cached", bool),
        workspace=_decided_workspace_from(answer.of("workspace", dict, absent=None)),
    )
    _check(decision)
    return decision


def _check(decision: Decision) -> None:
    """Validate that the fields of a decision agree; above all those that allow."""
    says = (decision.allowed, decision.status == 200, decision.reason == "granted")  # noqa: PLR2004 - OK
    if len(set(says)) > 1 or decision.status not in _STATUSES:
        raise Misread(
            f"allow {decision.allowed}, status {decision.status} and reason {decision.reason} do not agree"
        )
    if (decision.status == 402) != bool(decision.upgrade):  # noqa: PLR2004 - payment required
        raise Misread(f"status {decision.status} with {len(decision.upgrade)} plans to upgrade to")
    if decision.status not in ((200, 402, 403) if decision.retry_after is None else (402, 429)):
        raise Misread(f"status {decision.status} with retry_after {decision.retry_after}")
    if decision.allowed and (decision.role is None or decision.plan is None):
        raise Misread("it allows somebody without a role or a plan")
    if decision.reservation is not None and not decision.allowed:
        raise Misread("it denies, and holds a reservation")


def committed_from(value: object) -> Settled:
    reservation = _Fields(value, "the commit").fields("reservation")
    return _settled_from(value, reservation.of("committed", dict))


def released_from(value: object) -> Settled:
    reservation = _Fields(value, "the release").fields("reservation")
    return _settled_from(value, reservation.of("amounts", dict))


def given_back_from(value: object) -> Settled:
    return _settled_from(value, _Fields(value, "what was given back").of("released", dict))


def _settled_from(value: object, amounts: dict[str, Any]) -> Settled:
    answer = _Fields(value, "the settlement")
    return Settled(
        amounts=_map_of(int, amounts, "the amounts"),
        quota=_quotas_from(answer.of("quota", dict)),
        replayed=answer.of("replayed", bool, absent=False),
    )


def entitlements_from(value: object) -> Entitlements:
    answer = _Fields(value, "the entitlements")
    where = answer.of("workspace", dict)
    return Entitlements(
        workspace=_workspace_from({**where, "role": answer.of("role", str), "plan": answer.of("plan", str)}),
        features=_map_of(bool, answer.of("features", dict), "features"),
        quotas=_quotas_from(answer.of("quotas", dict)),
        actions=_map_of(bool, answer.of("actions", dict), "actions"),
        policy_revision=answer.of("policy_revision", str),
    )


def page_from(value: object) -> Page:
    answer = _Fields(value, "the page")
    return Page(
        workspaces=tuple(_workspace_from(each) for each in answer.of("workspaces", list)),
        next=answer.of("next", str, null=True),
    )


def _workspace_from(value: object) -> Workspace:
    row = _Fields(value, "the workspace")
    return Workspace(**{name: row.of(name, str) for name in ("id", "slug", "name", "role", "plan")})


def _decided_workspace_from(value: dict[str, Any] | None) -> DecidedWorkspace | None:
    if value is None:  # of a stranger, and of an older sidecar
        return None
    workspace = _Fields(value, "the workspace")
    return DecidedWorkspace(id=workspace.of("id", str), slug=workspace.of("slug", str))


def _reservation_from(value: dict[str, Any] | None) -> Reservation | None:
    if value is None:
        return None
    reservation = _Fields(value, "the reservation")
    return Reservation(
        id=reservation.of("id", str),
        expires_at=reservation.moment("expires_at"),
        amounts=_map_of(int, reservation.of("amounts", dict), "reservation.amounts"),
        state=reservation.of("state", str, absent="held"),  # an older sidecar does not say it
    )


def _upgrade_from(value: object) -> Upgrade:
    upgrade = _Fields(value, "the upgrade")
    price = upgrade.fields("price")
    return Upgrade(
        plan=upgrade.of("plan", str),
        title=upgrade.of("title", str),
        price=Price(
            amount=price.of("amount", int), currency=price.of("currency", str), per=price.of("per", str)
        ),
    )


def _quotas_from(value: dict[str, Any]) -> dict[str, Quota]:
    return {meter: _quota_from(meter, quota) for meter, quota in value.items()}


def _quota_from(meter: str, value: object) -> Quota:
    quota = _Fields(value, f"the quota of {meter}")
    return Quota(
        limit=quota.of("limit", int, null=True),
        used=quota.of("used", int),
        reserved=quota.of("reserved", int),
        remaining=quota.of("remaining", int, null=True),
        resets_at=None if quota.of("resets_at", str, null=True) is None else quota.moment("resets_at"),
        over_by=quota.of("over_by", int, absent=0),
        grows_at=None if quota.of("grows_at", str, absent=None) is None else quota.moment("grows_at"),
    )


def _map_of(kind: type[T], value: dict[str, Any], name: str) -> dict[str, T]:
    _all_of(kind, value.values(), name)
    return value


def _all_of(kind: type[T], values: Any, name: str) -> Any:  # noqa: ANN401 - parsed JSON
    for each in values:
        if type(each) is not kind:
            raise Misread(f"{name} holds {each!r}, which is no {kind.__name__}")
    return values


_REQUIRED: Any = object()


class _Fields:
    """A JSON object whose fields are read by type: true is not a number, null is not text."""

    def __init__(self, value: object, name: str) -> None:
        if not isinstance(value, dict):
            raise Misread(f"{name} is no object")
        self._value = value
        self._name = name

    def of(self, field: str, kind: type[T], *, absent: Any = _REQUIRED, null: bool = False) -> Any:  # noqa: ANN401 - a T, or what *absent* is
        if field not in self._value:
            if absent is _REQUIRED:
                raise Misread(f"{self._name} has no {field}")
            return absent
        value = self._value[field]
        if type(value) is not kind and not (null and value is None):
            raise Misread(f"{field} of {self._name} is {value!r:.60}, which is no {kind.__name__}")
        return value

    def fields(self, field: str, *, absent: Any = _REQUIRED) -> _Fields:  # noqa: ANN401 - as in of
        return _Fields(self.of(field, dict, absent=absent), f"{field} of {self._name}")

    def moment(self, field: str) -> datetime:
        text: str = self.of(field, str)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Misread(f"{field} of {self._name} is no time: {text!r:.60}") from None
        if moment.tzinfo is None:
            raise Misread(f"{field} of {self._name} is in no time zone: {text!r:.60}")
        return moment
