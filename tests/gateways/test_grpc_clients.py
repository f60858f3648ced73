"""Real gRPC clients behind a real Envoy: each sees a status of gRPC's that says what the sidecar meant."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateways.processes import KINDS, a_gateway
from tests.gateways.test_gateways import MIA, OLIVIA, SAM, ZOE

if TYPE_CHECKING:
    from collections.abc import Iterator

grpc = pytest.importorskip("grpc", reason="needs the extra `grpc`")

from tests.gateways.grpc_servers import GrpcRelay, a_grpc_server  # noqa: E402 - once it is there

pytestmark = [pytest.mark.postgres, pytest.mark.gateways]

ENVOYS = ["envoy", "envoy-grpc"]
WITHIN_S = 10
MOST_ATTEMPTS = 3
RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": MOST_ATTEMPTS,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.02s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
APP = "    - name: app\n      connect_timeout: 1s\n"
SPEAKS_HTTP2 = """      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
"""


def call(port: int, path: str, *, bearer: str | None = None) -> Any:
    """What a client with a retry policy gets: the answer's bytes, or the error."""
    metadata = [] if bearer is None else [("authorization", bearer)]
    options = [("grpc.service_config", json.dumps(RETRIES)), ("grpc.enable_retries", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        try:
            return channel.unary_unary(path)(b"hello", metadata=metadata, timeout=WITHIN_S)
        except grpc.RpcError as error:
            return error


@pytest.mark.parametrize("gateway", ENVOYS, indirect=True)
@pytest.mark.parametrize(
    ("path", "bearer", "status", "code"),
    [
        ("/workspaces/acme/recordings", None, "UNAUTHENTICATED", "user_unauthenticated"),
        ("/workspaces/acme/recordings", "Bearer x.y.z", "UNAUTHENTICATED", "user_unauthenticated"),
        ("/workspaces/solo/team-sessions", SAM, "PERMISSION_DENIED", "feature_not_in_plan"),  # 402
        ("/workspaces/acme/recordings", ZOE, "PERMISSION_DENIED", "not_a_member"),
        ("/workspaces/nowhere/at/all", MIA, "PERMISSION_DENIED", "unknown_route"),
        ("/hop/acme", MIA, "PERMISSION_DENIED", "unknown_route"),
        ("/workspaces/full/recordings", OLIVIA, "RESOURCE_EXHAUSTED", "quota_exceeded"),
    ],
)
def test_a_denial_is_a_status_that_is_not_retried(gateway, sidecar, path, bearer, status, code):
    def asked():
        return [line for line in sidecar.lines if line.get("request", "").startswith("POST ")]

    before = len(asked())
    error = call(gateway.port, path, bearer=bearer)

    assert error.code() is grpc.StatusCode[status]
    assert json.loads(error.details())["code"] == code
    assert sidecar.until(lambda: len(asked()) > before, within_s=5)
    assert len(asked()) == before + 1


@pytest.mark.parametrize("gateway", ENVOYS, indirect=True)
def test_an_outage_is_unavailable(gateway, ways, upstream):
    before = len(upstream.reached)
    ways.be_refused()
    try:
        error = call(gateway.port, "/workspaces/acme/recordings", bearer=OLIVIA)
    finally:
        ways.be_good()

    assert upstream.reached[before:] == []
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    for _ in range(50):
        if gateway.ask("/workspaces/acme/analytics", bearer=MIA).status == 200:
            break
    assert gateway.ask("/workspaces/acme/analytics", bearer=MIA).status == 200


@pytest.mark.parametrize("gateway", ENVOYS, indirect=True)
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, None),
        ("application/json", None),
        ("text/grpc", None),
        ("application/grpc-web", "8"),
    ],
)
def test_nobody_else_is_told_one(gateway, content_type, status):
    headers = [f"Content-Type: {content_type}"] if content_type else []

    answer = gateway.ask("/workspaces/full/recordings", *headers, method="POST", bearer=OLIVIA)

    assert (answer.status, answer.headers.get("grpc-status")) == (429, status)


@pytest.mark.parametrize("name", ENVOYS)
def test_who_may_is_answered_by_the_backend(name, ways, tmp_path):
    reached = []

    def answer(method, message, context):
        reached.append((method, message, dict(context.invocation_metadata())["x-authz-user"]))
        return b"served"

    kind = replace(KINDS[name], edits=((APP, APP + SPEAKS_HTTP2),))
    with (
        a_grpc_server(answer) as port,
        a_gateway(kind, tmp_path, sidecar=ways.http.port, grpc=ways.grpc.port, upstream=port) as envoy,
    ):
        answered = call(envoy.port, "/workspaces/often/recordings", bearer=OLIVIA)

    assert answered == b"served"
    assert reached == [("/workspaces/often/recordings", b"hello", "olivia")]


@pytest.fixture(scope="module")
def behind_a_relay(grpc_port, sidecar, ways, upstream, tmp_path_factory) -> Iterator[Any]:
    """An Envoy whose calls of Check come by a relay."""
    folder = tmp_path_factory.mktemp("behind-a-relay")
    with (
        closing(GrpcRelay(grpc_port)) as relay,
        a_grpc_server(relay.answer) as port,
        a_gateway(
            KINDS["envoy-grpc"], folder, sidecar=ways.http.port, grpc=port, upstream=upstream.port
        ) as envoy,
    ):
        yield relay, envoy


@pytest.mark.parametrize(("times", "cuts"), [(2, 0), (1, 1), (2, 2)])
def test_a_check_that_comes_again_takes_once(behind_a_relay, sidecar, times, cuts):
    relay, envoy = behind_a_relay

    def used():
        answer = sidecar.request("GET", "/v1/workspaces/often/entitlements?user=olivia")[1]
        return answer["quotas"]["minutes"]["used"]

    before = used()
    relay.times, relay.cuts, relay.asked = times, cuts, 0
    answer = envoy.ask("/workspaces/often/recordings", method="POST", bearer=OLIVIA)

    assert (answer.status, relay.asked) == (200, 1 + cuts)
    assert used() == before + 1


def test_envoy_itself_takes_an_outage_for_a_yes_where_its_question_is_a_grpc_call(ways, upstream, tmp_path):
    """Why the document does not pass the type on as it is. Once this fails, it may."""
    naive = ("patterns: [{exact: x-request-key,", "patterns: [{exact: content-type}, {exact: x-request-key,")
    added = ('- {key: content-type, value: "%REQ(content-type):16%-"}', "- {key: x-nothing, value: none}")
    kind = replace(KINDS["envoy"], edits=(naive, added))
    ports = {"sidecar": ways.http.port, "grpc": ways.grpc.port, "upstream": upstream.port}
    with a_gateway(kind, tmp_path, **ports) as envoy:
        ways.be_refused()
        try:
            before = len(upstream.reached)
            call(envoy.port, "/workspaces/acme/recordings")
            reached = upstream.reached[before:]
        finally:
            ways.be_good()

    assert [each.target for each in reached] == ["/workspaces/acme/recordings"]
