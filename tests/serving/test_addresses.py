"""An address that cannot be had: one line, at once, and nothing was begun."""

from __future__ import annotations

import socket
from time import monotonic

import pytest

from sidecar.errors import ConfigError
from sidecar.serving.addresses import require_free
from tests.servers import free_port
from tests.serving.serving import run_to_its_end

AT_ONCE_S = 4  # gunicorn tries for five seconds, and it takes one to start Python


def lines_about(*addresses: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        require_free(addresses)
    return [problem.detail for problem in refused.value.problems]


def test_serve_on_a_taken_port_is_one_line_at_once():
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        began = monotonic()
        ended = run_to_its_end(database_url="postgresql://x/y", engine="embedded", bind=bind)
        took_s = monotonic() - began

    assert (ended.returncode, ended.stdout) == (78, "")
    assert ended.stderr == f"SIDECAR_BIND: cannot listen on {bind}: Address already in use\n"
    assert took_s < AT_ONCE_S


def test_every_address_that_cannot_be_had_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as at_path,
    ):
        at_path.bind(str(tmp_path / "taken"))
        at_path.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"

        assert lines_about(
            taken,
            f"127.0.0.1:{free_port()}",
            f"unix:{tmp_path}/taken",
            f"unix:{tmp_path}/file",
            f"unix:{tmp_path}/nowhere/s",
            "192.0.2.1:80",
        ) == [
            f"cannot listen on {taken}: Address already in use",
            f"cannot listen on unix:{tmp_path}/taken: Address already in use",
            f"cannot listen on unix:{tmp_path}/file: there is a file, which is no socket",
            f"cannot listen on unix:{tmp_path}/nowhere/s: there is no folder {tmp_path}/nowhere",
            "cannot listen on 192.0.2.1:80: Cannot assign requested address",
        ]


def test_what_a_server_that_has_ended_left_behind_is_free(tmp_path):
    left = str(tmp_path / "left")
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(left)
        ended.listen()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # first: the server's side stays in TIME_WAIT
            client.recv(1)

    require_free([f"unix:{left}", f"unix:{tmp_path}/new", f"127.0.0.1:{port}"])
