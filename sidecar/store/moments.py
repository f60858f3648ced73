"""Times as PostgreSQL writes them: those that Python cannot hold become the first or the last that it can."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_AFTER = re.compile(r"infinity|[0-9]{5,}-.*", re.ASCII)
_BEFORE = re.compile(r"-infinity|.* BC|0001-01-01.*", re.ASCII)


def moment_of(text: str) -> datetime:
    """In UTC. PostgreSQL holds years from 4713 BC to 294276, and infinity; SQL may have stored any of them.

    ValueError for what is no time.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        if _BEFORE.fullmatch(text):
            return _FIRST
        if _AFTER.fullmatch(text) or isinstance(error, OverflowError):
            return _LAST
        raise


def moment_or_none(text: str | None) -> datetime | None:
    """As `moment_of`; None of NULL."""
    return None if text is None else moment_of(text)
