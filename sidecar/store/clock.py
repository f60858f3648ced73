"""Whether the database's clock is trusted: it advances as this machine's monotonic clock does.

docs/decisions/0048 says why.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sidecar.decisions.model import Facts
from sidecar.errors import ClockSkew, FactsMisread, UsageContended
from sidecar.store.asked import Query
from sidecar.store.facts_token import token_in
from sidecar.text.encoding import decoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.errors import SidecarError

    Row = Facts | SidecarError | None

CLOCK = Query(name=b"clock_now", sql=b"SELECT authz.clock_now()")
UNTRUSTED = "AZ042"  # what authz.distrust_clock raises
SKEWED = "AZ043"  # ditto, of our own clock

TOLERANCE_S = 300.0  # as in authz.distrust_clock
MOST_SKEW_S = 3600.0  # ditto
_DRIFT = 0.0005  # seconds a second: what NTP slews at most
_log = logging.getLogger("sidecar")


def monotonic() -> float:
    """Seconds. On Linux they go on while the machine sleeps, as the database's clock does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clock:
    """Of one worker. *count* is called for each question that is refused. From any thread.

    Until the first `compare` a worker has no advance to compare. So it compares the time, too: with *wall*,
    the machine's clock in seconds since 1970. Without one it does not.
    """

    def __init__(
        self,
        *,
        count: Callable[[], None] = lambda: None,
        now: Callable[[], float] = monotonic,
        wall: Callable[[], float] | None = time.time,
    ) -> None:
        self._count = count
        self._now = now
        self._wall = wall
        self._is_skewed = False
        self._accepted_skew_s = 0.0
        self._ahead: float | None = None  # the database's clock, of our monotonic one; seconds
        self._compared = 0.0
        self._accepted: int | None = None
        self.skew_s: float | None = None  # the database's clock less this machine's, when last compared
        self.is_apart = False

    def compare(self, answer: bytes | None) -> None:
        """*answer* is what CLOCK has just answered; FactsMisread if it is not in its contract."""
        try:
            found = decoded(answer or b"")
            at, accepted = float(found["at"]), int(found["accepted"])
        except (KeyError, TypeError, ValueError) as error:
            raise FactsMisread(f"the clock is outside its contract: {error!r} in {answer!r}") from error
        now = self._now()
        self.skew_s = at - time.time()
        if (
            self._ahead is not None and accepted != self._accepted
        ):  # an operator says that the database is right
            self._accepted_skew_s = 0.0 if self._wall is None else at - self._wall()
        if self._ahead is None or accepted != self._accepted:
            self._ahead, self._accepted = at - now, accepted
        elif not self._notice(at):
            most = _DRIFT * (now - self._compared)
            self._ahead += max(-most, min(most, at - now - self._ahead))
        self._compared = now
        self._notice(at)

    def expected(self) -> str:
        """What the database's clock should say now, as PostgreSQL reads it; empty if nobody knows."""
        return "" if self._ahead is None else self._expected().isoformat()

    def worker_at(self) -> str:
        """What this machine's clock says, as PostgreSQL reads it; empty without one."""
        if self._wall is None:
            return ""
        return datetime.fromtimestamp(self._wall() + self._accepted_skew_s, UTC).isoformat()

    def skew(self) -> ClockSkew | None:
        """To be told instead of taking anything, by the last time that the database has said."""
        if not self._is_skewed or self.is_apart:  # then UsageContended is told
            return None
        return self.skewed("the clocks of the database and of this machine are more than an hour apart")

    def skewed(self, said: str) -> ClockSkew:
        """As `refusal`, where *said* is of the two clocks."""
        self._count()
        return ClockSkew(said)

    def guard(self, rows: list[Row]) -> list[Row]:
        """*rows* of one query, with UsageContended in place of facts about a period that begins too early."""
        about = next((row for row in rows if isinstance(row, Facts)), None)
        if about is None or not self._notice(about.at.timestamp()):
            return rows
        said = f"the clock of the database says {about.at}"
        return [
            self.refusal(said) if isinstance(row, Facts) and self._begins_too_early(row) else row
            for row in rows
        ]

    def notice(self, at: datetime) -> None:
        """*at* is what the database has said of a question that no period matters to."""
        self._notice(at.timestamp())

    def refusal(self, said: str) -> UsageContended:
        """To be told instead of an answer, which is counted."""
        self._count()
        if not self.is_apart:
            self._say(said)
        return UsageContended(f"no period begins by a clock that is not trusted: {said}")

    def _notice(self, at: float) -> bool:
        """Whether *at*, the database's clock of just now, is apart from what is expected. Said once."""
        self._notice_skew(at)
        if self._ahead is None:
            return False
        off_s = at - self._now() - self._ahead
        if (is_apart := abs(off_s) > TOLERANCE_S) != self.is_apart:
            if is_apart:
                self._say(f"it is {abs(off_s):.0f} seconds {'ahead of' if off_s > 0 else 'behind'} ours")
            else:
                self.is_apart = False
                _log.info("the database's clock is trusted again")
        return is_apart

    def _notice_skew(self, at: float) -> None:
        off_s = 0.0 if self._wall is None else at - self._wall() - self._accepted_skew_s
        if (is_skewed := abs(off_s) > MOST_SKEW_S) != self._is_skewed:
            self._is_skewed = is_skewed
            if is_skewed:
                _log.warning(
                    "nothing is taken (clock_skew): the database's clock says %s, this machine's %s; correct"
                    " the one that is wrong",
                    datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
                    self.worker_at(),
                )
            else:
                _log.info("the clocks of the database and of this machine agree again")

    def _say(self, said: str) -> None:
        self.is_apart = True
        _log.warning(
            "the database's clock is not trusted, and no period begins (usage_contended): %s. It has to agree"
            " again, or if it is right: sidecar clock accept",
            said,
        )

    def _begins_too_early(self, facts: Facts) -> bool:
        expected = self._expected()
        return any(
            datetime.fromisoformat(start) > expected
            for start in token_in(facts.token).periods.values()
            if start != "-infinity"
        )

    def _expected(self) -> datetime:
        return datetime.fromtimestamp(self._now() + (self._ahead or 0.0), UTC)
