"""Whom an endpoint is for: exactly one of a few audiences."""

from __future__ import annotations

from enum import Enum


class Audience(Enum):
    """*scope* is what the token of a caller must have; None where no caller's token is asked for."""

    ANYBODY = ("anybody", None)  # open, or the endpoint itself checks who asks
    AUTHORIZE = ("callers who authorize", "authorize")
    ADMIN = ("callers who administer", "admin")
    AUDIT = ("callers who audit", "audit")
    END_USERS = ("end users", None)  # each proves by a JWT who they are
    GATEWAYS = ("gateways", None)  # which send the method and the query of their client's request

    scope: str | None

    def __init__(self, _: str, scope: str | None) -> None:
        self.scope = scope
