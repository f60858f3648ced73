"""A burst ends with the first turn of the loop that brings nothing more, and never lasts long."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.store.burst import MOST_TURNS, Burst

ENOUGH = 100


class Stage:
    """A loop whose turns are called by hand, and those who wait."""

    def __init__(self):
        self.soon: list[Any] = []
        self.waiting = 0
        self.sent: list[int] = []
        self.burst = Burst(lambda: self.waiting, self.send, enough=ENOUGH)

    def send(self):
        self.sent.append(self.waiting)
        self.waiting = 0

    def call_soon(self, call, *what):
        self.soon.append((call, what))

    def come(self, many=1):
        loop: Any = self
        self.waiting += many
        self.burst.begin(loop)

    def turn(self):
        due, self.soon = self.soon, []
        for call, what in due:
            call(*what)


@pytest.fixture
def stage():
    return Stage()


def test_one_alone_goes_with_the_next_turn(stage):
    stage.come()
    assert stage.sent == []
    stage.turn()
    assert stage.sent == [1]


def test_what_came_in_the_same_turn_waits_for_nothing_more(stage):
    stage.come()
    stage.come()
    stage.come()
    # The first saw one, so that the two behind it are news: one turn shows that there is no more.
    stage.turn()
    stage.turn()
    assert stage.sent == [3]


def test_those_of_the_turns_after_it_go_along(stage):
    for _ in range(3):
        stage.come()
        stage.come()
        stage.turn()
    stage.turn()
    assert stage.sent == [6]


def test_the_next_burst_begins_anew(stage):
    stage.come()
    stage.turn()
    stage.come()
    stage.turn()
    assert stage.sent == [1, 1]
    assert stage.soon == []


def test_it_ends_although_somebody_comes_with_each_turn(stage):
    turns = 0
    stage.come()
    while not stage.sent:
        stage.come()
        stage.turn()
        turns += 1
    assert turns == MOST_TURNS + 1


def test_it_ends_at_once_when_there_are_enough(stage):
    stage.come()
    stage.come(ENOUGH)
    stage.turn()
    assert stage.sent == [1 + ENOUGH]


def test_those_who_have_gone_meanwhile_hold_it_up_no_longer(stage):
    stage.come(5)
    stage.waiting = 2
    stage.turn()
    assert stage.sent == [2]
