"""Lists that any thread appends to and one takes all from, without a lock."""

from __future__ import annotations

from typing import TypeVar

_Item = TypeVar("_Item")


def taken_from(waiting: list[_Item]) -> list[_Item]:
    """All items until now; what other threads append meanwhile stays for the next time."""
    # Not swapped for a new list: who has just looked up the old one would append to it afterwards.
    taken = waiting[:]
    del waiting[: len(taken)]
    return taken
