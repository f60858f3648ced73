"""RateLimit header fields: what of a quota is left, as draft-ietf-httpapi-ratelimit-headers writes it."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_LARGEST = 10**15 - 1  # a whole number in a structured field


class Quota(Protocol):
    """One meter; None of *limit* and *remaining* is unlimited, of *resets_at* never."""

    @property
    def limit(self) -> int | None: ...
    @property
    def remaining(self) -> int | None: ...
    @property
    def resets_at(self) -> datetime | None: ...


def limit_fields(quotas: Iterable[tuple[Mapping[str, Quota], datetime]]) -> list[tuple[str, str]]:
    """RateLimit-Policy and RateLimit, with one item for each meter that has a limit; none, no fields.

    *quotas* are by meter, each with the moment that they are of. Where two tell of one meter the later does.
    There is no `w`: a month has no fixed length, and what counts is when it ends, which is `t`. And no
    `pk`: the response is about the workspace that the request names.
    """
    policies, limits = {}, {}
    for meters, at in quotas:
        for meter, quota in meters.items():
            if quota.limit is None or quota.remaining is None:
                continue
            policies[meter] = f'"{meter}";q={min(quota.limit, _LARGEST)}'
            limits[meter] = f'"{meter}";r={min(max(quota.remaining, 0), _LARGEST)}'
            if quota.resets_at is not None:
                wait_s = ceil((quota.resets_at - at).total_seconds())
                limits[meter] += f";t={max(wait_s, 0)}"
    if not limits:
        return []
    return [("RateLimit-Policy", ", ".join(policies.values())), ("RateLimit", ", ".join(limits.values()))]
