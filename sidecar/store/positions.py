"""How old a replica's facts are: proven by what the primary had written, and when it was asked for that.

docs/decisions/0074 says why this is a proof, and why nothing else is.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf

import msgspec
from msgspec import Raw, Struct

from sidecar.errors import FactsMisread

KEPT_S = 60.0  # a replica that is further behind is only said to be so
UNASKED = "primary"
MOST_APART_S = 1.0  # of two clocks: what ends by time ends by the clock of whoever answers


class Written(Struct, array_like=True, gc=False):
    """What authz.written_now answers."""

    position: int
    system: str
    epoch: str | None
    clock: float


class Replayed(Struct, array_like=True):
    """What authz.replayed_facts answers; without a *position* it is no replica."""

    position: int | None
    system: str
    epoch: str | None
    clock: float
    facts: Raw


_WRITTEN = msgspec.json.Decoder(Written)
_REPLAYED = msgspec.json.Decoder(Replayed)
_NOT_TYPED = (msgspec.DecodeError, UnicodeDecodeError)


def written_in(answer: bytes | None) -> Written:
    """FactsMisread."""
    try:
        return _WRITTEN.decode(answer or b"")
    except _NOT_TYPED as error:
        raise FactsMisread(f"what was written is outside its contract: {error}") from error


def replayed_in(answer: bytes | None) -> Replayed:
    """FactsMisread."""
    try:
        return _REPLAYED.decode(answer or b"")
    except _NOT_TYPED as error:
        raise FactsMisread(f"what was replayed is outside its contract: {error}") from error


class Unproven(Exception):
    """Why a replica's facts do not count: *code* is a word for it, the text says it in full."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(said)
        self.code = code


class Positions:
    """What one primary has written, in the order in which it was asked. Times are on the monotonic clock.

    Facts count if they are no older than *most_lag_s*, in seconds.
    """

    def __init__(self, *, most_lag_s: float) -> None:
        self.most_lag_s = most_lag_s
        self._positions: list[int] = []  # rising, as the times do
        self._asked_at: list[float] = []
        self._whose: tuple[str, str] | None = None  # system and epoch
        self._clock_ahead_s = 0.0

    def note(self, written: Written, *, asked_at: float, now: float) -> None:
        """It was asked for then, and has come *now*."""
        whose = None if written.epoch is None else (written.system, written.epoch)
        if whose != self._whose or (self._positions and written.position < self._positions[-1]):
            self._positions.clear()
            self._asked_at.clear()
            self._whose = whose
        self._clock_ahead_s = written.clock - (asked_at + now) / 2
        if self._positions and self._positions[-1] == written.position:
            self._asked_at[-1] = asked_at  # nothing was written meanwhile
            return
        self._positions.append(written.position)
        self._asked_at.append(asked_at)
        if self._asked_at[0] < now - 2 * KEPT_S:
            old = bisect_right(self._asked_at, now - KEPT_S)
            del self._positions[:old], self._asked_at[:old]

    def are_fresh(self, now: float) -> bool:
        """Whether any replica can prove anything now: the primary has answered lately."""
        return bool(self._asked_at) and now - self._asked_at[-1] <= self.most_lag_s

    def age_of(self, replayed: Replayed, *, now: float) -> float:
        """Nothing that was committed so many seconds ago is lacking in the facts; inf if that is not known.

        Unproven if they do not count, whatever their age.
        """
        if replayed.position is None:
            raise Unproven("writes", "it takes writes, so it is no replica (any more)")
        if self._whose is None:
            raise Unproven(UNASKED, "the primary has not begun an epoch")
        if replayed.system != self._whose[0]:
            raise Unproven("stranger", "it belongs to another cluster (its system identifier differs)")
        if replayed.epoch != self._whose[1]:
            raise Unproven(
                "epoch", "it follows another primary or timeline, or has not replayed that this one has begun"
            )
        if (apart_s := abs(replayed.clock - now - self._clock_ahead_s)) > MOST_APART_S:
            raise Unproven("clock", f"its clock is {apart_s:.1f} s apart from the primary's")
        passed = bisect_right(self._positions, replayed.position)
        return now - self._asked_at[passed - 1] if passed else inf

    def require_fresh(self, replayed: Replayed, *, now: float) -> float:
        """As `age_of`. Unproven too if that is too long, or (UNASKED) the primary has said nothing lately."""
        if not self.are_fresh(now):
            raise Unproven(UNASKED, "the primary has not said what it has written lately")
        age_s = self.age_of(replayed, now=now)
        if age_s > self.most_lag_s:
            behind = "" if age_s == inf else f" (by {age_s * 1000:.0f} ms)"
            raise Unproven("behind", f"it is further behind than SIDECAR_FACTS_MAX_LAG_MS allows{behind}")
        return age_s
