from __future__ import annotations

import socket
import time

import pytest

from sidecar.guard.sockets import TimedSocket


def test_bytes_that_have_arrived_are_not_read_after_the_deadline():
    ours, theirs = socket.socketpair()
    with TimedSocket(fileno=ours.detach()) as timed, theirs:
        timed.settimeout(0.01)
        theirs.sendall(b"late")
        time.sleep(0.02)

        with pytest.raises(TimeoutError):
            timed.recv_into(bytearray(4))
