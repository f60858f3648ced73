"""The word that somebody may have meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """None where nothing is near."""
    near = get_close_matches(word, list(known), n=1)
    return near[0] if near else None
