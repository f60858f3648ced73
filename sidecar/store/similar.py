"""Spellings of a slug that differ by one letter: what somebody may have meant."""

from __future__ import annotations

from difflib import get_close_matches
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTERS = f"{ascii_lowercase}{digits}-"
_LONGEST = 63  # of a slug


def slug_asked_for(workspace: str) -> str | None:
    """In the letters of a slug; None for what is too long to be nearly one."""
    asked = workspace.strip().lower().replace(" ", "-").replace("_", "-")
    return asked if 0 < len(asked) <= _LONGEST + 1 and asked.isascii() else None


def spellings_near(asked: str) -> list[str]:
    """*asked* itself, and every text with one letter more, less, other or exchanged with its neighbour."""
    parts = [(asked[:place], asked[place:]) for place in range(len(asked) + 1)]
    near = {asked}
    near.update(before + after[1:] for before, after in parts if after)
    near.update(before + after[1] + after[0] + after[2:] for before, after in parts if len(after) > 1)
    near.update(before + letter + after[1:] for before, after in parts if after for letter in _LETTERS)
    near.update(before + letter + after for before, after in parts for letter in _LETTERS)
    return sorted(near)


def nearest_slug(asked: str, found: Sequence[str]) -> str | None:
    """Of those that were *found*: the nearest, however long its suffix is."""
    near = get_close_matches(asked, found, n=1, cutoff=0.0)
    return near[0] if near else None
