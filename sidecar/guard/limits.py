"""RateLimit header fields: what of a quota is left, as draft-ietf-httpapi-ratelimit-headers writes it."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.guard.answers import Decision

_LARGEST = 10**15 - 1  # a whole number in a structured field


def limit_fields(decisions: Iterable[Decision]) -> list[tuple[str, str]]:
    """RateLimit-Policy and RateLimit, with one item for each meter that has a limit; none, no fields.

    If two of *decisions* have the same meter, the later one counts. `t` is when `r` grows next: at the end of
    the first reservation or of the period. There is no `w`: a month has no fixed length. And no
    `pk`: the response is about the workspace that the request names.
    """
    policies, limits = {}, {}
    for decision in decisions:
        for meter, quota in decision.quota.items():
            if quota.limit is None or quota.remaining is None:
                continue
            policies[meter] = f'"{meter}";q={min(quota.limit, _LARGEST)}'
            limits[meter] = f'"{meter}";r={min(max(quota.remaining, 0), _LARGEST)}'
            if (grows_at := quota.grows_at or quota.resets_at) is not None:
                wait_s = ceil((grows_at - decision.facts_at).total_seconds())
                limits[meter] += f";t={max(wait_s, 0)}"
    if not limits:
        return []
    return [("RateLimit-Policy", ", ".join(policies.values())), ("RateLimit", ", ".join(limits.values()))]
