"""Envoy's ext_authz over gRPC: `envoy.service.auth.v3.Authorization/Check`, and the health service beside it.

A server of each worker's own, on its loop: all of them listen on one port, between which the kernel divides
connections.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from envoy.service.auth.v3 import external_auth_pb2
from grpc_health.v1 import health_pb2

from sidecar.api import problems
from sidecar.api.gateways.decision import GRPC_STATUS, REMOVED, asked_of, decide_for_gateway, for_grpc, refuse
from sidecar.api.log_lines import written
from sidecar.api.request import Request, request_id
from sidecar.errors import LogUnavailable, Unroutable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from sidecar.api.gateways.decision import Asked, GatewayDecision
    from sidecar.api.service import Service
    from sidecar.decisions.steps import Steps
    from sidecar.serving.driver import Driver

NAME = "gateway_envoy_grpc"
TOKEN_KEY = "x-sidecar-token"  # noqa: S105 - the name of a field of the metadata
AUTHORIZATION, HEALTH = "envoy.service.auth.v3.Authorization", "grpc.health.v1.Health"
CHECKED_SERVICES = ("", AUTHORIZATION)
_MOST_IN_PROGRESS = 512  # calls; beyond that the next is refused at once, for it would be too late anyway
_CONNECTION_AGE_MS = 30_000
_LARGEST = 1024 * 1024
_YES = external_auth_pb2.CheckResponse(
    status={"code": grpc.StatusCode.OK.value[0]},
    ok_response={"headers_to_remove": [name.lower() for name in REMOVED]},
)
_NOT_STORED = ("Cache-Control", "no-store")

_log = logging.getLogger("sidecar")


class EnvoyServer:
    """Made, started and ended on *driver*'s loop, after the fork: gRPC's threads do not survive one."""

    def __init__(self, service: Service, addresses: Sequence[str], *, driver: Driver) -> None:
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", _LARGEST),
                # Envoy keeps a connection for good: without an age, new workers would have nothing to do.
                ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
                ("grpc.max_connection_age_grace_ms", _CONNECTION_AGE_MS),
            ),
            maximum_concurrent_rpcs=_MOST_IN_PROGRESS,
        )
        self._checks = checks = _Checks(service, driver)
        self._server.add_generic_rpc_handlers(
            (
                _only_check(AUTHORIZATION, checks.check, external_auth_pb2.CheckRequest),
                _only_check(HEALTH, partial(_health, service), health_pb2.HealthCheckRequest),
            )
        )
        for address in addresses:
            self._server.add_insecure_port(address)

    @property
    def in_progress(self) -> int:
        """Calls that are being answered."""
        return self._checks.in_progress

    async def start(self) -> None:
        await self._server.start()

    async def end(self, *, grace_s: float) -> None:
        """Take nothing new; until what has begun is finished, or is cut off after *grace_s*."""
        await self._server.stop(grace_s)


def _only_check(service: str, check: Callable[[Any, Any], Awaitable[Any]], message: Any) -> Any:  # noqa: ANN401 - gRPC has no types
    """A service with one method. gRPC waits for each method of a generated one separately."""
    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=message.FromString,
        response_serializer=_serialized,
    )
    return grpc.method_handlers_generic_handler(service, {"Check": method})


def _serialized(message: Any) -> bytes:  # noqa: ANN401 - a message, without types
    serialized: bytes = message.SerializeToString()
    return serialized


class _Checks:
    """Of one worker. A call whose client is gone goes on: it may have an effect, which belongs in the log."""

    def __init__(self, service: Service, driver: Driver) -> None:
        self._service = service
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self.in_progress = 0  # those whose client is gone included, which gRPC does not count

    async def check(self, message: Any, context: Any) -> Any:  # noqa: ANN401 - as gRPC has it
        began = monotonic()
        if self.in_progress >= _MOST_IN_PROGRESS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls are in progress")
        http = message.attributes.request.http
        headers = _headers_in(http)
        request = Request(
            id=request_id(headers.get("x-request-id", [http.id])[0]),
            method=http.method,
            remote=remote_of(context.peer()),
        )
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            request.patience_s = remaining_s
        # Two are none of the tokens there are.
        shown = [value for key, value in context.invocation_metadata() if key == TOKEN_KEY]
        token = ",".join(shown) if shown else None
        content_type = headers.get("content-type", [""])[0]
        answered: asyncio.Future[Any] = self._loop.create_future()
        self.in_progress += 1
        self._driver.drive(
            self._answering(request, partial(_read, http, headers), token=token, content_type=content_type),
            partial(self._settle, request, answered, content_type),
        )
        answer = await answered
        self._service.metrics.observe_request(NAME, _status_of(answer), monotonic() - began)
        if answer is grpc.StatusCode.INTERNAL:
            await context.abort(answer, "the sidecar has a defect")
        return answer

    def _answering(
        self, request: Request, read: Callable[[], Asked], *, token: str | None, content_type: str
    ) -> Steps[Any]:
        """A response; or INTERNAL, for nothing that was not foreseen may be a yes."""
        try:
            decision = yield from decide_for_gateway(self._service, request, NAME, read, token=token)
            try:
                yield from written(self._service, request)
            except LogUnavailable as error:
                decision = refuse(self._service, request, NAME, problems.problem_of(error), {})
            return _response(decision, content_type)
        except Exception as error:  # noqa: BLE001 - the border of the server
            _log.error("request %s met a defect", request.id, exc_info=error)
            self._service.metrics.count_problem("internal_error")
            return grpc.StatusCode.INTERNAL

    def _settle(
        self,
        request: Request,
        answered: asyncio.Future[Any],
        content_type: str,
        answer: Any,  # noqa: ANN401 - as above
    ) -> None:
        self.in_progress -= 1
        if answer is None:  # no thread was free in time
            refused = refuse(self._service, request, NAME, problems.problem("overloaded"), {})
            answer = _response(refused, content_type)
        if not answered.done():
            answered.set_result(answer)


def _status_of(answer: Any) -> int:  # noqa: ANN401 - as above
    """What the end user is told, as HTTP has it."""
    if answer is grpc.StatusCode.INTERNAL:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    status: int = answer.denied_response.status.code
    return status or HTTPStatus.OK


async def _health(service: Service, message: Any, context: Any) -> Any:  # noqa: ANN401 - as above
    if message.service not in CHECKED_SERVICES:
        await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
    status = health_pb2.HealthCheckResponse
    ready = service.readiness().ready
    return status(status=status.SERVING if ready else status.NOT_SERVING)


def remote_of(peer: str) -> str:
    """The address in what gRPC calls a peer, like ``ipv4:127.0.0.1:5000`` or ``ipv6:%5B::1%5D:5000``."""
    return unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")


def _headers_in(http: Any) -> Mapping[str, list[str]]:  # noqa: ANN401 - a message, without types
    """All values by name, what is no UTF-8 with halves of surrogate pairs.

    Envoy sends them one way or the other, as `encode_raw_headers` says.
    """
    found: dict[str, list[str]] = {}
    for name, value in http.headers.items():
        found.setdefault(name.lower(), []).append(value)
    for each in http.header_map.headers:
        value = each.value or each.raw_value.decode("utf-8", errors="surrogateescape")
        found.setdefault(each.key.lower(), []).append(value)
    return found


def _read(http: Any, headers: Mapping[str, list[str]]) -> Asked:  # noqa: ANN401 - ditto
    def header(name: str) -> str | None:
        values = headers.get(name.lower(), [])
        if len(values) > 1:
            raise Unroutable(f"{name} is there twice", code="gateway_unreadable")
        return values[0] if values else None

    shown = headers.get("authorization", [])
    return asked_of(
        method=http.method,
        host=http.host,
        target=http.path,
        header=header,
        authorization=shown[0] if len(shown) == 1 else None,  # of two nobody knows which one is meant
    )


def _response(decision: GatewayDecision, content_type: str) -> Any:  # noqa: ANN401 - ditto
    """Never without its part: an empty response is a yes to Envoy. *content_type* is the client's."""
    response = external_auth_pb2.CheckResponse()
    if decision.passes:
        response.CopyFrom(_YES)
        passing = response.ok_response
        _set(passing.headers, decision.identity.items())
        _set(passing.response_headers_to_add, decision.headers)
        return response
    status = decision.status
    response.status.code = GRPC_STATUS[status]
    denied = response.denied_response
    denied.status.code = status
    _set(denied.headers, (*decision.headers, *for_grpc(decision, content_type), _NOT_STORED))
    denied.body = decision.body.decode()
    return response


def _set(options: Any, headers: Iterable[tuple[str, str]]) -> None:  # noqa: ANN401 - ditto
    """Each in place of what the client sent under that name."""
    for name, value in headers:
        option = options.add()
        option.append.SetInParent()  # false, and not merely not said
        header = option.header
        header.key, header.value = name, value
