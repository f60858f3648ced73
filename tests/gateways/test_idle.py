"""No question is lost because the sidecar closes a connection that has been idle for too long for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.gateways.processes import KINDS, a_gateway, files_of
from tests.gateways.test_bypasses import MIA, PAGE
from tests.store.proxy import Proxy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

SIDECAR_CLOSES_AFTER_S = 75
SETTING = {
    "nginx": ("nginx.conf", r"upstream sidecar \{[^}]*\bkeepalive_timeout (\d+)s;"),
    "caddy": ("Caddyfile", r"forward_auth (?s:.*?)\btransport http \{[^}]*\bkeepalive (\d+)s\b"),
}
HAVE_NONE = ("traefik", "haproxy")
KEEP_NONE = ("ingress-nginx",)  # each question is on a connection of its own


class ClosingProxy(Proxy):
    """Closes a connection just as it is asked by it for the second time, as one does whose time is up."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.closed = 0

    def _pump(
        self, pump: Callable[[socket.socket, bytes], None], source: socket.socket, sink: socket.socket
    ) -> None:
        if any(source is client for client, _ in list(self._pairs)):
            sink.sendall(source.recv(65_536))
            if source.recv(65_536):
                self.closed += 1
            source.close()
            sink.close()
        else:
            super()._pump(pump, source, sink)


@pytest.mark.parametrize("name", SETTING)
def test_the_gateway_closes_first(name):
    file, setting = SETTING[name]

    [seconds] = re.findall(setting, files_of(KINDS[name])[file])

    assert 0 < int(seconds) < SIDECAR_CLOSES_AFTER_S


@pytest.mark.parametrize("file", ["envoy-http.yaml", "envoy-grpc.yaml"])
def test_envoy_closes_first(file):
    clusters = yaml.safe_load(files_of(KINDS["envoy"])[file])["static_resources"]["clusters"]
    [sidecar] = [each for each in clusters if each["name"] == "sidecar"]

    [options] = sidecar["typed_extension_protocol_options"].values()

    seconds = options["common_http_protocol_options"]["idle_timeout"].removesuffix("s")
    assert 0 < int(seconds) < SIDECAR_CLOSES_AFTER_S


def test_every_gateway_is_in_one_of_these_tests():
    assert {*SETTING, *HAVE_NONE, *KEEP_NONE, "envoy", "envoy-grpc"} == set(KINDS)


@pytest.mark.postgres
@pytest.mark.gateways
@pytest.mark.parametrize("name", HAVE_NONE)
def test_a_gateway_without_the_setting_asks_again_on_a_new_connection(
    name, sidecar, upstream, grpc_port, tmp_path
):
    with (
        ClosingProxy(f"postgresql://127.0.0.1:{sidecar.port}/") as way,
        a_gateway(KINDS[name], tmp_path, sidecar=way.port, grpc=grpc_port, upstream=upstream.port) as gateway,
    ):
        answers = [gateway.ask(PAGE, bearer=MIA).status for _ in range(4)]

    assert answers == [200] * 4
    assert way.closed >= 2
