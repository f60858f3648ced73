"""Whom an endpoint is for: exactly one of a few audiences."""

from __future__ import annotations

from enum import Enum


class Audience(Enum):
    """*scopes*: the token of a caller must have one of them; none where no caller's token is asked for.

    *scope* says so in words; None where there are none.
    """

    ANYBODY = ("anybody",)  # open, or the endpoint itself checks who asks
    AUTHORIZE = ("callers who authorize", "authorize")
    ADMIN = ("callers who administer", "admin")
    AUDIT = ("callers who audit", "audit")
    READERS = ("callers who administer or audit", "admin", "audit")
    END_USERS = ("end users",)  # each proves by a JWT who they are
    EITHER = ("callers who authorize, about anybody, and end users, about themselves", "authorize")
    GATEWAYS = ("gateways",)  # which send the method and the query of their client's request

    scopes: frozenset[str]
    scope: str | None

    def __init__(self, _: str, *scopes: str) -> None:
        self.scopes = frozenset(scopes)
        self.scope = " or ".join(scopes) or None
