"""What is Starlette's and FastAPI's own; what all frameworks have in common is in cases.yaml."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import wraps
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient, WebSocketDenialResponse

from sidecar.guard import Denied
from sidecar.guard.asgi import Guard
from sidecar.guard.testing import FakeSidecar
from sidecar.guard.workspace import CurrentWorkspace  # noqa: TC001 - FastAPI reads it


@pytest.fixture
def sidecar():
    sidecar = FakeSidecar(role="admin", plan="pro", strangers={"zoe"})
    sidecar.allow("role:member", "role:admin", "analytics.view")
    sidecar.allow("recording.start", limits={"minutes": 100})
    sidecar.deny("role:owner", reason="role_insufficient", needs_roles=["owner"])
    sidecar.deny("team_sessions.start", reason="feature_not_in_plan", upgrade=["team"])
    return sidecar


@pytest.fixture
def guard(sidecar):
    return Guard(client=sidecar, user=lambda request: request.headers.get("X-User"))


@contextmanager
def fastapi_with(guard, dependency, *, view=None):
    app = FastAPI()
    guard.init_app(app)
    app.post("/{workspace}", dependencies=[Depends(dependency)])(view or (lambda: "done"))
    with TestClient(app) as client:
        yield client


@contextmanager
def starlette_with(guard, view):
    app = Starlette(routes=[Route("/{workspace}", view, methods=["GET", "POST"])])
    guard.init_app(app)
    with TestClient(app) as client:
        yield client


def ask(client, path="/acme", *, user="mia", headers=(), **more):
    return client.post(path, headers=({"X-User": user} if user else {}) | dict(headers), **more)


def actions(sidecar):
    return [asked.action for asked in sidecar.asked]


def test_a_dependency_lets_in_who_may(guard, sidecar):
    with fastapi_with(guard, guard.require("analytics.view")) as client:
        assert ask(client).json() == "done"

    assert [(each.user, each.workspace) for each in sidecar.asked] == [("mia", "acme")]


def test_a_dependency_gives_the_workspace(guard):
    app = FastAPI()
    guard.init_app(app)

    @app.post("/{workspace}")  # noqa: FAST003 - the guard reads it
    def view(
        request: Request,
        current: CurrentWorkspace = Depends(guard.require_role("owner", "admin")),  # noqa: FAST002, B008 - `guard` is local
    ):
        assert request.state.workspace is current
        return [current.role, current.plan, current.slug]

    with TestClient(app) as client:
        assert ask(client).json() == ["admin", "pro", "acme"]


@pytest.mark.parametrize("called", [False, True])
def test_require_workspace_stands_with_and_without_parentheses(guard, sidecar, called):
    dependency = guard.require_workspace() if called else guard.require_workspace
    with fastapi_with(guard, dependency) as client:
        assert ask(client).status_code == 200
        assert ask(client, user="zoe").status_code == 403

    assert set(actions(sidecar)) == {"role:member"}


@pytest.mark.parametrize("name", ["require_workspace", "require"])
def test_the_id_and_the_slug_are_known_without_a_question(guard, sidecar, monkeypatch, name):
    monkeypatch.setattr(sidecar, "entitlements", None)  # a question in the view would block all others
    seen = []

    async def view(request):
        seen.append((len(request.state.workspace.id), request.state.workspace.slug))
        return PlainTextResponse("done")

    by = guard.require("analytics.view") if name == "require" else guard.require_workspace
    with starlette_with(guard, by(view)) as client:
        assert ask(client).status_code == 200
    assert seen == [(36, "acme")]


def test_requirements_are_joined_into_one_call(guard, sidecar, monkeypatch):
    monkeypatch.setattr(sidecar, "check", None)
    joined = guard.require_workspace & guard.require_role("admin") & guard.require("analytics.view")
    with fastapi_with(guard, joined) as client:
        assert ask(client).status_code == 200

    assert actions(sidecar) == ["role:admin", "analytics.view"]


def test_what_two_guards_require_cannot_be_joined(guard, sidecar):
    with pytest.raises(ValueError, match="two guards"):
        guard.require("a") & Guard(client=sidecar, user=lambda _: None).require("b")


def test_what_takes_is_joined_once(guard):
    with pytest.raises(ValueError, match="consumes once"):
        guard.require("a", mode="consume") & guard.require("b", mode="consume")


def test_a_dependency_takes_what_the_request_says(guard, sidecar):
    dependency = guard.require(
        "recording.start", mode="consume", minutes=lambda request: int(request.query_params["m"])
    )
    with fastapi_with(guard, dependency) as client:
        key = {"Idempotency-Key": "k"}
        assert [ask(client, "/acme?m=5", headers=key).status_code for _ in range(2)] == [200, 409]
        assert ask(client, "/acme?m=0").status_code == 400

    assert sidecar.used("minutes", workspace="acme") == 5


@pytest.mark.parametrize("returned", ["done", PlainTextResponse("done")], ids=["value", "response"])
def test_limits_are_told_when_asked_for(guard, returned):
    dependency = guard.require("recording.start", mode="consume", minutes=5, ratelimit=True)
    with fastapi_with(guard, dependency, view=lambda: returned) as client:
        response = ask(client)
        denied = ask(client, user="zoe")

    assert response.headers["RateLimit"] == '"minutes";r=95'
    assert response.headers["RateLimit-Policy"] == '"minutes";q=100'
    assert "RateLimit" not in denied.headers


def test_a_coroutine_is_guarded_by_a_decorator(guard):
    @guard.require("analytics.view")
    async def view(request):
        return PlainTextResponse(request.state.workspace.role)

    with starlette_with(guard, view) as client:
        assert ask(client).text == "admin"
        assert ask(client, user="zoe").status_code == 403


def test_a_plain_view_is_guarded_by_a_decorator(guard, sidecar):
    @guard.require_role("owner")
    def view(_request):
        return PlainTextResponse("done")

    with starlette_with(guard, view) as client:
        assert ask(client).status_code == 403
        sidecar.allow("role:owner")
        assert ask(client).text == "done"


def test_methods_of_a_class_are_guarded(guard):
    class Recordings(HTTPEndpoint):
        @guard.require("analytics.view")
        async def post(self, request):
            return PlainTextResponse(request.path_params["workspace"])

    with starlette_with(guard, Recordings) as client:
        assert ask(client).text == "acme"
        assert ask(client, user="zoe").status_code == 403


def test_decorators_on_top_of_each_other_are_one_call(guard, sidecar, monkeypatch):
    monkeypatch.setattr(sidecar, "check", None)

    @guard.require_role("admin")
    @guard.require("analytics.view")
    async def view(_request):
        return PlainTextResponse("done")

    with starlette_with(guard, view) as client:
        assert ask(client).status_code == 200
    assert actions(sidecar) == ["role:admin", "analytics.view"]


def test_a_decorator_between_two_guards_is_not_skipped(guard):
    def teapot(view):
        @wraps(view)
        async def inner(request):
            return PlainTextResponse("no", 418) if "X-Tea" in request.headers else await view(request)

        return inner

    @guard.require_role("admin")
    @teapot
    @guard.require("analytics.view")
    async def view(_request):
        return PlainTextResponse("done")

    with starlette_with(guard, view) as client:
        assert ask(client).status_code == 200
        assert ask(client, headers={"X-Tea": "1"}).status_code == 418


def test_a_decorated_view_that_takes_no_request_is_a_mistake(guard):
    @guard.require("analytics.view")
    def view():
        raise AssertionError("it was not asked whether they may")

    with pytest.raises(TypeError, match="takes the request"):
        view()


def test_a_websocket_is_guarded_too(guard):
    app = FastAPI()
    guard.init_app(app)

    @app.websocket("/{workspace}", dependencies=[Depends(guard.require("analytics.view"))])
    async def view(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket.state.workspace.role)

    with TestClient(app) as client:
        with client.websocket_connect("/acme", headers={"X-User": "mia"}) as websocket:
            assert websocket.receive_text() == "admin"
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect("/acme", headers={"X-User": "zoe"}),
        ):
            pass
    assert denied.value.status_code == 403
    assert denied.value.json()["code"] == "not_a_member"


def test_a_websocket_server_that_cannot_say_why_closes(guard):
    from sidecar.guard.asgi import _problem  # noqa: PLC0415 - private
    from sidecar.guard.errors import Unauthenticated  # noqa: PLC0415

    sent: list[dict[str, Any]] = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("nothing is to be received")

    websocket = WebSocket({"type": "websocket", "headers": []}, receive=receive, send=send)
    anyio.run(_problem, websocket, Unauthenticated("x"))

    assert sent[0]["type"] == "websocket.close"
    assert sent[0]["code"] == 1008


def holding(guard, work):
    async def view(request):
        async with guard.reserve(request, "recording.start", minutes=30, ttl_s=600) as hold:
            await work(hold)
        return PlainTextResponse("done")

    return view


def left(sidecar):
    return sidecar.used("minutes", workspace="acme"), sidecar.reserved("minutes", workspace="acme")


def test_a_coroutine_commits_what_it_used(guard, sidecar):
    with starlette_with(guard, holding(guard, lambda hold: hold.commit(minutes=12))) as client:
        assert ask(client).status_code == 200

    assert left(sidecar) == (12, 0)


def test_a_coroutine_that_commits_nothing_releases(guard, sidecar):
    async def nothing(_hold):
        assert left(sidecar) == (0, 30)

    with starlette_with(guard, holding(guard, nothing)) as client:
        assert ask(client).status_code == 200
        assert left(sidecar) == (0, 0)
    with starlette_with(guard, holding(guard, lambda hold: hold.release())) as client:
        assert ask(client).status_code == 200
    assert left(sidecar) == (0, 0)


def test_a_coroutine_that_is_cancelled_releases(guard, sidecar):
    request = Request(
        {"type": "http", "headers": [(b"x-user", b"mia")], "path_params": {"workspace": "acme"}}
    )

    async def abandoned():
        with anyio.move_on_after(0.05):
            async with guard.reserve(request, "recording.start", minutes=30):
                assert left(sidecar) == (0, 30)
                await anyio.sleep_forever()

    anyio.run(abandoned)

    assert left(sidecar) == (0, 0)


def test_a_reservation_that_is_denied_is_the_end_users_answer(guard, sidecar):
    sidecar.deny("recording.start", reason="quota_exceeded", retry_after=60)
    with starlette_with(guard, holding(guard, None)) as client:
        response = ask(client)

    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")


def test_a_reservation_that_nobody_declares_is_the_developers_mistake(guard, caplog):
    async def view(request):
        async with guard.reserve(request, "recording.strat"):
            return PlainTextResponse("done")

    app = Starlette(routes=[Route("/{workspace}", view, methods=["POST"])])
    guard.init_app(app)
    app.add_exception_handler(Denied, lambda *_: PlainTextResponse("no", 403))  # as an application words it
    with TestClient(app) as client, caplog.at_level(logging.ERROR, "sidecar.guard"):
        response = ask(client)

    assert (response.status_code, response.json()["code"]) == (500, "authorization_misconfigured")
    [record] = [each for each in caplog.records if each.name == "sidecar.guard"]
    assert 'the view "view" asks' in record.getMessage()


def test_a_hold_is_held_within_its_block(guard):
    request = Request(
        {"type": "http", "headers": [(b"x-user", b"mia")], "path_params": {"workspace": "acme"}}
    )

    with pytest.raises(RuntimeError, match="nothing is held yet"):
        _ = guard.reserve(request, "recording.start", minutes=30).hold


def test_without_init_app_a_denial_is_still_no_yes(guard):
    app = FastAPI()
    app.post("/{workspace}", dependencies=[Depends(guard.require_role("owner"))])(lambda: "done")
    with TestClient(app, raise_server_exceptions=False) as client:
        assert ask(client).status_code == 500


def test_a_guard_may_be_given_its_application_at_once(sidecar):
    app = FastAPI()
    guard = Guard(app, client=sidecar, user=lambda _: "mia", workspace=lambda _: "acme")
    app.post("/", dependencies=[Depends(guard.require_role("owner"))])(lambda: "done")
    with TestClient(app) as client:
        assert client.post("/").status_code == 403


def test_another_error_is_not_ours():
    from sidecar.guard.asgi import _problem  # noqa: PLC0415 - private

    with pytest.raises(ZeroDivisionError):
        anyio.run(_problem, Request({"type": "http"}), ZeroDivisionError())
