"""A sidecar over real HTTP that answers as one case of tests/guard/cases.yaml says."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.guard.values import a_denial, a_grant, a_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTITLEMENTS = {
    "workspace": {"id": "3f2b8a52-1111-4222-8333-444455556666", "slug": "acme", "name": "Acme"},
    "role": "member",
    "plan": "team",
    "features": {"video_avatar": True},
    "quotas": {},
    "actions": {"roleplay.start": True},
    "policy_revision": "r",
}


class ScriptedSidecar:
    """*says* is the `sidecar` of a case; *asked* are the questions, *calls* counts the requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer_as({})

    def answer_as(self, says: dict[str, Any]) -> None:
        self.says = says
        self.calls = 0
        self.asked: list[dict[str, Any]] = []

    def reply(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        self.calls += 1
        if "raw" in self.says:
            return 200, "application/json", self.says["raw"].encode()
        if problem := self.says.get("problem"):
            document = a_problem(problem["status"], problem["code"])
            return problem["status"], "application/problem+json", json.dumps(document).encode()
        document = json.loads(body) if body else {}
        if path.startswith("/v1/workspaces/"):
            answer: dict[str, Any] = ENTITLEMENTS
        elif path.endswith("/batch"):
            defaults = document.get("defaults", {})
            answer = {"answers": [self._answer(defaults | each) for each in document["questions"]]}
        else:
            answer = self._answer(document)
        return 200, "application/json", json.dumps(answer).encode()

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(question)
        script = self.says[question["action"]]
        if script == "granted":
            return a_grant()
        if "granted" in script:
            return a_grant(**script["granted"])
        denial = a_denial(**script)
        return denial if "needs" in script else {**denial, "needs": {}}


@contextmanager
def a_scripted_sidecar() -> Iterator[ScriptedSidecar]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers.get("Content-Length") or 0)
            status, media_type, body = sidecar.reply(self.path, self.rfile.read(length))
            self.send_response(status)
            for name, value in {
                "Content-Type": media_type,
                "Content-Length": str(len(body)),
                "X-Request-ID": self.headers["X-Request-ID"],
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - as http.server calls it

        def log_message(self, *_args: object) -> None:
            """A case that fails shows what was asked."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sidecar = ScriptedSidecar(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield sidecar
        finally:
            server.shutdown()
            thread.join(10)
