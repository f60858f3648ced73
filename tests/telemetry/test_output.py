from __future__ import annotations

import os
import socket
from threading import Thread
from time import monotonic

import pytest

from sidecar.telemetry import output as module
from sidecar.telemetry.output import Output


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


LINES = b"".join(b"%d" % number * (1 + number % 200) + b"\n" for number in range(400))
LONG = b"y" * 10_000 + b"\n"


def written_to_a_pipe(block, pipe, monkeypatch, *, own):
    """What goes out in one write each."""
    written = []
    if own:

        def write_own(descriptor, piece, size):
            written.append(piece)
            return os.write(descriptor, piece)

        monkeypatch.setattr(module, "_keeping_write", write_own)
    else:
        monkeypatch.setattr(module, "_opened_again", lambda _: None)
        real = os.write

        def write(descriptor, piece):
            written.append(piece)
            return real(descriptor, piece)

        monkeypatch.setattr(os, "write", write)
    output = Output(pipe[1])
    read = []
    reader = Thread(target=lambda: read.append(_all(pipe[0], len(block))))
    reader.start()
    assert output.write(block, "") == len(block)
    reader.join(timeout=10)
    output.close()
    assert read == [block]
    return written


def _all(reading, size):
    read = b""
    while len(read) < size:
        read += os.read(reading, 1 << 20)
    return read


@pytest.mark.parametrize("own", [True, False])
def test_to_a_pipe_whole_lines_go_out_up_to_4096_bytes_a_write(pipe, monkeypatch, own):
    written = written_to_a_pipe(LINES, pipe, monkeypatch, own=own)

    assert all(piece.endswith(b"\n") and len(piece) <= 4096 for piece in set(written))
    assert len(set(written)) <= len(LINES) / 3_000  # each as full as it may be


def test_a_line_that_is_longer_is_written_alone(pipe, monkeypatch):
    written = written_to_a_pipe(b"a\nb\n" + LONG + b"c\n", pipe, monkeypatch, own=True)

    assert written == [b"a\nb\n", LONG, b"c\n"]


def test_a_file_takes_all_in_one_write(tmp_path, monkeypatch):
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    written = []
    real = os.write

    def write(descriptor, piece):
        written.append(len(piece))
        return real(descriptor, piece)

    monkeypatch.setattr(os, "write", write)

    assert Output(descriptor).write(LINES, "") == len(LINES)

    os.close(descriptor)
    assert written == [len(LINES)]
    assert (tmp_path / "log").read_bytes() == LINES


def test_without_an_open_file_of_its_own_a_full_pipe_is_left_at_the_end(pipe, monkeypatch):
    monkeypatch.setattr(module, "_opened_again", lambda _: None)
    output = Output(pipe[1])
    output.ends_at = monotonic() + 0.2

    written = output.write(LINES * 10, "")

    assert 0 <= monotonic() - output.ends_at < 0.5
    assert os.read(pipe[0], 1 << 20) == (LINES * 10)[:written]
    assert LINES[:written].endswith(b"\n") or written > len(LINES)


def test_a_socket_takes_lines_too_and_its_end_is_an_error():
    ours, theirs = socket.socketpair()
    output = Output(ours.fileno())
    assert output.write(b"a\nb\n", "") == 4
    assert theirs.recv(100) == b"a\nb\n"

    theirs.close()

    assert output.write(b"a\nb\n", "") == 0
    ours.close()


def test_a_full_device_takes_nothing():
    descriptor = os.open("/dev/full", os.O_WRONLY)

    written = Output(descriptor).write(LINES, "")

    os.close(descriptor)
    assert written == 0
