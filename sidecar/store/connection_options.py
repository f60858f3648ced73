"""How connections to PostgreSQL are made, and how long one lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Pooler: TypeAlias = Literal["transaction", "session", "off"]
MAX_AGE_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """*target_session_attrs* is for a URL that says none; no connection gets older than *max_age_s*.

    *pooler* is how one that stands between gives out sessions of the server. With `transaction` nothing is
    set at the start of a session, nor prepared by name: the login itself must have the role and timeouts.
    """

    pooler: Pooler = "off"
    max_age_s: float = MAX_AGE_S
    target_session_attrs: str = "read-write"


DEFAULT_OPTIONS = ConnectionOptions()
