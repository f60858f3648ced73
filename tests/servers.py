"""Real servers for tests: started on a free port of this machine, and stopped whatever happens."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from sidecar.rego.lint import opa_binary as found_opa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from http.server import HTTPServer

READY_WITHIN_S = 15
_direct = build_opener(ProxyHandler({}))  # whatever proxies the environment names


def opa_binary() -> Path:
    """Skips the test where there is none; with --require-servers a skip is a failure."""
    found = found_opa()
    if found is None:
        pytest.skip("needs an opa binary on PATH or in ~/.cache/opa-bin: see docs/development.md")
    return found


def opa(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """One run of the command, whatever its exit code."""
    command = [opa_binary(), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def opa_server(
    bundle: bytes | None = None, *, port: int | None = None, options: Sequence[str] = ()
) -> Iterator[str]:
    """The URL of a server that evaluates *bundle*; without one it knows what *options* say, or no policy."""
    with opa_process(bundle, port=port, options=options) as (url, _):
        yield url


@contextmanager
def opa_process(
    bundle: bytes | None = None, *, port: int | None = None, options: Sequence[str] = ()
) -> Iterator[tuple[str, int]]:
    """As opa_server, with the process id."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="opa-") as folder:
        command = [str(opa_binary()), "run", "--server", "--log-level=error", "--skip-version-check"]
        command += [f"--addr=127.0.0.1:{port}", *options]
        if bundle is not None:
            path = Path(folder, "authz.tar.gz")
            path.write_bytes(bundle)
            command += ["--bundle", str(path)]
        process = subprocess.Popen(command)
        try:
            _wait_until_healthy(process, f"{url}/health")
            yield url, process.pid
        finally:
            process.kill()
            process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"opa ended with {process.returncode}")
        try:
            with _direct.open(url, timeout=1):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise RuntimeError(f"opa is not healthy after {READY_WITHIN_S} s")


@contextmanager
def on_a_thread(server: HTTPServer) -> Iterator[str]:
    """The URL of a server of ours, which listens on 127.0.0.1."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
