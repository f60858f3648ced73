"""toxiproxy, a real proxy that makes a network bad: a server of it, and what it stands between."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path.home() / ".cache" / "toxiproxy-bin" / "toxiproxy-server"
STARTS_WITHIN_S = 10
_direct = build_opener(ProxyHandler({}))


def binary() -> Path:
    """Skips the test where there is none; with --require-servers a skip is a failure."""
    found = shutil.which("toxiproxy-server") or (str(CACHE) if CACHE.exists() else None)
    if found is None:
        pytest.skip("needs toxiproxy-server on PATH or in ~/.cache/toxiproxy-bin: see docs/development.md")
    return Path(found)


class Toxiproxy:
    """Its API, which is at *url*."""

    def __init__(self, url: str) -> None:
        self._url = url

    def between(self, name: str, upstream: str) -> Link:
        """*upstream* is host:port."""
        port = free_port()
        self.call("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{port}", "upstream": upstream})
        return Link(self, name, port)

    def call(self, method: str, path: str, body: object = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        with _direct.open(Request(self._url + path, data=content, method=method), timeout=10) as response:  # noqa: S310 - http, ours
            return json.load(response) if response.status == 200 else None


class Link:
    """What two talk through; *port* is where it listens."""

    def __init__(self, proxy: Toxiproxy, name: str, port: int) -> None:
        self._proxy, self._name, self.port = proxy, name, port

    @contextmanager
    def poisoned(self, kind: str, **attributes: int) -> Iterator[None]:
        """A toxic of this kind on what comes and on what goes."""
        for stream in ("upstream", "downstream"):
            toxic = {"name": stream, "type": kind, "stream": stream, "attributes": attributes}
            self._proxy.call("POST", f"/proxies/{self._name}/toxics", toxic)
        try:
            yield
        finally:
            for stream in ("upstream", "downstream"):
                self._proxy.call("DELETE", f"/proxies/{self._name}/toxics/{stream}")

    @contextmanager
    def down(self) -> Iterator[None]:
        """Connections are closed, and new ones refused."""
        self._proxy.call("POST", f"/proxies/{self._name}", {"enabled": False})
        try:
            yield
        finally:
            self._proxy.call("POST", f"/proxies/{self._name}", {"enabled": True})


@contextmanager
def toxiproxy() -> Iterator[Toxiproxy]:
    port = free_port()
    process = subprocess.Popen(
        [binary(), "-host", "127.0.0.1", "-port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    proxy = Toxiproxy(f"http://127.0.0.1:{port}")
    try:
        deadline = monotonic() + STARTS_WITHIN_S
        while monotonic() < deadline:
            with suppress(URLError):
                proxy.call("GET", "/version")
                break
            sleep(0.05)
        yield proxy
    finally:
        process.kill()
        process.wait()
