"""What is not whole in a decision log, and the heads by which it is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

What = Literal["edited", "removed_or_moved", "cut_off", "rewritten", "file_missing", "not_a_line", "torn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """*writer* is None where a line says none; *file* and *line* are None of what is not there."""

    writer: str | None
    file: str | None = None
    line: int | None = None
    what: What
    detail: str

    @property
    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("writer", "file", "line", "what", "detail")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A head that is known from elsewhere; *at* is None where that does not tell when."""

    number: int
    head: bytes
    at: datetime | None = None
    ended: bool = False
    removed: bool = False

    def is_by(self, until: datetime | None) -> bool:
        return until is None or self.at is None or self.at <= until
