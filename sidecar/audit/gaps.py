"""What a decision log lacks, and what a database knows that must stand in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

Source = Literal["writer", "usage_ledger", "outbox", "history", "unaccounted", "policy_history"]
OF_THE_DATABASE: tuple[Source, ...] = ("usage_ledger", "outbox", "history", "unaccounted", "policy_history")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """*id* is that of a row of the database."""

    source: Source
    detail: str
    writer: str | None = None
    decision_id: str | None = None
    id: int | None = None

    @property
    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("source", "writer", "decision_id", "id", "detail")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row of the outbox, of what a user changed."""

    id: int
    at: datetime
    actor: str
    decision_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A digest of the history, hexadecimal: as it was made, and of the rows as they are now."""

    id: int
    at: datetime
    rows: int
    sha256: str
    rows_now: int
    sha256_now: str
    pruned: bool
