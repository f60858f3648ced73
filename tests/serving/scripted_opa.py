"""A server where OPA should be: it answers by the revision it is told, or misbehaves as it is told."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING

from tests.api.stage import PolicyInPython
from tests.values import the_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

# How it may misbehave: status, content type, body.
MISBEHAVIOURS = {
    "says 500": (500, "application/json", b'{"code":"internal_error"}'),
    "says HTML": (200, "text/html", b"<html>It works</html>"),
    "is undefined": (200, "application/json", b"{}"),
    "says null": (200, "application/json", b'{"result":null}'),
    "says an empty object": (200, "application/json", b'{"result":{}}'),
    "says true": (200, "application/json", b'{"result":true}'),
    "says true as text": (200, "application/json", b'{"result":{"allow":"true"}}'),
    "redirects": (302, "text/html", b""),
}


class ScriptedOpa:
    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.misbehaviour: str | None = None
        self.slow_s = 0.0
        self.asked = 0
        self.url = ""
        self._policy = PolicyInPython(the_catalog())

    def reply(self, body: bytes) -> tuple[int, str, bytes]:
        self.asked += 1
        if self.slow_s:
            sleep(self.slow_s)
        if self.misbehaviour:
            return MISBEHAVIOURS[self.misbehaviour]
        asked = json.loads(body)
        if "query" in asked:  # about many at once
            verdicts = {str(number): self._said(each) for number, each in enumerate(asked["input"])}
            answer: dict[str, object] = {"result": [{"verdicts": verdicts}]}
        else:
            answer = {"result": self._said(asked["input"])}
        return 200, "application/json", json.dumps(answer).encode()

    def _said(self, situation: object) -> dict[str, object]:
        verdict = self._policy.verdict(json.dumps(situation).encode(), deadline=0)
        needs: dict[str, object] = {}
        if verdict.needs_roles:
            needs = {"roles": verdict.needs_roles}
        elif verdict.needs_feature:
            needs = {"feature": verdict.needs_feature}
        return {
            "allow": verdict.allow,
            "reason": verdict.reason,
            "status": verdict.status,
            "charges": dict(verdict.charges),
            "upgrade": verdict.upgrade,
            "needs": needs,
            "waiting_helps": verdict.waiting_helps,
            "detail": None,
            "revision": self.revision,
        }


@contextmanager
def scripted_opa(revision: str) -> Iterator[ScriptedOpa]:
    opa = ScriptedOpa(revision)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, media_type, content = opa.reply(body)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the sidecar hung up: many of these tests are about that
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        opa.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield opa
        server.shutdown()
