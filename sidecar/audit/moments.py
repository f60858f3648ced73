"""Moments as reports write them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment_text(moment: datetime | None) -> str | None:
    """RFC 3339 with Z, in UTC; a fraction only if there is one."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds_text(moment: datetime) -> str:
    """As moment_text, in whole seconds: for a table."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_in(text: str) -> datetime:
    """ValueError for what is no moment with a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return moment.astimezone(UTC)
