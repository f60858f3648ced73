"""What a report cannot be about."""

from __future__ import annotations


class Misasked(Exception):
    """A name, a moment or an amount that is none; the text says which, and what to do."""
