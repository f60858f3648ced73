"""The same routes in four frameworks: one for each case of tests/guard/cases.yaml, under its number."""

from __future__ import annotations

import http.client
import json
import logging
import subprocess
from contextlib import ExitStack, contextmanager
from functools import reduce, wraps
from operator import and_
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import Depends, FastAPI, HTTPException
from flask import Flask, g, request
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it
from starlette.testclient import TestClient

from sidecar.guard import Client
from sidecar.guard import Guard as FlaskGuard
from sidecar.guard.asgi import Guard as AsgiGuard
from tests.node import program
from tests.typescript.packages import built

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

Cases = list[dict[str, Any]]
Response = tuple[int, dict[str, str], bytes]  # header names in lower case
PATIENT_S = 15.0
_STARTS_WITHIN_S = 30


class Backend(NamedTuple):
    """*errors* are the lines in its log since the last call; *view* is the name of a case's route there."""

    ask: Callable[[str, Mapping[str, str]], Response]
    errors: Callable[[], list[str]]
    view: Callable[[int], str]


def _url_of(case: Mapping[str, Any], urls: Mapping[str, str]) -> str:
    says = case.get("sidecar", "real")
    return urls[says if isinstance(says, str) else "scripted"]


def _given(value: Any, query: Callable[[Any, str], str | None], *, raw: bool = False) -> Any:
    """A value of a case; `{query: NAME}` reads it from the request, as JSON unless it is *raw*."""
    if not isinstance(value, dict) or set(value) != {"query"}:
        return value

    def read(*of: Any) -> Any:
        text = query(of[0] if of else None, value["query"])
        return text if raw or text is None else json.loads(text)

    return read


def _options(guard: Mapping[str, Any], query: Callable[[Any, str], str | None]) -> dict[str, Any]:
    options = {name: guard[name] for name in ("mode", "replays", "ratelimit") if name in guard}
    amounts = _given(guard.get("amounts"), query)
    if isinstance(amounts, dict):
        amounts = {meter: _given(amount, query) for meter, amount in amounts.items()}
    return options | {
        "amounts": amounts,
        "resource": _given(guard.get("resource"), query),
        "context": _given(guard.get("context"), query),
        "idempotency_key": _given(guard.get("key"), query, raw=True),
    }


def _required(guard: Any, by: Any, query: Callable[[Any, str], str | None]) -> Any:
    if guard == "workspace":
        return by.require_workspace
    if "role" in guard:
        return by.require_role(*guard["role"])
    if "feature" in guard:
        return by.require_feature(guard["feature"])
    return by.require(guard["action"], **_options(guard, query))


def _shown(workspace: Any, case: Mapping[str, Any]) -> dict[str, str]:
    names = ["user", "asked", "role", "plan"]
    if "workspace" in case["guards"]:
        names += ["id", "slug"]
    return {name: getattr(workspace, name) for name in names}


@contextmanager
def flask(cases: Cases, urls: Mapping[str, str], _folder: Path) -> Iterator[Backend]:
    app = Flask("cases")
    clients = {url: Client(url, timeout_s=PATIENT_S) for url in urls.values()}
    guards = {
        url: FlaskGuard(client=client, user=lambda: request.headers.get("X-User"))
        for url, client in clients.items()
    }
    next(iter(guards.values())).init_app(app)  # so that its problems are answered; each has its own routes

    def tea(view):
        @wraps(view)
        def served(**parts):
            return ("", 418) if "X-Tea" in request.headers else view(**parts)

        return served

    for number, case in enumerate(cases):

        def view(case=case, **_parts):
            return _shown(g.workspace, case)

        for guard in reversed(case["guards"]):
            by = guards[_url_of(case, urls)]
            view = (tea if guard == "tea" else _required(guard, by, lambda _, name: request.args.get(name)))(
                view
            )
        rule = case.get("route", "/{workspace}").replace("{", "<").replace("}", ">")
        app.add_url_rule(f"/{number}{rule}", f"case {number}", view, methods=["POST"])

    def ask(path, headers):
        response = app.test_client().post(path, headers=headers)
        return response.status_code, {n.lower(): v for n, v in response.headers.items()}, response.data

    with _all_of(clients.values()), _errors() as errors:
        yield Backend(ask, errors, view="case {}".format)


