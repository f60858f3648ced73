"""HTTP/1.1: gunicorn's protocol reads requests, and what stands here answers them.

Of `gunicorn.asgi` it takes the parser with its limits, and the loop over the requests of a connection. In
place of an ASGI application it calls ours, request by request: the loop collects the body, a thread answers,
the loop sends the reply. `tests/serving/test_http1.py` compares the names that are overridden here with
gunicorn's.
"""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from socket import AF_UNIX
from time import monotonic
from typing import TYPE_CHECKING, Any

from gunicorn.asgi.parser import (  # type: ignore[import-untyped] # it ships none
    CallbackRequest,
    LimitRequestHeaders,
    ParseError,
    PythonProtocol,
)
from gunicorn.asgi.protocol import ASGIProtocol, BodyReceiver  # type: ignore[import-untyped] # ditto

from sidecar.serving.application import STATUS_LINES, announced_length, json_body
from sidecar.serving.heads import MOST_FIELDS, Fields
from sidecar.serving.responses import response
from sidecar.serving.threads import NoThread
from sidecar.telemetry.metrics import NO_ENDPOINT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from socket import AddressFamily

    from sidecar.api.endpoint import Endpoint
    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.serving.application import Application
    from sidecar.serving.connections import Connection

KIB = 1024
LARGEST_HEAD = 128 * KIB
_MOST_PIECES = 4_096  # of a body: each chunk costs the loop some microseconds, however small it is
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CODES = {
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.REQUEST_URI_TOO_LONG: "head_too_large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "head_too_large",
    HTTPStatus.NOT_IMPLEMENTED: "transfer_coding_unknown",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal_error",
}


class Parser(PythonProtocol):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's, with its two checks of every octet done by the regular expressions that say the same."""

    __slots__ = ()

    def _is_valid_token(self, data: bytes) -> bool:
        return _TOKEN.fullmatch(data) is not None

    def _has_invalid_header_chars(self, value: bytes) -> bool:
        return _NOT_IN_A_VALUE.search(value) is not None

    def _finalize_headers(self) -> None:
        try:
            super()._finalize_headers()
        except ValueError as error:  # a length of more digits than Python makes a number of
            raise ParseError("") from error

    @property
    def left_over(self) -> int:
        """Bytes that have been fed and belong to no line or body that was read."""
        return len(self._buffer)

    @property
    def target(self) -> str:
        """Of the first line, empty where that has not been read."""
        return (self.path or b"").decode("latin-1")

    def field(self, name: str) -> str | None:
        """The value of a header in the lines that have been read, as `_fields_of` has it."""
        return _fields_of(self._headers_list).by_name.get(name.lower())


