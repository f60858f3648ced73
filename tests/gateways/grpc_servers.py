"""gRPC as bytes: a backend that answers every method, and a relay in front of the sidecar's own server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WITHIN_S = 5


@contextmanager
def a_grpc_server(answer: Callable[[str, bytes, Any], bytes]) -> Iterator[int]:
    """The port of one that answers every call by *answer*, of its method, message and context."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # gRPC has no types
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                lambda message, context: answer(details.method, message, context)
            )

    server = grpc.server(ThreadPoolExecutor(4), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait(_WITHIN_S)


class GrpcRelay:
    """Asks the sidecar at *port* each question *times*; of the next *cuts* answers none arrives."""

    def __init__(self, port: int) -> None:
        self.times = 1
        self.cuts = 0
        self.asked = 0
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def answer(self, method: str, message: bytes, context: Any) -> bytes:
        self.asked += 1
        call = self._channel.unary_unary(method)
        answers: list[bytes] = [call(message, timeout=_WITHIN_S) for _ in range(self.times)]
        if self.cuts:
            self.cuts -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        return answers[-1]

    def close(self) -> None:
        self._channel.close()
