"""How a report was made: what auditors call its completeness and accuracy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """*at* and *as_of* are RFC 3339 with Z; *as_of* is null for now. *population* is what was looked at.

    *login* and *database* are null where no database was asked, *revision* and *catalog* where no policy was.
    """

    by: str
    command: str
    at: str
    login: str | None = None
    database: str | None = None
    as_of: str | None = None
    revision: str | None = None
    catalog: str | None = None
    engine: str | None = None
    population: Mapping[str, int] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, object]:
        return asdict(self) | {"population": dict(self.population)}
