"""Times as reports and logs write them: RFC 3339 in UTC, with Z."""

from __future__ import annotations

from datetime import UTC, datetime


def shown_moment(at: datetime) -> str:
    """To the microsecond where there are any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment_in(text: str) -> datetime | None:
    """None of what is no time with a zone."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None
