"""One call of the ledger on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from sidecar.quota.model import Charge
    from sidecar.store.charges import Row
    from sidecar.store.connections import Query
    from sidecar.store.names import ParamsOf

Done: TypeAlias = Callable[[Any, Exception | None], None]


class Take:
    """What *done* is to be called with, once and later: an outcome or an error.

    Of all with the same *where* only one waits for a lock. *query* is how PostgreSQL is asked, with what
    *alone* makes of the names that are stored; *read* makes the outcome of the JSON that comes, in our names.
    With a *row* it is a plain consume of *charge*, which is tried first, and may be in a group; without one
    it is not, or not any more.
    """

    __slots__ = (
        "alone",
        "began",
        "charge",
        "deadline",
        "done",
        "gives_up_at",
        "query",
        "read",
        "resent",
        "row",
        "waits",
        "where",
    )

    def __init__(
        self,
        where: object,
        query: Query,
        alone: ParamsOf,
        read: Callable[[Any], object],
        /,
        *,
        deadline: float,
        done: Done,
        charge: Charge | None = None,
        row: Row | None = None,
    ) -> None:
        self.where = where
        self.query = query
        self.alone = alone
        self.read = read
        self.deadline = deadline
        self.done = done
        self.charge = charge
        self.row = row
        self.began = monotonic()
        self.gives_up_at = inf  # waiting for locks
        self.resent = False
        self.waits = True

    @property
    def has_key(self) -> bool:
        return self.charge is not None and self.charge.key is not None

    def tell(self, outcome: object) -> None:
        self._end(outcome, None)

    def fail(self, error: Exception) -> None:
        self._end(None, error)

    def _end(self, outcome: object, error: Exception | None) -> None:
        """Whoever was told already, at their deadline, is not told again."""
        if self.waits:
            self.waits = False
            asyncio.get_running_loop().call_soon(self.done, outcome, error)
