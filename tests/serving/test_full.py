"""More connections than there may be, or than there are descriptors: who waits makes room for who comes."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path
from time import sleep

import pytest

from tests.serving.meanwhile import ASK, HEALTH, Others
from tests.serving.peers import Peers, sends, silent, slow_body, slow_head
from tests.serving.processes import at_most, children_of, descriptors_of
from tests.serving.serving import serving
from tests.serving.stand import WELL, in_time, seen_by, warm_up
from tests.serving.talk import talking
from tests.store.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]


def a_sidecar(stack, folder, *, before=(), **settings):
    sidecar = stack.enter_context(serving(folder, before=before, workers=1, **settings))
    assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
    [worker] = children_of(sidecar.process.pid)
    warm_up(sidecar)
    return sidecar, worker


@pytest.fixture(scope="module")
def small(database, opa, tmp_path_factory):
    """One worker with room for 20 connections, and its process."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("small")
        settings = {"database_url": database, "opa_url": opa.url, "deadline_ms": 1_000, "connections": 20}
        yield a_sidecar(stack, folder, **settings)


@pytest.mark.parametrize(
    ("what", "peers"),
    {
        "connect and say nothing": [silent()] * 100,
        "send a head slowly": [slow_head(0.5)] * 100,
        "send a body slowly": [slow_body(0.5)] * 100,
        "have been answered and keep the connection": [sends(ASK)] * 100,
    }.items(),
)
def test_others_are_answered_while_many(small, what, peers):
    sidecar, worker = small
    before = descriptors_of(worker)

    def watched():
        # Not all in one moment: then whoever has just been answered would be the longest idle.
        with (
            Others(sidecar.port, kept=3, fresh=2) as others,
            Peers(sidecar.port, *peers, every_s=0.015) as flood,
        ):
            sleep(2.0)
            assert sum(line.ended_s is None for line in flood.lines) <= 20
            assert descriptors_of(worker) <= before + 20 + 4  # those that are just being opened or closed
        return others

    assert seen_by(in_time(watched)) == WELL
    assert children_of(sidecar.process.pid) == {worker}
    # One more for the log's first anchor, which is kept in the database.
    assert sidecar.until(lambda: descriptors_of(worker) <= before + 2, within_s=5)


def asked(port, content=HEALTH):
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(content)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    return connection


def is_open(connection):
    connection.settimeout(0)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_who_has_been_idle_longest_makes_room(small):
    sidecar, _ = small
    with ExitStack() as stack:
        kept = [stack.enter_context(asked(sidecar.port)) for _ in range(20)]
        for each in kept[:5]:  # the first five ask again: they are idle no longer than the last
            each.sendall(HEALTH)
            assert each.recv(65_536)
        new = [stack.enter_context(asked(sidecar.port)) for _ in range(5)]
        sleep(0.2)

        assert [is_open(each) for each in kept] == [True] * 5 + [False] * 5 + [True] * 10
        assert all(map(is_open, new))


def test_who_is_being_answered_is_not_closed_for_anybody(database, opa, tmp_path):
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(database))
        settings = {"database_url": proxy.url, "opa_url": opa.url, "deadline_ms": 2_500}
        sidecar, _ = a_sidecar(stack, tmp_path, connections=20, grace_s=1, **settings)
        proxy.silent = True
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", sidecar.port), timeout=6))
            for _ in range(20)
        ]
        for each in waiting:
            each.sendall(ASK)
        sleep(0.7)

        with talking(sidecar) as too_many:
            too_many.send(HEALTH)
            refusal = too_many.answer_if_any("GET")
        answers = [each.recv(65_536) for each in waiting]

    assert refusal is None or (refusal.status, refusal.closes) == (503, True)
    assert {answer.split(b" ", 2)[1] for answer in answers} == {b"503"}


def test_the_default_has_room_for_two_thousand_and_is_full_as_well(database, opa, tmp_path):
    with ExitStack() as stack:
        settings = {"database_url": database, "opa_url": opa.url, "deadline_ms": 1_000}
        sidecar, _ = a_sidecar(stack, tmp_path, **settings)
        with Others(sidecar.port) as others, Peers(sidecar.port, *[silent()] * 2_500) as flood:
            sleep(3)
            held = sum(line.ended_s is None for line in flood.lines)

    # To connect 2,500 at once takes the kernel's queue and a moment of its own.
    assert seen_by(others, p99_s=1.0) == WELL
    assert 1_900 < held <= 2_000


def limit_of(pid):
    [line] = [each for each in Path(f"/proc/{pid}/limits").read_text().splitlines() if "open files" in each]
    soft, hard = re.findall(r"[0-9]+", line)
    return int(soft), int(hard)


def test_the_soft_limit_of_descriptors_is_raised(database, opa, tmp_path):
    with ExitStack() as stack:
        before = ("prlimit", "--nofile=256:4096")
        sidecar, worker = a_sidecar(stack, tmp_path, before=before, database_url=database, opa_url=opa.url)

        assert limit_of(worker) == (4_096, 4_096)
        assert "SIDECAR_CONNECTIONS" not in sidecar.said  # there is room


def test_fewer_descriptors_are_fewer_connections_and_it_says_so(database, opa, tmp_path):
    with ExitStack() as stack:
        before = ("prlimit", "--nofile=200:200")
        settings = {"database_url": database, "opa_url": opa.url, "deadline_ms": 1_000}
        sidecar, worker = a_sidecar(stack, tmp_path, before=before, **settings)
        with (
            Others(sidecar.port, kept=3, fresh=2) as others,
            Peers(sidecar.port, *[silent()] * 400, every_s=0.004),
        ):
            sleep(2.0)

        [said] = [line for line in sidecar.said.splitlines() if "SIDECAR_CONNECTIONS" in line]
        assert seen_by(others) == WELL
        assert children_of(sidecar.process.pid) == {worker}
        assert "200" in said
        assert "Traceback" not in sidecar.said


def test_no_descriptors_are_no_end(small):
    """Whoever is connected is answered; those who wait without a word make room for one another."""
    sidecar, worker = small

    with Others(sidecar.port, kept=3, fresh=0) as others:
        few = max(int(each.name) for each in Path(f"/proc/{worker}/fd").iterdir()) + 6
        with at_most(few, worker), Peers(sidecar.port, *[silent()] * 15, every_s=0.05):
            began = processor_s(worker)
            sleep(1.5)
            spent_s = processor_s(worker) - began
        assert sidecar.until(lambda: sidecar.request("GET", "/healthz")[0] == 200, within_s=5)

    assert set(others.seen.answers) == {"200"}
    assert others.seen.lost == []
    assert spent_s < 1.0  # it does not try without a pause
    assert children_of(sidecar.process.pid) == {worker}


def processor_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
