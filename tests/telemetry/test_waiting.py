from __future__ import annotations

from sidecar.telemetry.waiting import taken_from


class Busy(list[int]):
    """Somebody else appends whenever it is read."""

    def __getitem__(self, which):
        found = super().__getitem__(which)
        self.append(100)
        return found


def test_what_is_appended_while_the_rest_is_taken_stays_for_the_next_time():
    waiting = Busy([1, 2, 3])

    assert taken_from(waiting) == [1, 2, 3]
    assert list(waiting) == [100]


def test_of_nothing_nothing_is_taken():
    assert taken_from([]) == []
