"""Requests become replies: the application makes a Request, finds its endpoint and returns its Reply.

The server calls `Application.answer` on a thread, once for each Request. Whoever embeds the sidecar, or tests
it, calls the application as a WSGI application. Flask finds the endpoint; the hot ones are found without it,
since routing costs twice what deciding does. What runs then is the same function.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from socket import AF_UNIX
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from sidecar.api import problems, wire
from sidecar.api.advice import where_to, which_method
from sidecar.api.audience import Audience
from sidecar.api.authzen.endpoints import EVALUATION, EVALUATIONS
from sidecar.api.billing.stripe import STRIPE_EVENTS
from sidecar.api.cors import Cors, preflight_fields
from sidecar.api.dispatch import refuse, serve, serving
from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.gateways.by_header import BY_HEADER, EXT_AUTHZ, EXT_AUTHZ_PREFIX
from sidecar.api.gateways.opa import LIKE_OPA
from sidecar.api.log_lines import written
from sidecar.api.operation import HEALTHZ, READYZ, STATUSZ
from sidecar.api.people.acting import callers_act
from sidecar.api.people.users import STEPS
from sidecar.api.plain import PlainChecks
from sidecar.api.reply import JSON
from sidecar.api.request import Request, is_request_id, request_id
from sidecar.api.service import Service, deadline_of
from sidecar.api.v1.questions import AUTHORIZE, AUTHORIZE_BATCH
from sidecar.console.console import is_of_console
from sidecar.decisions.steps import run
from sidecar.errors import BadQuestion, LogUnavailable, UnknownCaller
from sidecar.text.ids import fresh_id

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

    from werkzeug.routing import MapAdapter

    from sidecar.api.endpoint import Endpoint
    from sidecar.api.reply import Reply
    from sidecar.console.console import Console
    from sidecar.decisions.steps import Steps
    from sidecar.errors import SidecarError
    from sidecar.identity.callers import Caller

_HOT = {
    endpoint.path: endpoint
    for endpoint in (
        AUTHORIZE,
        AUTHORIZE_BATCH,
        EVALUATION,
        EVALUATIONS,
        *BY_HEADER,
        *LIKE_OPA,
        HEALTHZ,
        READYZ,
        STATUSZ,
    )
}
_LARGE = {AUTHORIZE_BATCH.path, EVALUATIONS.path}
_LIKE_A_HEAD = {STRIPE_EVENTS.path, *(endpoint.path for endpoint in LIKE_OPA)}
_SIGNED = {STRIPE_EVENTS.path}  # as it is, whatever it is said to be
_AUTHZEN, _GATEWAYS = "/access/v1/", "/gw/"
_ANY_ID = re.compile(r"[\t\x20-\x7e\x80-\xff]+")  # AuthZEN: an arbitrary string
_DEV_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_ONLY_HERE = "sidecar dev answers at 127.0.0.1, localhost and [::1] alone"
_PORT = re.compile(r":[0-9]+\Z")
_FORM = re.compile(r"application/x-www-form-urlencoded\s*(;.*)?", re.IGNORECASE)
_JSON_TYPE = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?\s*', re.IGNORECASE)
_LENGTH = re.compile(r"0*([0-9]+)", re.ASCII)
_MOST_DIGITS = 18  # a longer length is too large for every endpoint
_BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
_EXT_AUTHZ = f"{EXT_AUTHZ_PREFIX}/"
_NOT_IN_A_HEADER = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_NO_PATH = "/%2F"
_WITHOUT_A_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})  # by their nature
_OF_JSON, _NOT_STORED = [JSON], ("Cache-Control", "no-store")
_REQUEST, _REPLY = "sidecar.request", "sidecar.reply"
REPEATED = "sidecar.repeated"
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_NOT_PREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})

_log = logging.getLogger("sidecar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """The part of a request that its target and its header fields decide; *any_id*: as AuthZEN takes ids."""

    target: str
    query: str
    path: Mapping[str, str]
    any_id: bool
    caller: Caller | None
    refused: SidecarError | None

    def id(self, sent: str) -> str:
        """The request's id, of the one that was *sent*; else a new one."""
        return self.sent_id(sent) or fresh_id()

    def sent_id(self, sent: str) -> str | None:
        """The id that was *sent*, where it may stand in a log and in a header."""
        return sent if (self.any_id and _ANY_ID.fullmatch(sent)) or is_request_id(sent) else None

    def request(
        self,
        method: str,
        *,
        header: Callable[[str], str | None],
        repeated: Container[str],
        by_socket: bool,
        remote: str,
    ) -> Request:
        return Request(
            id=self.id(header("X-Request-ID") or ""),
            method=method,
            caller=self.caller,
            target=self.target,
            query=self.query,
            header=header,
            repeated=repeated,
            path=self.path,
            refused=self.refused,
            by_socket=by_socket,
            remote=remote,
        )


