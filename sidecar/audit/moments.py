"""Times as reports and logs write them: RFC 3339 in UTC, with Z."""

from __future__ import annotations

from datetime import UTC, datetime


def moment_text(moment: datetime | None) -> str | None:
    """As shown_moment; None for None."""
    return None if moment is None else shown_moment(moment)


def shown_moment(moment: datetime) -> str:
    """To the microsecond where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds_text(moment: datetime) -> str:
    """In whole seconds: for a table."""
    return f"{moment.astimezone(UTC).isoformat()[:19]}Z"


def moment_in(text: str) -> datetime | None:
    """None of what is no time with a zone."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def is_between(text: str, since: datetime | None, until: datetime | None) -> bool:
    """Whether *text* is a time from *since* on and before *until*; None is no bound."""
    moment = moment_in(text)
    return moment is not None and (since is None or moment >= since) and (until is None or moment < until)
