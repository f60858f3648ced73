"""Connections are shared evenly among workers, though whoever runs already is asked first."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.serving.shares import Shares
from tests.serving.serving import serving

WORKERS = 3
CONNECTIONS = 60


def test_the_one_with_the_fewest_takes_the_next():
    shares = Shares()
    first, second = shares.new([]), None
    first.show(2)
    assert not first.others_if_one_has_fewer()  # it is alone
    second = shares.new([first])
    assert not first.others_if_one_has_fewer()  # the other takes none yet
    second.show(1)
    assert first.others_if_one_has_fewer()
    assert not second.others_if_one_has_fewer()
    second.show(2)
    assert not first.others_if_one_has_fewer()
    second.take_no_more()
    first.show(9)
    assert not first.others_if_one_has_fewer()
    assert not second.others_if_one_has_fewer()


def test_the_place_of_one_that_has_ended_is_used_again():
    shares = Shares()
    first = shares.new([])
    second = shares.new([first])
    first.show(7)
    third = shares.new([second])
    assert third.place == first.place
    second.show(3)
    assert not second.others_if_one_has_fewer()  # what the first has shown is gone


def test_workers_see_each_others_counts():
    shares = Shares()
    own = shares.new([])
    others = shares.new([own])
    own.show(1)
    child = os.fork()
    if child == 0:
        others.show(0)
        os._exit(0)
    os.waitpid(child, 0)
    assert own.others_if_one_has_fewer()


def _by_worker(pid: int, port: int) -> dict[int, int]:
    """How many connections to *port* each worker has taken."""
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    there = _established(port)
    return {child: len(there & _sockets_of(child)) for child in children}


def _established(port: int) -> set[int]:
    """Inodes of the server's side."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(line[9]) for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"}


def _sockets_of(pid: int) -> set[int]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", str(each.readlink()))
        except OSError:  # closed meanwhile
            continue
        if match:
            found.add(int(match[1]))
    return found


@pytest.fixture(scope="module")
def sidecar(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidecar")
    with serving(folder, database_url=database, engine="embedded", workers=WORKERS) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        yield sidecar


@pytest.mark.postgres
@pytest.mark.slow
def test_who_has_more_than_others_gets_no_new_ones_and_nobody_waits_for_who_is_held_up(sidecar):
    first, *others = _by_worker(sidecar.process.pid, sidecar.port)
    with ExitStack() as stack:
        began = time.monotonic()
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(CONNECTIONS):
                stack.enter_context(_answered(sidecar.port))
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)
        assert time.monotonic() - began < 5
        assert _by_worker(sidecar.process.pid, sidecar.port)[first] == CONNECTIONS
        time.sleep(0.2)  # until the others run again
        for _ in range(CONNECTIONS):
            stack.enter_context(_answered(sidecar.port))
        counts = _by_worker(sidecar.process.pid, sidecar.port)
        assert sum(counts.values()) == 2 * CONNECTIONS
        # A busy machine may hold up the others for a moment; by chance it would be a third of them.
        assert counts[first] <= CONNECTIONS + CONNECTIONS // 6, counts


def _answered(port: int) -> socket.socket:
    """A connection that has got its answer, and is kept."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(4_096).startswith(b"HTTP/1.1 200")
    return connection
