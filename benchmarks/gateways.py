"""What it costs to ask at the gateway: each endpoint, Envoy's gRPC, and nginx with and without asking."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import grpc
import jwt
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc

from benchmarks.load import Figures, run_wrk
from tests.gateways.processes import KINDS, binary_of, files_of
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

USERS = 1_000
CONNECTIONS = (1, 16)
SECRET = "a-secret-of-the-benchmark-of-32-characters"  # noqa: S105 - of this machine, for some minutes
ISSUER, AUDIENCE = "https://idp.example.com", "authenticated"
HOLDS_S = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    connections: int
    figures: Figures


def settings(folder: Path) -> dict[str, str]:
    """Of a sidecar that knows the users of `write_users`."""
    path = folder / "secret"
    path.write_text(SECRET)
    return {
        "SIDECAR_JWT_KEYS": f"hs256:{path}",
        "SIDECAR_JWT_ISSUER": ISSUER,
        "SIDECAR_JWT_AUDIENCE": AUDIENCE,
    }


def write_users(path: Path, *, workspaces: int) -> None:
    exp = int(time.time()) + HOLDS_S
    lines = []
    for n in range(USERS):
        workspace = n * workspaces // USERS
        claims = {"sub": f"u{workspace}-{n % 5}", "iss": ISSUER, "aud": AUDIENCE, "exp": exp}
        lines.append(f"w{workspace} {jwt.encode(claims, SECRET, 'HS256')}")
    path.write_text("\n".join(lines) + "\n")


def rows(folder: Path, *, sidecar: int, grpc_port: int, seconds: int, workspaces: int) -> Iterator[Row]:
    users = folder / "users"
    write_users(users, workspaces=workspaces)

    def load(port: int, dialect: str) -> Callable[[int], Figures]:
        url = f"http://127.0.0.1:{port}"
        environ = {"BENCH_DIALECT": dialect, "BENCH_USERS": str(users)}
        return lambda connections: run_wrk(
            "requests.lua", url, environ, connections=connections, seconds=seconds
        )

    for dialect in ("nginx", "haproxy", "forward-auth", "ext-authz"):
        for connections in CONNECTIONS:
            figures = load(sidecar, dialect)(connections)
            yield Row(name=f"`/gw/{dialect}`", connections=connections, figures=figures)
    for connections in CONNECTIONS:
        figures = checks(grpc_port, users, connections=connections, seconds=seconds)
        yield Row(name="Envoy's gRPC `Check`, grpcio as its client", connections=connections, figures=figures)
    with ExitStack() as stack:
        for asking, name in ((False, "nginx, not asking"), (True, "nginx, asking the sidecar")):
            port = stack.enter_context(nginx(folder / f"nginx-{asking}", sidecar=sidecar, asking=asking))
            for connections in CONNECTIONS:
                yield Row(name=name, connections=connections, figures=load(port, "client")(connections))


@contextmanager
def nginx(folder: Path, *, sidecar: int, asking: bool) -> Iterator[int]:
    """The configuration of its document, in front of a backend that only says yes."""
    port, backend = free_port(), free_port()
    [text] = files_of(KINDS["nginx"]).values()
    ports = {"8000": port, "8080": sidecar, "9000": backend}
    text = re.sub(r"\b(8000|8080|9000)\b", lambda found: str(ports[found[0]]), text)
    if not asking:
        text = text.replace("auth_request /_authz;", "auth_request off;")
    says_yes = f"http {{\n    access_log off;\n    server {{ listen 127.0.0.1:{backend}; return 200 ok; }}\n"
    folder.mkdir()
    (folder / "nginx.conf").write_text(text.replace("http {\n", says_yes, 1))
    options = "daemon off; pid nginx.pid; worker_processes 2;"
    process = subprocess.Popen(
        [binary_of(KINDS["nginx"]), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr", "-g", options],
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)
        if process.poll() is not None:
            sys.exit("nginx did not start")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def checks(port: int, users: Path, *, connections: int, seconds: int) -> Figures:
    """*connections* callers, each with a channel of its own, that ask one question after the other."""
    requests = []
    for line in users.read_text().splitlines():
        workspace, token = line.split()
        http = {"method": "POST", "path": f"/workspaces/{workspace}/roleplays", "host": "app.example"}
        http["headers"] = {"authorization": f"Bearer {token}"}
        requests.append(external_auth_pb2.CheckRequest(attributes={"request": {"http": http}}))
    taken: list[float] = []
    counted = {"not_2xx": 0, "broken": 0}
    lock = Lock()
    began = time.perf_counter()

    def ask(caller: int) -> None:
        mine, denied, broken = [], 0, 0
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            stub = external_auth_pb2_grpc.AuthorizationStub(channel)
            number = caller * 37
            while time.perf_counter() - began < seconds:
                number += 1
                asked = time.perf_counter()
                try:
                    denied += stub.Check(requests[number % len(requests)], timeout=2).status.code != 0
                except grpc.RpcError:
                    broken += 1
                mine.append(time.perf_counter() - asked)
        with lock:
            taken.extend(mine)
            counted["not_2xx"] += denied
            counted["broken"] += broken

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(ask, range(connections)))
    taken.sort()
    return Figures(
        per_second=len(taken) / (time.perf_counter() - began),
        p50_ms=taken[len(taken) // 2] * 1000,
        p99_ms=taken[len(taken) * 99 // 100] * 1000,
        **counted,
    )


def table(found: list[Row]) -> list[str]:
    lines = [
        "| at the gateway | connections | answers/s | p50 ms | p99 ms | not a yes | broken |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    return lines + [
        f"| {row.name} | {row.connections} | {row.figures.per_second:,.0f} | {row.figures.p50_ms:.2f} |"
        f" {row.figures.p99_ms:.2f} | {row.figures.not_2xx} | {row.figures.broken} |"
        for row in found
    ]
