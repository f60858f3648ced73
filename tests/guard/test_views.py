"""Views without a guard are listed, and so are names that plans.yaml does not declare; in each framework."""

from __future__ import annotations

from functools import wraps
from pathlib import Path

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from flask import Blueprint, Flask
from flask.views import MethodView
from flask.views import View as ClassView
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

import sidecar.guard
from sidecar.guard.asgi import Guard
from sidecar.guard.testing import FakeSidecar, undeclared, unguarded

ROOT = Path(__file__).parent.parent.parent
PLANS = """
version: 1
currency: EUR
default_plan: solo
roles: {member: {}, admin: {includes: member}}
features: {video_avatar: {}}
meters: {minutes: {kind: counter, per: month}, things: {kind: level}}
plans: {solo: {price: 0}}
actions:
  recording.start: {role: member, takes: {minutes: 1}}
  report.view: {role: admin}
"""
DOCUMENTATION = {"openapi", "swagger_ui_html", "swagger_ui_redirect", "redoc_html"}  # FastAPI's own


@pytest.fixture
def plans(tmp_path):
    path = tmp_path / "plans.yaml"
    path.write_text(PLANS)
    return path


@pytest.fixture
def guard():
    return Guard(client=FakeSidecar(), user=lambda _: "mia")


@pytest.fixture
def app():
    app = Flask("views", static_folder=None)
    sidecar.guard.init_app(app, client=FakeSidecar(), user=lambda: "mia")
    return app


def serving(app, name, *decorators):
    def view(**_):
        return "done"

    for decorator in reversed(decorators):
        view = decorator(view)
    app.add_url_rule(f"/{name}", name, view)


def somebody_elses(view):
    @wraps(view)
    def inner(**parts):
        return view(**parts)

    return inner


def test_flask_lists_what_has_no_guard(app):
    class Half(MethodView):
        @sidecar.guard.require("report.view")
        def get(self):
            return ""

        def post(self):
            return ""

    class Whole(MethodView):
        @sidecar.guard.require("report.view")
        def get(self):
            return ""

    class Old(ClassView):
        @sidecar.guard.require("report.view")
        def dispatch_request(self):
            return ""

    class Decorated(MethodView):
        decorators = [sidecar.guard.require_workspace]  # noqa: RUF012 - as Flask has it

        def get(self):
            return ""

    serving(app, "health")
    serving(app, "guarded", somebody_elses, sidecar.guard.require_workspace)
    for name, kind in {"half": Half, "whole": Whole, "old": Old, "decorated": Decorated}.items():
        app.add_url_rule(f"/{name}", view_func=kind.as_view(name))
    team = Blueprint("team", __name__)
    serving(team, "open")
    app.register_blueprint(team)

    assert unguarded(app) == {"health", "half", "team.open"}


def test_fastapi_lists_what_has_no_guard(guard):
    def signed_in(_=Depends(guard.require_workspace)):  # noqa: B008 - `guard` is local
        return "mia"

    app, inner, outer = FastAPI(), APIRouter(), APIRouter(dependencies=[Depends(guard.require_role("admin"))])
    app.get("/health", name="health")(lambda: "")
    app.get("/a", dependencies=[Depends(guard.require_workspace & guard.require("report.view"))])(lambda: "")
    app.get("/b", name="deep")(lambda _=Depends(signed_in): "")  # noqa: B008 - ditto
    inner.get("/c", name="by the router")(lambda: "")
    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    app.include_router(inner, prefix="/open")

    def decorated(request: Request):
        return request.url.path

    app.get("/decorated")(guard.require("report.view")(decorated))

    @app.websocket("/listening")
    async def listening(websocket: WebSocket):
        await websocket.accept()

    @app.websocket("/guarded", dependencies=[Depends(guard.require_workspace)])
    async def guarded(websocket: WebSocket):
        await websocket.accept()

    mounted = FastAPI(openapi_url=None)
    mounted.get("/d", name="view")(lambda: "")
    app.mount("/sub", mounted, name="sub")

    assert unguarded(app) - DOCUMENTATION == {"health", "by the router", "listening", "sub:view"}


def test_a_router_whose_every_inclusion_is_guarded_is_not_listed(guard):
    app, inner = FastAPI(openapi_url=None), APIRouter()
    inner.get("/c", name="inner")(lambda: "")
    app.include_router(inner, dependencies=[Depends(guard.require_workspace)])

    assert unguarded(app) == set()


