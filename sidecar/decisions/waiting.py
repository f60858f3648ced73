"""How long until there is room, if nothing else happens: reservations, periods and overridden limits end.

All times are in whole seconds from now, rounded up, so that at the second that is told the end is over.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

from sidecar.decisions.model import ToCome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sidecar.decisions.model import Quota

_SOONEST_S = 1
_SECOND = timedelta(seconds=1)


def seconds_until_room(
    amounts: Mapping[str, int], limits: Mapping[str, int | None], to_come: Mapping[str, ToCome]
) -> int | None:
    """The first second, at least 1, at which all *amounts* have room together; None if none has.

    *limits* are those of the plan, by meter; None is unlimited.
    """
    meters = [(amount, _Meter(limits[meter], to_come[meter])) for meter, amount in amounts.items() if amount]
    moments = {_SOONEST_S, *(max(_SOONEST_S, moment) for _, meter in meters for moment in meter.moments())}
    for moment in sorted(moments):
        if all(meter.has_room(amount, moment) for amount, meter in meters):
            return moment
    return None


def seconds_until_more(limit: int | None, to_come: ToCome) -> int | None:
    """The first second at which more of a meter is left than now; None if there never is."""
    meter = _Meter(limit, to_come)
    left = meter.left(0)
    if left is None:
        return None
    for moment in sorted(meter.moments()):
        then = meter.left(moment)
        if then is None or then > left:
            return moment
    return None


def foreseen(quotas: Mapping[str, Quota], *, at: datetime) -> dict[str, ToCome]:
    """What *quotas* alone tell of what is to come.

    Of reservations they know when the first one ends, and all are taken to end then: what is reckoned from it
    is never too late. Where they do not know even that, reservations are taken to stay until the reset.
    """
    return {
        meter: ToCome(
            used=quota.used + (quota.reserved if quota.frees_at is None else 0),
            resets_in_s=None if quota.resets_at is None else _seconds(at, quota.resets_at),
            held=() if quota.frees_at is None else ((_seconds(at, quota.frees_at), quota.reserved),),
        )
        for meter, quota in quotas.items()
    }


def is_exact(quota: Quota, amount: int, *, plan_limit: int | None, waits: bool) -> bool:
    """Whether what `foreseen` says of a meter is all that matters; *waits*: to who waits for *amount*."""
    if quota.reserved and quota.limit is not None and quota.frees_at is None:
        return False
    if not waits:
        return True
    if quota.limit != plan_limit:
        return False  # it is overridden, and that may end
    if not quota.reserved or quota.limit is None:
        return True
    has_room = quota.used + quota.reserved + amount <= quota.limit
    return has_room or quota.used + amount > quota.limit  # or there is none before the reset, whatever ends


def _seconds(at: datetime, moment: datetime) -> int:
    return -((at - moment) // _SECOND)


class _Meter:
    """One meter at any second from now on, by what is to come."""

    __slots__ = ("_ends", "_held", "_limit", "_to_come")

    def __init__(self, limit: int | None, to_come: ToCome) -> None:
        self._limit = limit
        self._to_come = to_come
        self._ends = [ends_in_s for ends_in_s, _ in to_come.held]
        total = sum(amount for _, amount in to_come.held)
        self._held = [*accumulate((-amount for _, amount in to_come.held), initial=total)]

    def moments(self) -> list[int]:
        override = self._to_come.override
        ends = (self._to_come.resets_in_s, override.ends_in_s if override else None)
        return [*self._ends, *(moment for moment in ends if moment is not None)]

    def has_room(self, amount: int, moment: int) -> bool:
        limit = self._limit_at(moment)
        return limit is None or self._taken_at(moment) + amount <= limit

    def left(self, moment: int) -> int | None:
        limit = self._limit_at(moment)
        return None if limit is None else max(0, limit - self._taken_at(moment))

    def _limit_at(self, moment: int) -> int | None:
        override = self._to_come.override
        if override is None or (override.ends_in_s is not None and override.ends_in_s <= moment):
            return self._limit
        return override.limit

    def _taken_at(self, moment: int) -> int:
        resets_in_s = self._to_come.resets_in_s
        if resets_in_s is not None and resets_in_s <= moment:
            return 0
        return self._to_come.used + self._held[bisect_right(self._ends, moment)]
