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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about *word*, which is none of *known*; empty where nothing is near."""
    near = nearest(word, known)
    return f'; did you mean "{near}"?' if near else ""