def test_starlette_lists_what_has_no_guard(guard, tmp_path):
    class Half(HTTPEndpoint):
        @guard.require("report.view")
        async def get(self, _request):
            return PlainTextResponse("")

        async def post(self, _request):
            return PlainTextResponse("")

    class Whole(HTTPEndpoint):
        @guard.require("report.view")
        async def get(self, _request):
            return PlainTextResponse("")

    class Listening(WebSocketEndpoint):
        @guard.require("report.view")
        async def on_connect(self, websocket):
            await websocket.accept()

    def health(_request):
        return PlainTextResponse("")

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/guarded", guard.require_workspace(health), name="guarded"),
            Route("/half", Half),
            Route("/whole", Whole),
            WebSocketRoute("/listening", Listening),
            Mount("/v1", routes=[Route("/x", health)]),
            Mount("/files", StaticFiles(directory=tmp_path), name="files"),
        ]
    )

    assert unguarded(app) == {"health", "Half", "/v1:health", "files"}


@pytest.mark.parametrize("find", [unguarded, undeclared])
def test_what_is_no_application_is_said(find, plans, monkeypatch):
    monkeypatch.chdir(plans.parent)

    with pytest.raises(TypeError, match="Flask, Starlette or FastAPI, got dict"):
        find({})


def test_flask_names_what_is_not_declared(app, plans):
    own = sidecar.guard.Guard(client=FakeSidecar(), user=lambda: "root", membership="role:boss")
    serving(app, "fine", sidecar.guard.require_role("admin"), sidecar.guard.require("report.view"))
    serving(app, "role", sidecar.guard.require_role("member", "admni"))
    serving(app, "feature", somebody_elses, sidecar.guard.require_feature("video_avatars"))
    serving(app, "action", sidecar.guard.require("recording.strat", minutes=5))
    serving(app, "meter", sidecar.guard.require("recording.start", mode="consume", minuets=lambda: 5))
    serving(app, "untaken", sidecar.guard.require("recording.start", amounts={"things": 1}))
    serving(app, "member", sidecar.guard.require_workspace)
    serving(app, "own", own.require_workspace)
    serving(
        app, "between", sidecar.guard.require_role("admin"), somebody_elses, sidecar.guard.require("far.off")
    )
    serving(app, "whole", sidecar.guard.require("recording.start", amounts=lambda: {"unseen": 1}))

    assert undeclared(app, plans) == [
        'role: the role "admni" is not declared; did you mean "admin"?',
        'feature: the feature "video_avatars" is not declared; did you mean "video_avatar"?',
        'action: the action "recording.strat" is not declared; did you mean "recording.start"?',
        'meter: the meter "minuets" is not declared; did you mean "minutes"?',
        'untaken: the action "recording.start" does not take "things"; it takes minutes',
        'own: the role "boss" is not declared',
        'between: the action "far.off" is not declared',
    ]


def test_fastapi_names_what_is_not_declared(guard, plans):
    app, inner = FastAPI(), APIRouter()
    inner.get("/c", name="included")(lambda: "")
    app.include_router(inner, dependencies=[Depends(guard.require_role("admni"))])
    both = guard.require_workspace & guard.require("report.veiw")
    app.get("/a", name="both", dependencies=[Depends(both)])(lambda: "")

    assert undeclared(app, str(plans)) == [
        'included: the role "admni" is not declared; did you mean "admin"?',
        'both: the action "report.veiw" is not declared; did you mean "report.view"?',
    ]


def test_the_shipped_catalog_is_read_where_it_lies(app, monkeypatch):
    monkeypatch.chdir(ROOT)
    serving(app, "fine", sidecar.guard.require("roleplay.start"), sidecar.guard.require_feature("analytics"))
    serving(app, "typo", sidecar.guard.require_feature("analytic"))

    assert undeclared(app) == ['typo: the feature "analytic" is not declared; did you mean "analytics"?']


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("roles: [", "is not YAML"),
        (b"\xff", "is not YAML"),
        ("[1]", "declares no plans"),
        ("roles: {}", "declares no plans"),
        ("plans: {}\nactions: [a]", "actions is no mapping; `sidecar check` says"),
    ],
)
def test_what_is_no_catalog_is_said(app, tmp_path, text, says):
    path = tmp_path / "plans.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ValueError, match=says):
        undeclared(app, path)
    with pytest.raises(FileNotFoundError):
        undeclared(app, tmp_path / "none.yaml")
