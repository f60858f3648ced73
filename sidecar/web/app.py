"""The WSGI application: every request becomes an exchange, goes to its endpoint, and its reply out again.

Flask finds the endpoint. For the hot ones the application finds it itself, since routing costs twice what
deciding does: what then runs is the same function.
"""

from __future__ import annotations

import logging
import re
from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from socket import AF_UNIX
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from sidecar.errors import BadQuestion, UnknownCaller
from sidecar.web import problems, wire
from sidecar.web.authzen import EVALUATION, EVALUATIONS
from sidecar.web.endpoint import Endpoint, Exchange, Service, request_id, served
from sidecar.web.endpoints import ENDPOINTS
from sidecar.web.gateways.by_header import BY_HEADER, EXT_AUTHZ, EXT_AUTHZ_PREFIX
from sidecar.web.native import AUTHORIZE, AUTHORIZE_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sidecar.web.problems import Reply

_HOT = {
    endpoint.path: endpoint for endpoint in (AUTHORIZE, AUTHORIZE_BATCH, EVALUATION, EVALUATIONS, *BY_HEADER)
}
_LARGE = {AUTHORIZE_BATCH.path, EVALUATIONS.path}
_AUTHZEN = "/access/v1/"
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_ANY_ID = re.compile(r"[\t\x20-\x7e\x80-\xff]+")  # AuthZEN: an arbitrary string
_JSON_TYPE = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?\s*', re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_EXT_AUTHZ = f"{EXT_AUTHZ_PREFIX}/"
_NO_PATH = "/%2F"
_EXCHANGE = "sidecar.exchange"
_NOT_PREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})

_log = logging.getLogger("sidecar")


class Application:
    def __init__(self, service: Service) -> None:
        self.service = service
        self._flask = _flask(service)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Not PATH_INFO: it is decoded, so that a user "a/b" would be two parts of the path.
        path, _, query = _target(environ).partition("?")
        exchange = self._exchange(environ, path, query)
        endpoint = _HOT.get(path)
        if path.startswith(_EXT_AUTHZ):
            # The rest is a path that others read: as it was written, and never as the absolute form has it.
            endpoint = EXT_AUTHZ
            exchange.path = {"target": environ["RAW_URI"].removeprefix(EXT_AUTHZ_PREFIX)}
        with _Defects(self.service, exchange) as defects:
            if endpoint is not None and (endpoint.for_gateways or exchange.method == endpoint.method):
                return _sent(served(self.service, endpoint, exchange), exchange, start_response)
            # Werkzeug drops slashes in front: "//v1/authorize" would be served as "/v1/authorize".
            environ["PATH_INFO"] = path if "//" not in path else _NO_PATH
            environ["SCRIPT_NAME"] = ""
            environ[_EXCHANGE] = exchange
            return self._flask(environ, start_response)
        return _sent(defects.reply, exchange, start_response)

    def _exchange(self, environ: WSGIEnvironment, path: str, query: str) -> Exchange:
        by_socket = _came_by_socket(environ)
        of_authzen = path.startswith(_AUTHZEN)
        sent_id = environ.get("HTTP_X_REQUEST_ID", "")
        exchange = Exchange(
            id=sent_id if of_authzen and _ANY_ID.fullmatch(sent_id) else request_id(sent_id),
            method=environ["REQUEST_METHOD"],
            query=query,
            header=partial(_header, environ),
            body=partial(_body, environ, largest=_largest_body(path)),
            by_socket=by_socket,
            remote=environ.get("REMOTE_ADDR", ""),
        )
        try:
            exchange.caller = self.service.callers.caller(
                environ.get("HTTP_AUTHORIZATION"), by_socket=by_socket
            )
        except UnknownCaller as error:
            if of_authzen and self.service.authzen.anybody:
                exchange.caller = self.service.authzen.anybody
            else:
                exchange.refused = error
        return exchange


class _Defects(AbstractContextManager["_Defects"]):
    """What nobody foresaw becomes a 500 that tells nothing, and a traceback in the log."""

    def __init__(self, service: Service, exchange: Exchange) -> None:
        self._service = service
        self._exchange = exchange
        self.reply: Reply = (HTTPStatus.INTERNAL_SERVER_ERROR, [], b"")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or type(error).__module__.startswith("gunicorn."):
            return False  # not a defect of ours: the server knows how to refuse a body that it cannot read
        _log.error("request %s met a defect", self._exchange.id, exc_info=error)
        self._service.metrics.refused("internal_error")
        self.reply = problems.reply_of(problems.problem("internal_error"))
        return True


