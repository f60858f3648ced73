"""RateLimit header fields: what of a quota is left, as draft-ietf-httpapi-ratelimit-headers writes it."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sidecar.decisions.model import Quota
    from sidecar.quota.model import Charged, Replayed

_LARGEST = 10**15 - 1  # a whole number in a structured field


def limit_fields(quotas: Mapping[str, Quota], *, at: datetime) -> list[tuple[str, str]]:
    """RateLimit-Policy and RateLimit, with one item for each meter that has a limit; none, no fields.

    *quotas* are by meter, as they were *at* that moment. `t` is when `r` grows next: at the end of the first
    reservation or of the period. There is no `w`: a month has no fixed length. And
    no `pk`: the response is about the workspace that the request names.
    """
    policies, limits = [], []
    for meter, quota in quotas.items():
        if quota.limit is None or quota.remaining is None:
            continue
        policies.append(f'"{meter}";q={min(quota.limit, _LARGEST)}')
        left = f'"{meter}";r={min(quota.remaining, _LARGEST)}'
        if (grows_at := quota.grows_at) is not None:
            left += f";t={max(ceil((grows_at - at).total_seconds()), 0)}"
        limits.append(left)
    if not limits:
        return []
    return [("RateLimit-Policy", ", ".join(policies)), ("RateLimit", ", ".join(limits))]


def with_ends(charged: Charged | Replayed, frees_at: Mapping[str, datetime]) -> Mapping[str, Quota]:
    """The quotas after a charge, with when the first reservation ends: the new one, or one before it.

    *frees_at* is when the first one ended before the charge, by meter.
    """
    if not any(quota.reserved for quota in charged.quota.values()):
        return charged.quota
    made = charged.reservation
    quotas = {}
    for meter, quota in charged.quota.items():
        ends = []
        if meter in frees_at and frees_at[meter] > charged.at:
            ends.append(frees_at[meter])
        if made is not None and made.amounts.get(meter):
            ends.append(made.expires_at)
        quotas[meter] = replace(quota, frees_at=min(ends, default=None) if quota.reserved else None)
    return quotas
