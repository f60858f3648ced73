"""The meters of a workspace as bars: used, held, limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.decisions.room import quotas_of

if TYPE_CHECKING:
    from datetime import datetime

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts

_NEARLY_FULL = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """*limit* and *left* of None are unlimited; *level* says in a word how full it is."""

    meter: str
    used: int
    held: int
    limit: int | None
    left: int | None
    resets_at: datetime | None
    level: str


def bars_of(facts: Facts, catalog: Catalog) -> list[Bar]:
    return [
        Bar(
            meter=meter,
            used=quota.used,
            held=quota.reserved,
            limit=quota.limit,
            left=quota.remaining,
            resets_at=quota.resets_at,
            level=_level(quota.used + quota.reserved, quota.limit),
        )
        for meter, quota in quotas_of(catalog.meters, facts, catalog=catalog).items()
    ]


def _level(taken: int, limit: int | None) -> str:
    if limit is None:
        return "unlimited"
    if taken > limit:
        return "over"
    if taken == limit:
        return "full"
    return "nearly full" if taken >= _NEARLY_FULL * limit else "room"
