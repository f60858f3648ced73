"""The token of facts from PostgreSQL: what its functions need back with a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.text.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping


@value
class FactsToken:
    """*version* is the workspace's ``facts_version``: while it is the same, nothing has changed.

    *periods* has the start of each meter's current period, *until* the end of the first override that ends,
    both as PostgreSQL writes a time (``-infinity`` too), because they are only sent back.
    A database before its migration has neither.
    """

    version: int
    periods: Mapping[str, str]
    until: str | None


def token_in(token: object) -> FactsToken:
    """*token* as this store made it. TypeError for the token of another store."""
    if not isinstance(token, FactsToken):
        raise TypeError(f"the facts are not from PostgreSQL: their token is a {type(token).__name__}")
    return token
