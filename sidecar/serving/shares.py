"""How many connections each worker has, so that the one with the fewest takes the next.

The kernel wakes all workers for a new connection, and whoever runs already takes it: one worker could get all
of them, and gateways keep theirs for hours.
"""

from __future__ import annotations

from mmap import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 1_024  # workers at a time, of all generations
_SIZE = 4  # bytes of a number


class Shares:
    """Of all workers of one master, in memory that they share: made before the first fork.

    The first number says how many of the others are in use. Of each worker there is how many connections it
    has, and one; 0 where it takes none.
    """

    def __init__(self) -> None:
        self._numbers = memoryview(mmap(-1, _SIZE * (_MOST + 1))).cast("I")

    def new(self, others: Iterable[Share]) -> Share:
        """For a worker that is forked next, beside the *others* that live."""
        taken = {share.place for share in others}
        place = next(number for number in range(1, _MOST + 1) if number not in taken)
        self._numbers[0] = max({place, *taken})
        share = Share(self._numbers, place)
        share.take_no_more()
        return share


class Share:
    """One worker's."""

    def __init__(self, numbers: memoryview[int], place: int) -> None:
        self._numbers = numbers
        self.place = place

    def show(self, connections: int) -> None:
        """It takes new ones, and has so many."""
        self._numbers[self.place] = connections + 1

    def take_no_more(self) -> None:
        self._numbers[self.place] = 0

    def others_if_one_has_fewer(self) -> list[int]:
        """What each worker shows, 0 for this one, if one that takes new ones has fewer; else nothing."""
        own = self._numbers[self.place]
        numbers = self._numbers[1 : self._numbers[0] + 1].tolist()
        if not any(0 < number < own for number in numbers):
            return []
        numbers[self.place - 1] = 0
        return numbers
