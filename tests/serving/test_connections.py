"""The guard without a network: who goes when there is no room, and what time does to whom."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sidecar.serving import connections as guard
from sidecar.serving.connections import Connections


class Transport:
    """A transport that keeps what was done to it. *reading*, *closed*, *aborted* and *ended* are facts."""

    def __init__(self, connection):
        self.connection = connection
        self.reading = True
        self.closed = self.aborted = self.ended = False
        self.unsent = 0
        self.socket, self.peer = socket.socketpair()

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def set_write_buffer_limits(self, *, high):
        assert high == 0

    def get_write_buffer_size(self):
        return self.unsent

    def write_eof(self):
        self.ended = True

    def close(self):
        self.closed = True

    def abort(self):
        self.aborted = True

    def get_extra_info(self, _):
        return self.socket


class Reader:
    def __init__(self, connection):
        self.connection = connection
        self.timed_out = False

    def connection_made(self, transport): ...
    def connection_lost(self, exc): ...
    def pause_writing(self): ...
    def resume_writing(self): ...

    def data_received(self, data):
        assert self.connection.state != "ending"

    def time_out(self):
        self.timed_out = True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(guard, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def three(clock):
    all_of_them = Connections(3, reader=Reader)
    made: list[Any] = []  # with a transport and a reader that tell what was done to them
    for _ in range(3):
        connection = all_of_them.new()
        connection.connection_made(Transport(connection))  # type: ignore[arg-type] # ditto
        made.append(connection)
        clock[0] += 0.1
    yield all_of_them, made
    for connection in made:
        connection.transport.socket.close()
        connection.transport.peer.close()


def ask(connection):
    connection.begin_head()
    connection.begin_body()
    connection.finish_request()
    connection.begin_answer()


def tell(connection):
    connection.begin_sending()
    connection.finish_sending(more=False)


def test_a_new_one_takes_the_place_of_the_one_that_is_idle_for_longest(three):
    all_of_them, (first, second, third) = three
    ask(first)
    tell(first)  # now the last that was heard of

    assert all_of_them.make_room()
    assert [each.transport.aborted for each in (first, second, third)] == [False, True, False]


def test_a_byte_now_and_then_keeps_no_place(three):
    all_of_them, (first, second, third) = three
    first.begin_head()
    for idle in (second, third):
        ask(idle)
        tell(idle)

    assert all_of_them.make_room()
    assert first.transport.aborted


def test_there_is_no_room_only_if_all_wait_for_their_answer(three):
    all_of_them, made = three
    for connection in made:
        ask(connection)

    assert not all_of_them.make_room()
    assert not any(connection.transport.aborted for connection in made)

    tell(made[1])

    assert all_of_them.make_room()
    assert made[1].transport.aborted


def test_while_an_answer_is_due_nothing_more_is_read(three):
    _, (first, *_) = three
    ask(first)
    first.data_received(b"POST /v1/authorize HTTP/1.1\r\n")
    assert not first.transport.reading

    tell(first)
    assert first.transport.reading


@pytest.mark.parametrize(
    ("steps", "within_s"),
    [(["begin_head"], guard.HEAD_S), (["begin_head", "begin_body"], guard.BODY_S)],
)
def test_a_request_that_does_not_arrive_is_told_that_it_is_late(three, clock, steps, within_s):
    all_of_them, (first, *_) = three
    for step in steps:
        getattr(first, step)()
    began = clock[0]

    clock[0] = began + within_s - 0.1
    first.begin_head()  # another byte changes nothing
    all_of_them.sweep()
    assert not first.reader.timed_out

    clock[0] = began + within_s
    all_of_them.sweep()
    assert first.reader.timed_out


def test_an_answer_that_is_not_read_is_cut_off(three, clock):
    all_of_them, (first, *_) = three
    ask(first)
    first.begin_sending()

    clock[0] += guard.SENDING_S
    all_of_them.sweep()

    assert first.transport.aborted


def test_who_is_being_answered_is_left_alone(three, clock):
    all_of_them, (first, *_) = three
    ask(first)

    clock[0] += 3_600
    all_of_them.sweep()

    assert not first.reader.timed_out
    assert not first.transport.aborted


def test_a_connection_ends_with_the_rest_thrown_away_and_not_for_long(three, clock):
    all_of_them, (first, *_) = three
    ask(first)
    first.end()
    assert first.transport.ended
    assert first.transport.reading
    first.data_received(b"POST /v1/authorize HTTP/1.1\r\n")

    clock[0] += guard.ENDING_S
    all_of_them.sweep()

    assert first.transport.aborted


def test_who_is_silent_for_a_second_is_closed_when_the_worker_stops(three, clock):
    all_of_them, (first, second, third) = three
    ask(first)
    second.begin_head()
    all_of_them.stop()

    clock[0] += guard.SILENCE_S
    all_of_them.sweep()

    assert [each.transport.closed for each in (first, second, third)] == [False, False, True]


def test_a_request_that_the_loop_has_not_read_yet_is_not_lost(three, clock):
    all_of_them, (first, *_) = three
    all_of_them.stop()
    first.transport.peer.sendall(b"G")

    clock[0] += guard.SILENCE_S
    all_of_them.sweep()

    assert not first.transport.closed


def test_a_half_closed_peer_keeps_the_connection_until_it_has_its_answer(three):
    _, (first, second, _) = three
    ask(first)

    assert first.eof_received() is True
    assert second.eof_received() is False

    tell(first)
    assert first.transport.closed
