"""One question on its way through the connections, with the timings of each part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeAlias

_ASKS = b"SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, "
Done: TypeAlias = Callable[[bytes | None, Exception | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One statement that answers one value; prepared under its *name*.

    One that is not *repeatable* is never sent twice: it may have taken effect although its answer got lost.
    Of one that *changes* something it matters whether it was made when nobody answers.
    *asking* is the same with a column before it: whether the server takes no writes.
    """

    name: bytes
    sql: bytes
    repeatable: bool = True
    changes: bool = False
    asking: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asking", self.sql.replace(b"SELECT ", _ASKS, 1))


class Asked:
    """*since* is when its current step began: the wait for a session, or for the answer.

    *heard_since*: only a session that has answered since then may be used.
    """

    __slots__ = (
        "_waited_s",
        "began",
        "deadline",
        "done",
        "heard_since",
        "params",
        "query",
        "sent",
        "since",
    )

    def __init__(
        self, query: Query, params: Sequence[bytes | None], *, deadline: float, done: Done, since: float
    ) -> None:
        self.query = query
        self.params = params
        self.deadline = deadline
        self.done = done
        self.began = self.since = since
        self.heard_since = 0.0
        self.sent = False
        self._waited_s = 0.0

    def waits(self) -> None:
        self.since = monotonic()
        self.sent = False

    def is_sent(self) -> None:
        now = monotonic()
        self._waited_s += now - self.since
        self.sent = True
        self.since = now

    def seconds(self) -> tuple[float, float]:
        """How long it waited for a session, and for the server."""
        now = monotonic()
        waited_s = self._waited_s + (0.0 if self.sent else now - self.since)
        return waited_s, now - self.began - waited_s
