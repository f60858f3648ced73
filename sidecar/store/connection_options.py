"""How connections to PostgreSQL are made, and how long one lives."""

from __future__ import annotations

from dataclasses import dataclass

MAX_AGE_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """*target_session_attrs* is for a URL that says none; no connection gets older than *max_age_s*."""

    max_age_s: float = MAX_AGE_S
    target_session_attrs: str = "read-write"


DEFAULT_OPTIONS = ConnectionOptions()
