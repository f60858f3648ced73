"""`sidecar serve` as a process of its own, and a caller that speaks plain HTTP to it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from sidecar.settings import shipped
from tests.servers import free_port

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent.parent
QUESTION = {"user": "adam", "workspace": "acme", "action": "recording.start"}
_BOOTS_WITHIN_S = 90  # on a busy machine, where the embedded engine learns every cell first
LANE = os.environ.get("TEST_LANE", "on")  # off: `.ci/run` has the same tests once more, without the lane


class Sidecar:
    def __init__(
        self, process: subprocess.Popen[bytes], port: int, folder: Path, *, workers: int = 1
    ) -> None:
        self.workers = workers
        self.process = process
        self.port = port
        self.folder = folder
        self.headers: dict[str, str] = {}

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The decision log about requests, but for a line that is being written."""
        return [line for line in map(json.loads, self.log) if "request_id" in line]

    @property
    def log(self) -> list[str]:
        """All of it on standard output, but for a line that is being written."""
        return (self.folder / "stdout").read_text().rpartition("\n")[0].splitlines()

    def request(self, method, path, body=None, *, headers=(), timeout=10):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = None if body is None else json.dumps(body)
            given = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, content, given | self.headers | dict(headers))
            response = connection.getresponse()
            text = response.read()
            is_json = "json" in (response.headers["Content-Type"] or "")
            return response.status, json.loads(text) if is_json else text
        finally:
            connection.close()

    def ask(self, **fields):
        return self.request("POST", "/v1/authorize", QUESTION | fields)

    def raw(self, content: bytes, *, shut=False) -> bytes:
        """What comes back for these very bytes, until the other side closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=3) as connection:
            connection.sendall(content)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while more := connection.recv(65_536):
                    received += more
                    if b"\r\n\r\n" in received and b"Connection: close" not in received:
                        connection.settimeout(0.3)
            except TimeoutError:
                pass
            return received

    def until(self, holds, *, within_s=60.0):
        """Whether *holds* came true in time."""
        ending = monotonic() + within_s
        while monotonic() < ending:
            try:
                if holds():
                    return True
            except (OSError, http.client.HTTPException):
                pass
            sleep(0.05)
        return False

    def is_ready(self) -> bool:
        status: int = self.request("GET", "/readyz")[0]
        return status == 200 and self.is_warm()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.request("GET", "/statusz")[1]
        return found

    def is_warm(self) -> bool:
        """Every worker, whoever happens to answer, and whatever the database was published with."""
        return self.said.count("ready: revision") >= self.workers

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    given = {name: value for name, value in settings.items() if value is not None}
    given.setdefault("lane", LANE)
    inherited["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
    return inherited | {f"SIDECAR_{name.upper()}": str(value) for name, value in given.items()}


@contextmanager
def serving(
    folder: Path,
    *,
    alive: bool = True,
    port: int | None = None,
    also_at: Path | None = None,
    cwd: Path | None = None,
    before: Sequence[str] = (),
    **settings: object,
) -> Iterator[Sidecar]:
    """A sidecar on 127.0.0.1 that is stopped at the end; *alive*: once it answers that it is.

    *also_at* is a Unix socket where it listens too. A setting that is None is left out. *before* stands in
    front of the command, like ``prlimit`` with its options: it has to become the command, not to start it.
    """
    port = port or free_port()
    bind = f"127.0.0.1:{port}" + (f",unix:{also_at}" if also_at else "")
    chosen = {
        "bind": bind,
        "workers": 2,
        "threads": 4,
        "grace_s": 5,
        "plans": shipped("plans.yaml"),
    } | settings
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "tests.serving.learnt_once", "serve"],
            cwd=cwd,
            env=environment(chosen),
            stdout=stdout,
            stderr=stderr,
        )
    sidecar = Sidecar(process, port, folder, workers=int(str(chosen["workers"])))
    try:
        if alive and not sidecar.until(
            lambda: sidecar.request("GET", "/healthz")[0] == 200, within_s=_BOOTS_WITHIN_S
        ):
            raise AssertionError(f"it did not come up:\n{sidecar.said}")
        yield sidecar
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def run_to_its_end(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`sidecar serve` that is expected not to start."""
    return subprocess.run(
        [sys.executable, "-m", "sidecar", "serve", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def policies_that_read_ip(folder: Path) -> Path:
    """The shipped ones in *folder*, with a field of context: each question with it goes to the engine."""
    shutil.copytree(shipped("policies"), folder)
    [entrypoint] = [path for path in folder.rglob("*.rego") if "#   context: []" in path.read_text()]
    entrypoint.write_text(entrypoint.read_text().replace("#   context: []", "#   context: [ip]"))
    return folder
