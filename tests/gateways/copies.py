"""Headers that a gateway writes, or that a backend may believe it has written."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTITY = ("X-Authz-User", "X-Authz-Workspace", "X-Authz-Role", "X-Authz-Plan", "X-Authz-Decision-Id")
FORWARDED = tuple(
    f"X-Forwarded-{each}" for each in ("For", "Host", "Proto", "Port", "Prefix", "Server", "Uri", "Method")
)
COPIES = (
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Request-Key",
    *FORWARDED,
    *IDENTITY,
    "X-Authz-Status",
    "X-Authz-Reason",
)


def forms_of(name: str) -> Iterator[str]:
    """Every mixture of - and _ that a backend may take for *name*."""
    first, *words = name.split("-")
    for dividers in product("-_", repeat=len(words)):
        yield first + "".join(divider + word for divider, word in zip(dividers, words, strict=True))
