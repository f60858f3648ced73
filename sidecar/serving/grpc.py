"""Envoy's ext_authz over gRPC: `envoy.service.auth.v3.Authorization/Check`, and the health service beside it.

A server of each worker's own: all of them listen on one port, between which the kernel divides connections.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.protobuf.wrappers_pb2 import BoolValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar.api.gateways.decision import REMOVED, asked_of, decide_for_gateway
from sidecar.api.request import Request, request_id
from sidecar.decisions.steps import run
from sidecar.errors import Unroutable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from threading import Event

    from sidecar.api.gateways.decision import Asked, GatewayDecision
    from sidecar.api.service import Service

NAME = "gateway_envoy_grpc"
TOKEN_KEY = "x-sidecar-token"  # noqa: S105 - the name of a field of the metadata
CHECKED_SERVICES = ("", "envoy.service.auth.v3.Authorization")
_MOST_WAITING = 512  # calls; beyond that the next is refused at once, for it would be too late anyway
_CONNECTION_AGE_MS = 30_000
_LARGEST = 1024 * 1024
_GRPC_STATUS: dict[int, Any] = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}

_log = logging.getLogger("sidecar")


class EnvoyServer:
    """Made and started after the fork: gRPC's threads do not survive one."""

    def __init__(self, service: Service, addresses: Sequence[str], *, threads: int) -> None:
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            options=(
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", _LARGEST),
                # Envoy keeps a connection for good: without an age, new workers would have nothing to do.
                ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
                ("grpc.max_connection_age_grace_ms", _CONNECTION_AGE_MS),
            ),
            maximum_concurrent_rpcs=_MOST_WAITING,
        )
        external_auth_pb2_grpc.add_AuthorizationServicer_to_server(_Authorization(service), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(_Health(service), self._server)
        for address in addresses:
            self._server.add_insecure_port(address)

    def start(self) -> None:
        self._server.start()

    def end(self, *, grace_s: float) -> Event:
        """Take nothing new; the event is set when what has begun is finished, or after *grace_s*."""
        ended: Event = self._server.stop(grace_s)
        return ended


class _Authorization(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc] # generated, without types
    def __init__(self, service: Service) -> None:
        self._service = service

    def Check(self, message: Any, context: Any) -> Any:  # noqa: ANN401, N802 - as the protocol has it
        http = message.attributes.request.http
        headers = _headers_in(http)
        remaining_s = context.time_remaining()
        request = Request(
            id=request_id(headers.get("x-request-id", [http.id])[0]),
            method=http.method,
            remote=remote_of(context.peer()),
        )
        if remaining_s is not None:
            request.patience_s = remaining_s
        token = dict(context.invocation_metadata()).get(TOKEN_KEY)
        decision = run(
            decide_for_gateway(self._service, request, NAME, partial(_read, http, headers), token=token)
        )
        return _response(decision)


def remote_of(peer: str) -> str:
    """The address in what gRPC calls a peer, like ``ipv4:127.0.0.1:5000`` or ``ipv6:%5B::1%5D:5000``."""
    return unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")


def _headers_in(http: Any) -> Mapping[str, list[str]]:  # noqa: ANN401 - a message, without types
    """All values by name. Envoy sends them one way or the other, as `encode_raw_headers` says."""
    found: dict[str, list[str]] = {}
    for name, value in http.headers.items():
        found.setdefault(name.lower(), []).append(value)
    for each in http.header_map.headers:
        value = each.value or each.raw_value.decode("utf-8", errors="replace")
        found.setdefault(each.key.lower(), []).append(value)
    return found


def _read(http: Any, headers: Mapping[str, list[str]]) -> Asked:  # noqa: ANN401 - ditto
    def header(name: str) -> str | None:
        values = headers.get(name.lower(), [])
        if len(values) > 1 or any("," in value for value in values):
            raise Unroutable(f"{name} is there twice, or holds a comma", code="gateway_unreadable")
        return values[0] if values else None

    return asked_of(
        method=http.method,
        host=http.host,
        target=http.path,
        header=header,
        authorization=",".join(headers.get("authorization", [])),  # two are none
    )


def _response(decision: GatewayDecision) -> Any:  # noqa: ANN401 - ditto
    """Never without its part: an empty response is a yes to Envoy."""
    if decision.passes:
        return external_auth_pb2.CheckResponse(
            status={"code": grpc.StatusCode.OK.value[0]},
            ok_response={
                "headers": _options(decision.identity.items()),
                "headers_to_remove": [name.lower() for name in REMOVED],
                "response_headers_to_add": _options(decision.headers),
            },
        )
    return external_auth_pb2.CheckResponse(
        status={"code": _GRPC_STATUS.get(decision.status, grpc.StatusCode.PERMISSION_DENIED).value[0]},
        denied_response={
            "status": {"code": decision.status},
            "headers": _options((*decision.headers, ("Cache-Control", "no-store"))),
            "body": decision.body.decode(),
        },
    )


def _options(headers: Iterable[tuple[str, str]]) -> list[Any]:
    """Each in place of what the client sent under that name."""
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append=BoolValue(value=False))
        for name, value in headers
    ]


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # generated, without types
    def __init__(self, service: Service) -> None:
        self._service = service

    def Check(self, message: Any, context: Any) -> Any:  # noqa: ANN401, N802 - as the protocol has it
        if message.service not in CHECKED_SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        status = health_pb2.HealthCheckResponse
        ready = self._service.readiness().ready
        return status(status=status.SERVING if ready else status.NOT_SERVING)
