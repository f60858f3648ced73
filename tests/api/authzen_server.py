"""A sidecar that serves another domain's policy to anybody, and a client that keeps an answer as it came."""

from __future__ import annotations

import http.client
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.bundle import bundle
from tests.servers import opa_server
from tests.serving.serving import Sidecar, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.compile import Compiled

SCENARIOS = Path(__file__).parent.parent / "authzen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Sends no token, as the public runners do where none is set."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar

    def send(self, method, path, content=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.sidecar.port, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, content, named)
            response = connection.getresponse()
            return Came(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                text=response.read().decode(),
            )
        finally:
            connection.close()

    def post(self, path, body, **headers):
        given = {"Content_Type": "application/json"} | headers
        return self.send("POST", f"/access/v1/{path}", json.dumps(body).encode(), **given)


@contextmanager
def serving_policy(
    policy: Path,
    *,
    folder: Path,
    database: str,
    compiled: Compiled,
    engine: str = "embedded",
) -> Iterator[Client]:
    with ExitStack() as stack:
        opa_url = "http://127.0.0.1:9"  # the discard port: the embedded engine asks nobody
        if engine == "opa":
            opa_url = stack.enter_context(opa_server(bundle(compiled, authzen_policy_at(policy))))
        sidecar = stack.enter_context(
            serving(
                folder,
                database_url=database,
                engine=engine,
                authzen_policy=policy,
                authzen_anonymous="yes",
                workers=1,
                deadline_ms=5_000,
                opa_url=opa_url,
            )
        )
        if not sidecar.until(sidecar.is_ready):
            raise AssertionError(f"not ready:\n{sidecar.said}")
        yield Client(sidecar)