class Application:
    def __init__(
        self,
        service: Service,
        *,
        console: Callable[[Service], Console] | None = None,
        is_dev: bool = False,
    ) -> None:
        """*console* makes the console. *is_dev*: the token is public, so a page elsewhere must not use it."""
        self.service = service
        self._console = console(service) if console else None
        self._is_dev = is_dev
        self.plain = PlainChecks(service)
        self._cors = Cors(service.cors_origins, paths=[each.path for each in ENDPOINTS if each.for_browsers])
        self._flask = _flask(service)
        self._routes: MapAdapter = self._flask.url_map.bind("sidecar")

    def request(
        self,
        method: str,
        target: str,
        *,
        header: Callable[[str], str | None],
        repeated: Container[str],
        by_socket: bool,
        remote: str,
    ) -> Request:
        """Of a request whose *target* is as its first line has it. Its body is still to be given."""
        addressed = self.addressed(target, header=header, by_socket=by_socket)
        return addressed.request(method, header=header, repeated=repeated, by_socket=by_socket, remote=remote)

    def addressed(self, target: str, *, header: Callable[[str], str | None], by_socket: bool) -> Addressed:
        """What requests with this *target* and these header fields have in common."""
        # Not a decoded path: in that, a user "a/b" would be two parts of the path.
        path, _, query = _path_of(target).partition("?")
        of_authzen = path.startswith(_AUTHZEN)
        caller, refused = None, None
        if self._is_rebound(path, header):
            refused = UnknownCaller()
        elif not path.startswith(_GATEWAYS):  # there it is the end user's own
            shown = header("Authorization")
            try:
                caller = self.service.callers.caller(
                    shown, by_socket=by_socket, bare=of_authzen, host=header("Host")
                )
            except UnknownCaller as error:
                if shown is None and of_authzen and self.service.authzen.anybody:
                    caller = self.service.authzen.anybody
                else:
                    refused = error
        return Addressed(
            target=path,
            query=query,
            # The rest is a path that others read: as it was written, and never as the absolute form has it.
            path={"target": target.removeprefix(EXT_AUTHZ_PREFIX)} if path.startswith(_EXT_AUTHZ) else {},
            any_id=of_authzen,
            caller=caller,
            refused=refused,
        )

    def _is_rebound(self, path: str, header: Callable[[str], str | None]) -> bool:
        """Whether a page elsewhere may have asked `sidecar dev`, by a name that it lets mean this machine."""
        if not self._is_dev or path.startswith(_GATEWAYS):  # whose host is that of their client's request
            return False
        host = header("Host")
        return host is not None and _PORT.sub("", host).lower() not in _DEV_HOSTS

    def hot(self, method: str, target: str) -> Endpoint | None:
        """The hot endpoint that a request for *target*, a path with its query, is for; None for any other."""
        if target.startswith(_EXT_AUTHZ):
            return EXT_AUTHZ
        hot = _HOT.get(target.partition("?")[0])
        if hot is None or (hot.method != method and hot.audience is not Audience.GATEWAYS):
            return None
        return hot

    def endpoint_of(self, request: Request) -> Endpoint | None:
        """None where there is nothing at the path, or not with this method."""
        hot = self.hot(request.method, request.target)
        if hot is not None:
            return hot
        try:
            name, _ = self._routes.match(_routed(request.target), method=request.method)
        except HTTPException:
            return None
        return _BY_NAME[name]

    def largest_body(self, request: Request | Addressed, endpoint: Endpoint | None) -> int:
        """How many bytes of a body are worth waiting for; 0 where the endpoint takes none.

        Who is not known as a caller gets no room for a batch: it would not be looked at.
        """
        if endpoint is not None and (endpoint.body is None or endpoint.method == "GET"):
            return 0
        batch = request.target in _LARGE and request.caller is None
        return wire.LARGEST_BODY if batch else _largest_body(request.target)

    def deadline(self, request: Request, endpoint: Endpoint | None) -> float:
        """Until when the request may wait for a thread."""
        for_users = endpoint is not None and endpoint.audience is Audience.END_USERS
        return deadline_of(self.service, request, questions=STEPS if for_users else 1)

    def answer(self, request: Request, endpoint: Endpoint | None) -> Reply:
        """The whole reply, all header fields included; *endpoint* is the one that `endpoint_of` found."""
        if endpoint is not None and _HOT.get(endpoint.path) is endpoint:
            return run(self.answering(request, endpoint))
        try:
            if self._is_rebound(request.target, request.header):
                problem = problems.problem("invalid_request", detail=_ONLY_HERE)
                return self._finish_for_pages(refuse(self.service, None, request, problem), request)
            if self._console is not None and is_of_console(request.target):
                return _finish(self._console.answer(request), request)
            if request.method == "OPTIONS" and (reply := self._preflight(request)) is not None:
                return reply
            return run(self._once_written(self._by_flask(request), request, endpoint))
        except Exception as error:  # noqa: BLE001 - the border of the server
            return self.defect(request, endpoint, error)

    def answering(self, request: Request, endpoint: Endpoint) -> Steps[Reply]:
        """As `answer`, in steps, of a hot endpoint."""
        try:
            reply = yield from serving(self.service, endpoint, request)
            return (yield from self._once_written(_finish(reply, request), request, endpoint))
        except Exception as error:  # noqa: BLE001 - the border of the server
            return self.defect(request, endpoint, error)

    def _once_written(self, reply: Reply, request: Request, endpoint: Endpoint | None) -> Steps[Reply]:
        """*reply*; where answers wait for their lines, once those are written, or else a problem."""
        try:
            yield from written(self.service, request)
        except LogUnavailable as error:
            return self._refuse(request, endpoint, error.code)
        return reply

    def defect(self, request: Request, endpoint: Endpoint | None, error: Exception) -> Reply:
        """The reply to a request whose answer failed as nobody foresaw: it tells nothing, the log all."""
        _log.error("request %s met a defect", request.id, exc_info=error)
        self.service.metrics.count_problem("internal_error")
        problem = problems.problem("internal_error")
        reply = problems.reply_of(problem) if endpoint is None else endpoint.refused(problem, request)
        return self._finish_for_pages(reply, request)

    def overloaded(self, request: Request, endpoint: Endpoint | None) -> Reply:
        """The reply to who has waited for a thread until their deadline."""
        return self._refuse(request, endpoint, "overloaded")

    def unreadable(self, code: str, *, target: str = "", origin: str | None = None) -> Reply:
        """The server's own refusal of what never became a request: it tells nothing of what was sent.

        *target* and *origin* are of that, as far as they have been read.
        """
        path = _path_of(target).partition("?")[0]
        request = Request(
            id=request_id(""), target=path, header=lambda name: origin if name == "Origin" else None
        )
        return self._refuse(request, None, code)

    def _refuse(self, request: Request, endpoint: Endpoint | None, code: str) -> Reply:
        return self._finish_for_pages(
            refuse(self.service, endpoint, request, problems.problem(code)), request
        )

    def _preflight(self, request: Request) -> Reply | None:
        """A browser's own question before a page's: None where it is not answered, and 405 or 404 follows."""
        origin = request.header("Origin")
        is_one = request.header("Access-Control-Request-Method") is not None
        if not is_one or not self._cors.takes_preflight(request.target, origin):
            return None
        methods = self._routes.allowed_methods(_routed(request.target))
        if not methods:
            return None
        return self._finish_for_pages((HTTPStatus.NO_CONTENT, preflight_fields(methods), b""), request)

    def _finish_for_pages(self, reply: Reply, request: Request) -> Reply:
        """As `_finish`, and whether a page of another origin may read it: never asked of a hot endpoint."""
        status, headers, body = _finish(reply, request)
        return status, [*headers, *self._cors.fields(request.target, request.header("Origin"))], body

    def _by_flask(self, request: Request) -> Reply:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": _routed(request.target),
            "QUERY_STRING": "",
            "SERVER_NAME": "sidecar",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            _REQUEST: request,
        }
        with self._flask.request_context(environ):
            self._flask.full_dispatch_request()
        # Not what became of it in Flask, which adds to the headers of a response without a body.
        return self._finish_for_pages(environ[_REPLY], request)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection: Any = environ.get("gunicorn.socket")
        request = self.request(
            environ["REQUEST_METHOD"],
            environ["RAW_URI"],
            header=partial(_header, environ),
            # WSGI itself does not tell: a server that knows may.
            repeated=environ.get(REPEATED, frozenset()),
            by_socket=connection is not None and connection.family == AF_UNIX,
            remote=environ.get("REMOTE_ADDR", ""),
        )
        largest = _largest_body(request.target)
        request.body = lambda: json_body(request, environ["wsgi.input"].read(largest + 1), largest=largest)
        status, headers, body = self.answer(request, self.endpoint_of(request))
        start_response(STATUS_LINES[status], headers)
        return [body] if request.method != "HEAD" else []


