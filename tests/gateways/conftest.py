from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.world import load
from tests.browser import empty_pages
from tests.gateways.processes import KINDS, a_gateway
from tests.gateways.relay import Relay
from tests.gateways.upstream import an_upstream
from tests.identity.provider import AUDIENCE, ISSUER, SECRET
from tests.postgres_server import a_database
from tests.servers import free_port
from tests.serving.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.gateways.client import Client
    from tests.gateways.upstream import Upstream
    from tests.serving.serving import Sidecar

ROUTES = """
  - {method: GET, path: "/workspaces/{workspace}/recordings", action: recording.start}
  - method: POST
    path: "/workspaces/{workspace}/recordings"
    action: recording.start
    mode: consume
    once_per: X-Request-Key
  - {method: PUT, path: "/workspaces/{workspace}/recordings", action: recording.start, ratelimit: true}
  - {method: DELETE, path: "/workspaces/{workspace}", action: workspace.delete}
  - {method: POST, path: "/workspaces/{workspace}", action: platform.use}
  - {method: GET, path: "/workspaces/{workspace}/{page}", action: platform.use}
  - {method: GET, path: "/workspaces/{workspace}/billing", action: billing.manage}
  - {method: GET, path: "/hop/{workspace}", action: platform.use, user: {header: X-User}}
  - {method: GET, host: admin.example, path: "/workspaces/{workspace}/{page}", action: billing.manage}
"""
WORLD = """
users:
  - {id: olivia, email: olivia@example.com}
  - {id: "léo, the 2nd", email: leo@example.com}
workspaces:
  - {slug: full, name: Full, plan: team, owner: olivia, usage: {minutes: 1000}}
  - {slug: nearly, name: Nearly, plan: team, owner: olivia, usage: {minutes: 990}}
  - {slug: often, name: Often, plan: team, owner: olivia}
  - {slug: odd, name: Odd, plan: team, owner: "léo, the 2nd"}
"""


@dataclass(frozen=True, slots=True)
class Ways:
    """The relays between gateways and the sidecar, which can be cut."""

    http: Relay
    grpc: Relay

    def be_refused(self) -> None:
        self.http.refuse()
        self.grpc.refuse()

    def be_silent(self) -> None:
        self.http.silent = self.grpc.silent = True

    def be_cut(self) -> None:
        self.http.cut()
        self.grpc.cut()

    def be_good(self) -> None:
        for proxy in (self.http, self.grpc):
            if proxy.silent:
                proxy.silent = False
                proxy.cut()
            if proxy.refuses:
                proxy.accept()


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with an_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def settings(postgres_server: str, migrated_template: str, tmp_path_factory) -> Iterator[dict[str, Any]]:
    """Of a sidecar with the demo world, more routes, and end users that have HS256 tokens."""
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    folder = tmp_path_factory.mktemp("settings")
    (folder / "plans.yaml").write_text(
        shipped("plans.yaml").read_text().replace("\ninvariants:", f"{ROUTES}\ninvariants:")
    )
    (folder / "world.yaml").write_text(WORLD)
    (folder / "secret").write_text(SECRET)
    compiled = compiled_at(folder / "plans.yaml", shipped("policies"))
    for url in a_database(postgres_server, template=migrated_template):
        migrate(url, catalog=compiled.catalog, revision=compiled.revision)
        load(url, folder / "world.yaml")
        yield {
            "database_url": url,
            "engine": "embedded",
            "plans": folder / "plans.yaml",
            "jwt_keys": f"hs256:{folder / 'secret'}",
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "deadline_ms": 800,
            "workers": 1,
        }


@pytest.fixture(scope="session")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def sidecar(settings: dict[str, Any], grpc_port: int, tmp_path_factory) -> Iterator[Sidecar]:
    pytest.importorskip("grpc", reason="needs the extra `grpc`")
    port = free_port()
    folder: Path = tmp_path_factory.mktemp("sidecar")
    bind = f"127.0.0.1:{port},grpc://127.0.0.1:{grpc_port},unix:{folder}/socket"
    with serving(folder, port=port, **{**settings, "bind": bind}) as sidecar:
        assert sidecar.until(sidecar.is_ready), sidecar.said
        yield sidecar


@pytest.fixture(scope="session")
def ways(sidecar: Sidecar, grpc_port: int) -> Iterator[Ways]:
    """Between every gateway and the sidecar."""
    with (
        Relay(f"postgresql://127.0.0.1:{sidecar.port}/") as http,
        Relay(f"postgresql://127.0.0.1:{grpc_port}/", is_http2=True) as grpc,
    ):
        yield Ways(http, grpc)


@pytest.fixture(scope="session")
def pages() -> Iterator[int]:
    with empty_pages() as port:
        yield port


@pytest.fixture(scope="session")
def gateway_of(
    ways: Ways, upstream: Upstream, pages: int, tmp_path_factory
) -> Iterator[Callable[[str], Client]]:
    """Each kind is started when it is first wanted, and ends with the tests."""
    running: dict[str, Client] = {}
    ports = {"sidecar": ways.http.port, "grpc": ways.grpc.port, "upstream": upstream.port, "pages": pages}
    with ExitStack() as stack:

        def gateway(name: str) -> Client:
            if name not in running:
                folder: Path = tmp_path_factory.mktemp(name)
                running[name] = stack.enter_context(a_gateway(KINDS[name], folder, **ports))
            return running[name]

        yield gateway


@pytest.fixture(params=list(KINDS))
def gateway(request: pytest.FixtureRequest, gateway_of: Callable[[str], Client]) -> Client:
    return gateway_of(request.param)