@contextmanager
def fastapi(cases: Cases, urls: Mapping[str, str], _folder: Path) -> Iterator[Backend]:
    app = FastAPI()
    clients = {url: Client(url, timeout_s=PATIENT_S) for url in urls.values()}
    guards = {
        url: AsgiGuard(client=client, user=lambda request: request.headers.get("X-User"))
        for url, client in clients.items()
    }
    next(iter(guards.values())).init_app(app)

    def tea(request: Request) -> None:
        if "X-Tea" in request.headers:
            raise HTTPException(418)

    for number, case in enumerate(cases):
        runs: list[list[Any]] = [[]]
        for guard in case["guards"]:
            if guard == "tea":
                runs += [[tea], []]
            else:
                by = guards[_url_of(case, urls)]
                runs[-1].append(_required(guard, by, lambda request, name: request.query_params.get(name)))
        dependencies = [Depends(run[0] if run == [tea] else reduce(and_, run)) for run in runs if run]

        rule = f"/{number}{case.get('route', '/{workspace}')}"
        app.post(rule, name=f"case {number}", dependencies=dependencies)(_fastapi_view(case))

    with _all_of(clients.values()), TestClient(app) as client, _errors() as errors:

        def ask(path, headers):
            response = client.post(path, headers=dict(headers))
            return response.status_code, {n.lower(): v for n, v in response.headers.items()}, response.content

        yield Backend(ask, errors, view="case {}".format)


@contextmanager
def _errors() -> Iterator[Callable[[], list[str]]]:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    def since_the_last_call() -> list[str]:
        found = [*lines]
        lines.clear()
        return found

    log, handler = logging.getLogger("sidecar.guard"), Kept(logging.ERROR)
    log.addHandler(handler)
    try:
        yield since_the_last_call
    finally:
        log.removeHandler(handler)


@contextmanager
def _all_of(clients: Iterable[Client]) -> Iterator[None]:
    with ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
        yield


def _fastapi_view(case: Mapping[str, Any]) -> Callable[[Request], Any]:
    def view(request: Request):
        return _shown(request.state.workspace, case)

    return view


@contextmanager
def _by_node(framework: str, cases: Cases, urls: Mapping[str, str], folder: Path) -> Iterator[Backend]:
    told = folder / f"{framework}.json"
    told.write_text(json.dumps({"framework": framework, "cases": cases, "urls": urls}))
    command = [program("node"), str(built() / "test/backend.mjs"), str(told)]
    said = folder / f"{framework}.log"
    with said.open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    known = 0

    def errors() -> list[str]:
        nonlocal known
        lines = said.read_text().splitlines()
        since, known = lines[known:], len(lines)
        return since

    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()  # it ends by itself where nothing is served
        assert port, said.read_text()

        def ask(path, headers):
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=_STARTS_WITHIN_S)
            try:
                connection.request("POST", path, None, dict(headers))
                response = connection.getresponse()
                found = {name.lower(): value for name, value in response.getheaders()}
                return response.status, found, response.read()
            finally:
                connection.close()

        def view(number: int) -> str:
            rule = cases[number].get("route", "/{workspace}")
            return f"POST /{number}{rule.replace('{', ':').replace('}', '')}"

        yield Backend(ask, errors, view)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()  # type: ignore[union-attr] # it was asked for


def hono(cases: Cases, urls: Mapping[str, str], folder: Path) -> AbstractContextManager[Backend]:
    return _by_node("hono", cases, urls, folder)


def express(cases: Cases, urls: Mapping[str, str], folder: Path) -> AbstractContextManager[Backend]:
    return _by_node("express", cases, urls, folder)


BACKENDS = {"flask": flask, "fastapi": fastapi, "hono": hono, "express": express}