def _flask(service: Service) -> flask.Flask:
    app = flask.Flask("sidecar", static_folder=None, template_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # to _Defects, where those of the hot path go too
    app.url_map.merge_slashes = False
    for_users = service.identities is not None or callers_act(service)
    served = [
        endpoint.path
        for endpoint in ENDPOINTS
        if (for_users or endpoint.audience is not Audience.END_USERS)
        and (service.stripe is not None or endpoint is not STRIPE_EVENTS)
    ]
    for endpoint in ENDPOINTS:
        if endpoint.audience is Audience.GATEWAYS:
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
    def no_endpoint(error: HTTPException) -> str:
        detail: str | None
        match error:
            case MethodNotAllowed():
                methods = sorted(error.valid_methods or ())
                code, detail = "method_not_allowed", which_method(methods)
                headers = [("Allow", ", ".join(methods))]
            case NotFound():
                code, detail = "not_found", where_to(flask.request.environ[_REQUEST].target, served)
                headers = []
            case _:
                code, detail, headers = "invalid_request", None, []
        service.metrics.count_problem(code)
        status, own_headers, body = problems.reply_of(problems.problem(code, detail=detail))
        flask.request.environ[_REPLY] = status, [*own_headers, *headers], body
        return ""

    return app


def _view(service: Service, endpoint: Endpoint) -> Callable[..., str]:
    def view(**path: str) -> str:
        request: Request = flask.request.environ[_REQUEST]
        request.path = path
        flask.request.environ[_REPLY] = serve(service, endpoint, request)
        return ""

    return view


def _finish(reply: Reply, request: Request) -> Reply:
    status, headers, body = reply
    finished = [*headers]
    if status not in _WITHOUT_A_BODY:
        finished.append(("Content-Length", str(len(body))))
    finished.append(("X-Request-ID", request.id))
    if headers == _OF_JSON:  # as mostly
        finished.append(_NOT_STORED)
        return status, finished, body
    if not any(name == "Cache-Control" for name, _ in headers):
        finished.append(_NOT_STORED)
    if _NOT_IN_A_HEADER.search("".join([value for _, value in headers])):
        raise ValueError(f"a response header with a character that no header may have: {headers}")
    return status, finished, body


def _path_of(target: str) -> str:
    if target.startswith("/"):
        return target
    try:
        parts = urlsplit(target)  # the absolute form, as to a proxy
    except ValueError:  # a host that is none: nothing is there
        return ""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _routed(path: str) -> str:
    # Werkzeug drops slashes in front: "//v1/authorize" would be served as "/v1/authorize".
    return _NO_PATH if "//" in path else path


def _header(environ: WSGIEnvironment, name: str) -> str | None:
    key = name.upper().replace("-", "_")
    value: str | None = environ.get(key if key in _NOT_PREFIXED else f"HTTP_{key}")
    return value


def _largest_body(path: str) -> int:
    if path in _LIKE_A_HEAD:
        return wire.LARGEST_INPUT
    return wire.LARGEST_BATCH if path in _LARGE else wire.LARGEST_BODY


def json_body(request: Request, body: bytes, *, largest: int) -> bytes:
    """*body*, as it is. BadQuestion if it is larger than *largest* bytes, or is not said to be JSON."""
    is_form = is_of_console(request.target) and _FORM.fullmatch(request.header("Content-Type") or "")
    if request.target not in _SIGNED and not is_form and not is_json(request.header):
        media_type = request.header("Content-Type") or ""
        said = "the Content-Type is another" if media_type else "there is no Content-Type"
        if _JSON_TYPE.fullmatch(media_type):
            said = "the body is compressed"
        raise BadQuestion(said, code="unsupported_media_type")
    if len(body) > largest or announced_length(request) > largest:
        raise BadQuestion(f"at most {largest} bytes are taken", code="body_too_large")
    return body


def is_json(header: Callable[[str], str | None]) -> bool:
    """Whether a body with these header fields is JSON, as it is."""
    return (
        _JSON_TYPE.fullmatch(header("Content-Type") or "") is not None
        and (header("Content-Encoding") or "identity") == "identity"
    )


def announced_length(request: Request) -> int:
    """The length of the body as the request has it; 0 where it is not said."""
    length = _LENGTH.fullmatch(request.header("Content-Length") or "")
    return int(length[1][:_MOST_DIGITS]) if length else 0
