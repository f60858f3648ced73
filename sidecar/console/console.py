"""The console's own Flask application: who gets in, what every reply carries, and the pages."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import flask
from werkzeug.exceptions import HTTPException

from sidecar.console.once import used_up
from sidecar.console.pages.table import PAGES, made_of
from sidecar.console.sessions import LASTS_S, SCOPES, Session, Sessions
from sidecar.console.sources import Refused
from sidecar.console.wording import FILTERS
from sidecar.errors import BadQuestion

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from sidecar.api.reply import Reply
    from sidecar.api.request import Request
    from sidecar.console.pages.page import Page
    from sidecar.console.sources import Sources

ROOT = "/console"
_HERE = Path(__file__).parent
_REQUEST = "sidecar.request"
_STATIC = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "same-origin"),  # no-referrer: Chromium sends `Origin: null` with our own forms
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_NOT_OURS = "This form was not ours, or too old. Try again."
_PASSED_ON = ("Cookie", "Host", "Origin", "Content-Type", "Content-Length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """*url* is an origin, None on loopback; *once* is the file of a link's code, which only dev has."""

    secret: bytes
    url: str | None
    once: Path | None = None


def is_of_console(path: str) -> bool:
    return path == ROOT or path.startswith(f"{ROOT}/")


class Console:
    def __init__(self, sources: Sources, doors: Doors) -> None:
        self._sources = sources
        self._doors = doors
        self._sessions = Sessions(doors.secret, sources.service.callers)
        self._is_https = doors.url is not None and doors.url.startswith("https://")
        self._cookie = "__Host-sidecar" if self._is_https else "sidecar_console"
        self._static = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC}
        self._flask = self._application()

    def answer(self, request: Request) -> Reply:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": request.target.encode("utf-8", "replace").decode("latin-1"),
            "QUERY_STRING": request.query,
            "SERVER_NAME": "sidecar",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "https" if self._is_https else "http",
            "wsgi.input": BytesIO(),
            _REQUEST: request,
        }
        for name in _PASSED_ON:
            if (value := request.header(name)) is not None:
                key = name.upper().replace("-", "_")
                environ[key if key.startswith("CONTENT_") else f"HTTP_{key}"] = value
        if request.method == "POST":
            try:
                body = request.body()
            except BadQuestion:
                body = b""  # no form of ours: it lacks the form's token
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = BytesIO(body), str(len(body))
        with self._flask.request_context(environ):
            response = self._flask.full_dispatch_request()
            headers = [(name, value) for name, value in response.headers.items() if name != "Content-Length"]
            return response.status_code, [*headers, *_HEADERS], response.get_data()

    def _application(self) -> flask.Flask:
        app = flask.Flask("sidecar.console", root_path=str(_HERE), static_folder=None)
        app.config["PROPAGATE_EXCEPTIONS"] = True
        app.jinja_env.filters |= FILTERS
        app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
        versions = {name: sha256(text).hexdigest()[:16] for name, text in self._static.items()}
        app.jinja_env.globals |= {
            "pages": PAGES,
            "versions": versions,
            "is_dev": self._doors.once is not None,
        }
        app.add_url_rule(
            ROOT, view_func=lambda: flask.redirect(f"{ROOT}/", HTTPStatus.PERMANENT_REDIRECT), endpoint="root"
        )
        app.add_url_rule(f"{ROOT}/static/<name>", view_func=self._file, endpoint="static")
        app.add_url_rule(
            f"{ROOT}/sign-in", view_func=self._sign_in, endpoint="sign-in", methods=["GET", "POST"]
        )
        app.add_url_rule(f"{ROOT}/sign-out", view_func=self._sign_out, endpoint="sign-out", methods=["POST"])
        for each in PAGES:
            for path in each.paths:
                app.add_url_rule(
                    f"{ROOT}{path}",
                    view_func=self._view(each),
                    endpoint=f"{each.name}{path}",
                    methods=["GET"],
                )
        app.register_error_handler(HTTPException, self._nothing_here)
        return app

    def _view(self, page: Page) -> Any:  # noqa: ANN401 - Flask's
        def view(**path: str) -> ResponseReturnValue:
            session = self._session()
            if session is None or session.caller is None:
                return self._to_sign_in()
            request: Request = flask.request.environ[_REQUEST]
            try:
                made = made_of(
                    page, self._sources, session.caller, request.id, path, flask.request.args.to_dict()
                )
            except Refused as refused:
                problem = refused.problem
                return self._page("refused.html", problem["status"], session, page=page, problem=problem)
            if made.text is not None:
                return flask.Response(made.text, content_type=made.content_type, headers=made.headers)
            return self._page(made.template, made.status, session, page=page, **made.values)

        return view

    def _page(self, template: str, status: int, session: Session | None, **values: object) -> flask.Response:
        text = flask.render_template(template, session=session, **values)
        return flask.Response(text, status=status, content_type="text/html; charset=utf-8")

    def _nothing_here(self, error: HTTPException) -> flask.Response:
        status = HTTPStatus(error.code or HTTPStatus.NOT_FOUND)
        problem = {
            "title": status.phrase,
            "detail": "There is no such page in the console.",
            "status": status,
        }
        if status != HTTPStatus.NOT_FOUND:
            problem["detail"] = "The console cannot be asked so."
        response = self._page("refused.html", status, self._session(), page=None, problem=problem)
        response.headers.extend([each for each in error.get_headers() if each[0] == "Allow"])
        return response

    def _file(self, name: str) -> flask.Response:
        if name not in self._static:
            flask.abort(HTTPStatus.NOT_FOUND)
        kept = {"Cache-Control": "public, max-age=31536000, immutable"}  # its URL has its hash
        return flask.Response(self._static[name], content_type=_STATIC[name], headers=kept)

    @staticmethod
    def _to_overview() -> ResponseReturnValue:
        return flask.redirect(f"{ROOT}/", HTTPStatus.PERMANENT_REDIRECT)

    def _session(self) -> Session | None:
        return self._sessions.of(flask.request.cookies.get(self._cookie))

    def _to_sign_in(self) -> ResponseReturnValue:
        asked = flask.request.full_path.rstrip("?")
        ended = {"ended": "1"} if flask.request.cookies.get(self._cookie) else {}
        query = urlencode(({"next": asked} if asked != f"{ROOT}/" else {}) | ended)
        return flask.redirect(f"{ROOT}/sign-in" + (f"?{query}" if query else ""), HTTPStatus.SEE_OTHER)

    def _sign_in(self) -> ResponseReturnValue:
        if flask.request.method == "POST":
            return self._signed_in()
        code = flask.request.args.get("once")
        if code is not None:
            session = self._sessions.by_once() if used_up(self._doors.once, code) else None
            if session is not None:
                return self._remembering(session, flask.redirect(f"{ROOT}/", HTTPStatus.SEE_OTHER))
            return self._form("This link was used already, or is of another server. Sign in with a token.")
        session = self._session()
        if session is not None and session.caller is not None:
            return flask.redirect(_safe(flask.request.args.get("next")), HTTPStatus.SEE_OTHER)
        if "ended" in flask.request.args:
            return self._form("Your session has ended. Sign in again.")
        return self._form(None)

    def _signed_in(self) -> ResponseReturnValue:
        if not self._is_our_form():
            return self._form(_NOT_OURS, HTTPStatus.FORBIDDEN)
        session = self._sessions.signed_in(flask.request.form.get("token", "").strip())
        if session is None or session.caller is None:
            return self._form("Nobody has this token.", HTTPStatus.FORBIDDEN)
        if not session.caller.scopes & SCOPES:
            says = "This token may not look: it needs the scope audit or admin."
            return self._form(says, HTTPStatus.FORBIDDEN)
        return self._remembering(
            session, flask.redirect(_safe(flask.request.args.get("next")), HTTPStatus.SEE_OTHER)
        )

    def _sign_out(self) -> ResponseReturnValue:
        if not self._is_our_form():
            problem = {"title": "Forbidden", "detail": _NOT_OURS, "status": 403}
            return self._page(
                "refused.html", HTTPStatus.FORBIDDEN, self._session(), page=None, problem=problem
            )
        response = flask.redirect(f"{ROOT}/sign-in", HTTPStatus.SEE_OTHER)
        return self._remembering(None, response)

    def _form(self, says: str | None, status: int = HTTPStatus.OK) -> ResponseReturnValue:
        session = self._session()
        if session is None or session.caller is not None:
            session = self._sessions.unsigned()
        response = self._page("sign-in.html", status, session, page=None, says=says)
        return self._remembering(session, response)

    def _is_our_form(self) -> bool:
        """Of a page of ours, in the browser that it was made for."""
        session, origin = self._session(), flask.request.headers.get("Origin")
        ours = self._doors.url or f"http://{flask.request.headers.get('Host', '')}"
        sent = flask.request.form.get("form_token", "")
        return session is not None and origin in {None, ours} and sent == session.form_token

    def _remembering(self, session: Session | None, response: Any) -> flask.Response:  # noqa: ANN401 - of Werkzeug or Flask
        response.set_cookie(
            self._cookie,
            session.cookie if session else "",
            max_age=LASTS_S if session else 0,
            path="/" if self._is_https else ROOT,
            secure=self._is_https,
            httponly=True,
            samesite="Lax",
        )
        made: flask.Response = response
        return made


def _safe(link: str | None) -> str:
    """*link*, if it is one of our own pages: nobody is sent elsewhere."""
    home = f"{ROOT}/"
    if link is None or not link.startswith(home) or "\\" in link or not link.isprintable():
        return home
    return home if urlsplit(link).netloc or link.startswith(f"{ROOT}/sign-") else link
