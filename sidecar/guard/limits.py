"""RateLimit header fields of what the sidecar has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar import ratelimit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.guard.answers import Decision


def limit_fields(decisions: Iterable[Decision]) -> list[tuple[str, str]]:
    """As ratelimit.limit_fields, of the quotas in *decisions*."""
    return ratelimit.limit_fields((decision.quota, decision.facts_at) for decision in decisions)
