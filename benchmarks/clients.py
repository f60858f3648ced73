"""What one question costs the one who asks: the guard's client beside the libraries that it does not use.

    python -m benchmarks.clients

All ask one after the other, on one kept connection over loopback, a server that answers at once.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING

import httpx2
import requests

from sidecar.guard import Client

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 2_000
ROUNDS = 5
QUESTION = {"user": "mia", "workspace": "acme", "action": "roleplay.start"}
ANSWER = json.dumps(
    {
        "allow": True,
        "status": 200,
        "reason": "granted",
        "message": "Member may perform roleplay.start.",
        "role": "member",
        "plan": "team",
        "reservation": None,
        "decision_id": "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d",
        "policy_revision": "cddbf12225d6c4d134a941d1a8ff99e7",
        "facts": {"at": "2026-11-24T12:00:00Z", "cached": False},
    }
).encode()


def serve() -> None:
    """One connection at a time, in a process of its own; the port is printed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                _answer_all(connection)


def _answer_all(connection: socket.socket) -> None:
    received = b""
    while more := connection.recv(65_536):
        received += more
        head, blank, body = received.partition(b"\r\n\r\n")
        if not blank:
            continue
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields.get(b"content-length", 0)):
            continue
        echo = fields.get(b"x-request-id", b"none")
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"X-Request-ID: %s\r\nCache-Control: no-store\r\n\r\n%s" % (len(ANSWER), echo, ANSWER)
        )
        received = b""


def contenders(port: int) -> dict[str, tuple[Callable[[], object], Callable[[], None]]]:
    """How each asks once, and how it hangs up."""
    url = f"http://127.0.0.1:{port}"
    client = Client(url, token="dev-token")  # noqa: S106 - everybody may know it
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    session, httpx_client = requests.Session(), httpx2.Client(base_url=url, timeout=1)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer dev-token"}

    def ask_plainly() -> object:
        plain.request("POST", "/v1/authorize", json.dumps(QUESTION), headers)
        return json.loads(plain.getresponse().read())

    return {
        "sidecar.guard.Client": (
            lambda: client.check("roleplay.start", user="mia", workspace="acme"),
            client.close,
        ),
        "http.client, as it comes": (ask_plainly, plain.close),
        "requests.Session": (
            lambda: session.post(f"{url}/v1/authorize", json=QUESTION, headers=headers, timeout=1).json(),
            session.close,
        ),
        "httpx2.Client": (
            lambda: httpx_client.post("/v1/authorize", json=QUESTION, headers=headers).json(),
            httpx_client.close,
        ),
    }


def main() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.clients", "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        port = int(server.stdout.readline())  # type: ignore[union-attr] # it is a pipe
        print(f"{'':26} {'median µs':>10} {'p99 µs':>8} {'own CPU µs':>11}")
        for name, (ask, hang_up) in contenders(port).items():
            took, cpu = [], time.process_time()
            for _ in range(CALLS * ROUNDS):
                began = time.perf_counter()
                ask()
                took.append((time.perf_counter() - began) * 1e6)
            cpu = (time.process_time() - cpu) / (CALLS * ROUNDS) * 1e6
            hang_up()
            print(f"{name:26} {median(took):10.0f} {quantiles(took, n=100)[98]:8.0f} {cpu:11.0f}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()
