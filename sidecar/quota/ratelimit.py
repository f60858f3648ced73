"""RateLimit header fields: what of a quota is left, as draft-ietf-httpapi-ratelimit-headers writes it."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sidecar.decisions.model import Quota

_LARGEST = 10**15 - 1  # a whole number in a structured field


def limit_fields(quotas: Mapping[str, Quota], *, at: datetime) -> list[tuple[str, str]]:
    """RateLimit-Policy and RateLimit, with one item for each meter that has a limit; none, no fields.

    *quotas* are by meter, as they were *at* that moment. There is no `w`: a month has no fixed length, and
    what counts is when it ends, which is `t`. And no `pk`: the response is about the workspace that the
    request names.
    """
    policies, limits = [], []
    for meter, quota in quotas.items():
        if quota.limit is None or quota.remaining is None:
            continue
        policies.append(f'"{meter}";q={min(quota.limit, _LARGEST)}')
        left = f'"{meter}";r={min(quota.remaining, _LARGEST)}'
        if quota.resets_at is not None:
            left += f";t={max(ceil((quota.resets_at - at).total_seconds()), 0)}"
        limits.append(left)
    if not limits:
        return []
    return [("RateLimit-Policy", ", ".join(policies)), ("RateLimit", ", ".join(limits))]