def _flask(service: Service) -> Flask:
    app = Flask("sidecar", static_folder=None, template_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # to _Defects, where those of the hot path go too
    app.url_map.merge_slashes = False
    for endpoint in ENDPOINTS:
        if endpoint.for_gateways:
            continue  # found by the application itself, whatever the method
        app.add_url_rule(
            endpoint.path.replace("{", "<").replace("}", ">"),
            endpoint=endpoint.name,
            view_func=_view(service, endpoint),
            methods=[endpoint.method],
            strict_slashes=True,
            provide_automatic_options=False,  # a gateway would take the 200 for an allow
        )

    @app.errorhandler(HTTPException)
    def no_endpoint(error: HTTPException) -> Response:
        match error:
            case MethodNotAllowed():
                code, headers = (
                    "method_not_allowed",
                    [("Allow", ", ".join(sorted(error.valid_methods or ())))],
                )
            case NotFound():
                code, headers = "not_found", []
            case _:
                code, headers = "invalid_request", []
        service.metrics.refused(code)
        status, own_headers, body = problems.reply_of(problems.problem(code))
        return _response((status, [*own_headers, *headers], body))

    return app


def _view(service: Service, endpoint: Endpoint) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        exchange: Exchange = request.environ[_EXCHANGE]
        exchange.path = path
        return _response(served(service, endpoint, exchange))

    return view


def _response(reply: Reply) -> Response:
    status, _, body = reply
    exchange: Exchange = request.environ[_EXCHANGE]
    response = Response(body, status=_STATUS_LINES[status], headers=_finished(reply, exchange))
    response.automatically_set_content_length = False
    return response


def _sent(reply: Reply, exchange: Exchange, start_response: StartResponse) -> Iterable[bytes]:
    status, _, body = reply
    start_response(_STATUS_LINES[status], _finished(reply, exchange))
    return [body] if exchange.method != "HEAD" else []


def _finished(reply: Reply, exchange: Exchange) -> list[tuple[str, str]]:
    status, headers, body = reply
    finished = [*headers]
    if status != HTTPStatus.NO_CONTENT:  # which has no body by its nature
        finished.append(("Content-Length", str(len(body))))
    finished.append(("X-Request-ID", exchange.id))
    if not any(name == "Cache-Control" for name, _ in headers):
        finished.append(("Cache-Control", "no-store"))
    return finished


def _target(environ: WSGIEnvironment) -> str:
    target: str = environ["RAW_URI"]
    if target.startswith("/"):
        return target
    parts = urlsplit(target)  # the absolute form, as to a proxy
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _came_by_socket(environ: WSGIEnvironment) -> bool:
    # The connection itself, which no header can claim.
    connection: Any = environ.get("gunicorn.socket")
    return connection is not None and connection.family == AF_UNIX


def _header(environ: WSGIEnvironment, name: str) -> str | None:
    key = name.upper().replace("-", "_")
    value: str | None = environ.get(key if key in _NOT_PREFIXED else f"HTTP_{key}")
    return value


def _largest_body(path: str) -> int:
    return wire.LARGEST_BATCH if path in _LARGE else wire.LARGEST_BODY


def _body(environ: WSGIEnvironment, *, largest: int) -> bytes:
    """BadQuestion for a body that is too large, or of another type than JSON."""
    media_type = environ.get("CONTENT_TYPE", "")
    if media_type != "application/json" and not _JSON_TYPE.fullmatch(media_type):
        raise BadQuestion(
            f"expected application/json, got {media_type[:64] or 'no Content-Type'}",
            code="unsupported_media_type",
        )
    if environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
        raise BadQuestion("a compressed body is not taken", code="unsupported_media_type")
    too_large = BadQuestion(f"at most {largest} bytes are taken", code="body_too_large")
    length = environ.get("CONTENT_LENGTH", "")
    if _LENGTH.fullmatch(length) and int(length) > largest:
        raise too_large
    body: bytes = environ["wsgi.input"].read(largest + 1)  # the length may be unknown (chunked)
    if len(body) > largest:
        raise too_large
    return body