class Http1(ASGIProtocol):  # type: ignore[misc] # gunicorn has no types
    """One connection, behind its guard."""

    _closed: bool

    def __init__(self, worker: Any, connection: Connection) -> None:  # noqa: ANN401 - gunicorn's worker
        super().__init__(worker)
        self._connection = connection
        self._fed = 0  # bytes, since the request began
        self._pieces = 0
        self._is_last = False  # the request that is being answered: what still comes is the rest of its body
        self._whole_at = 0.0
        self._since = 0.0  # when the first byte of a request came; 0: none has begun
        self._family: AddressFamily | None = None

    # Reading.

    def _setup_callback_parser(self) -> None:
        self._callback_parser = Parser(
            on_headers_complete=self._on_headers_complete,
            on_body=self._on_body,
            on_message_complete=self._on_message_complete,
            limit_request_line=LARGEST_HEAD,
            limit_request_fields=MOST_FIELDS,
            limit_request_field_size=LARGEST_HEAD,
        )

    def _feed_callback_parser(self, data: bytes) -> bool:
        if self._is_last:
            return False
        if self._callback_parser.is_complete:
            self._callback_parser.feed(data)  # the next request: there it waits until this one is answered
            return True
        self._fed += len(data)
        self._since = self._since or monotonic()
        self._connection.begin_head()
        if not super()._feed_callback_parser(data):
            return False
        if self._body_receiver is None and self._fed > LARGEST_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        self._connection.wants_more()
        return True

    def _on_headers_complete(self) -> bool:
        """As gunicorn's, without its policy on headers: none of them moves a path or an address here."""
        parser = self._callback_parser
        if self._fed - parser.left_over > LARGEST_HEAD:
            raise LimitRequestHeaders("")
        if parser.http_version >= (1, 1) and not any(name == b"host" for name, _ in parser.headers):
            raise ParseError("")  # RFC 9112 3.2; that there is no second one the parser has seen to
        self._current_request = CallbackRequest.from_parser(parser)
        self._body_receiver = BodyReceiver(self._current_request, self)
        self._request_ready.set()
        self._connection.begin_body()
        return False

    def _on_body(self, chunk: bytes) -> None:
        self._pieces += 1
        if self._pieces > _MOST_PIECES:
            raise ParseError("")
        super()._on_body(chunk)

    def _on_message_complete(self) -> None:
        super()._on_message_complete()
        self._fed = self._pieces = 0
        self._whole_at = monotonic()
        self._connection.finish_request()

    def _is_websocket_upgrade(self, request: object) -> bool:  # noqa: ARG002 - gunicorn's signature
        """No protocol but this one is spoken here: an Upgrade is a wish that a server may ignore."""
        return False

    def _arm_keepalive_timer(self) -> None:
        """The guard knows how long a connection may be idle."""

    # Refusing.

    def time_out(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        self._send_error_response(status, "")
        self._close_transport()
        if self._body_receiver is not None:
            self._body_receiver.signal_disconnect()
        self._request_ready.set()  # the loop over requests ends

    def _send_error_response(self, status: int, message: str, extra_headers: object = ()) -> None:  # noqa: ARG002 - gunicorn's signature
        code = _CODES.get(HTTPStatus(status), "malformed_request")
        parser = self._callback_parser
        self._observe(NO_ENDPOINT, status)
        self._safe_write(
            refusal(self.worker.application, code, target=parser.target, origin=parser.field("Origin"))
        )

    def _close_transport(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.end()

    # Answering.

    async def _serve_http_request(self, request: Any, sockname: object, peername: object) -> bool:  # noqa: ANN401, ARG002 - gunicorn's
        try:
            return await self._serve_parsed(request, peername)
        except Exception:
            # What nobody foresaw is a 500, not silence; but never a second response.
            self.log.exception("a request met a defect of the server")
            if self._connection.state != "sending":
                self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            return False

    async def _serve_parsed(self, parsed: Any, peername: object) -> bool:  # noqa: ANN401 - gunicorn's
        """Answer one request; whether the next one of this connection may be read."""
        application = self.worker.application
        application.service.metrics.count_request("gunicorn")
        self._since = self._since or monotonic()  # it may have come together with the one before
        request, endpoint = self._request_of(parsed, peername)
        receiver = self._body_receiver
        largest = application.largest_body(request, endpoint)
        body = b""
        if largest and announced_length(request) <= largest:
            collected = await self._collect_body(largest)
            if collected is None:
                return False
            body = collected
        request.body = partial(json_body, request, body, largest=largest)
        self._is_last = not receiver._complete  # noqa: SLF001 - as gunicorn's own loop
        request.began = monotonic() if self._is_last else self._whole_at
        self._connection.begin_answer()
        reply = await self._answer(request, endpoint)
        keeps = False if self._closed else await self._send_reply(reply, parsed)
        self._observe(NO_ENDPOINT if endpoint is None else endpoint.name, reply[0])
        return keeps

    def _observe(self, endpoint: str, status: int) -> None:
        since, self._since = self._since, 0.0
        seconds = monotonic() - since if since else 0.0
        self.worker.application.service.metrics.observe_request(endpoint, status, seconds)

    def _request_of(self, parsed: Any, peername: object) -> tuple[Request, Endpoint | None]:  # noqa: ANN401 - gunicorn's
        if self._family is None:
            self._family = self.transport.get_extra_info("socket").family
        fields = _fields_of(parsed.headers_bytes)
        request = self.worker.application.request(
            parsed.method,
            parsed.uri,
            header=partial(_header, fields.by_name),
            repeated=fields.repeated,
            by_socket=self._family == AF_UNIX,
            remote=peername[0] if isinstance(peername, tuple) else "",
        )
        return request, self.worker.application.endpoint_of(request)

    async def _collect_body(self, largest: int) -> bytes | None:
        """The body, or the beginning of one that is too large; None if it does not come."""
        parts, size = [], 0
        while size <= largest:
            message = await self._body_receiver.receive()
            if message["type"] != "http.request":
                return None
            parts.append(message["body"])
            size += len(message["body"])
            if not message["more_body"]:
                break
        return b"".join(parts)

    async def _answer(self, request: Request, endpoint: Endpoint | None) -> Reply:
        application = self.worker.application
        if endpoint is not None and endpoint.at_once:
            answer: Reply = application.answer(request, endpoint)
            return answer
        try:
            reply: Reply = await self.worker.threads.run(
                partial(application.answer, request, endpoint),
                deadline=application.deadline(request, endpoint),
            )
        except NoThread:
            reply = application.overloaded(request, endpoint)
        return reply

    async def _send_reply(self, reply: Reply, parsed: Any) -> bool:  # noqa: ANN401 - gunicorn's
        # What is left of a body that nobody reads would be taken for the next request.
        close = self._is_last or self._will_close(parsed, False)  # noqa: FBT003 - gunicorn's
        self._connection.begin_sending()
        self._safe_write(
            response(reply, method=parsed.method, is_1_0=parsed.version < (1, 1), keeps=not close)
        )
        if self._flow_control.write_paused:
            await self._flow_control.drain()
        if not close:
            self._connection.finish_sending(more=self._callback_parser.left_over > 0)
        return not close


def refusal(application: Application, code: str, *, target: str = "", origin: str | None = None) -> bytes:
    """The last response of a connection, in our words and in none of the request's.

    *target* and *origin* are of that, as far as they have been read.
    """
    status, headers, body = application.unreadable(code, target=target, origin=origin)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {STATUS_LINES[status]}\r\n{lines}Connection: close\r\n\r\n"
    return head.encode("latin-1") + body


def _fields_of(lines: Sequence[tuple[bytes, bytes]]) -> Fields:
    fields: dict[str, str] = {}
    repeated: set[str] = set()
    for name, value in lines:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        if key in fields:
            repeated.add(key)
            text = f"{fields[key]},{text}"
        fields[key] = text
    return Fields(fields, frozenset(repeated))


def _header(fields: Mapping[str, str], name: str) -> str | None:
    return fields.get(name.lower())
