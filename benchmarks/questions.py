"""What is asked: requests as they go over the wire, about random members of the benchmark's world."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import jwt

from benchmarks import world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

REQUESTS = 20_000  # written once for each kind, of which wrk sends one after another at random
LARGE_REQUESTS = 50
USERS = 1_000  # who have a token
BATCH = 1_000
TEN = 10
COUNTERS = 1_000  # in the first workspaces
KEY = "K" * 16  # each request gets another one (requests.lua)
HOST = "app.example"
ACTION = "roleplay.start_with_avatar"
ACTION_OF_THE_PATH = "roleplay.start"
SECRET = "a-secret-of-the-benchmark-of-32-characters"  # noqa: S105 - of this machine, for some minutes
ISSUER, AUDIENCE = "https://idp.example.com", "authenticated"
_TOKEN_LASTS_S = 7_200

Member = tuple[int, int]  # number of the workspace, and of its member


def kinds(workspaces: int) -> dict[str, Callable[[], Iterable[bytes]]]:
    """The requests of each kind; always the same ones, but for when tokens expire."""

    def each(write: Callable[[Member], bytes], *, count: int = REQUESTS, among: int = workspaces):
        return lambda: map(write, _members(count, among=among))

    def each_user(write: Callable[[Member, str], bytes]):
        return lambda: [write(member, _token(member)) for member in _members(USERS, among=workspaces)]

    return {
        "authorize": each(lambda member: _posted("/v1/authorize", _native(member, ACTION))),
        "opa": each(lambda member: _posted("/v1/data/rival/answer", {"input": _native(member, ACTION)})),
        "evaluation": each(lambda member: _posted("/access/v1/evaluation", _authzen(member))),
        "evaluations": each(lambda member: _posted("/access/v1/evaluations", _ten(member))),
        "search/subject": each(_searched("subject")),
        "search/resource": each(_searched("resource")),
        "search/action": each(_searched("action")),
        "batch": each(lambda member: _batch(member, workspaces), count=LARGE_REQUESTS),
        "consume one": each(_consume, among=1),
        "consume many": each(_consume, among=min(COUNTERS, workspaces)),
        "nginx": each_user(_forwarded("nginx", "X-Original-Method", "X-Original-URI")),
        "haproxy": each_user(_forwarded("haproxy", "X-Original-Method", "X-Original-URI")),
        "forward-auth": each_user(_forwarded("forward-auth", "X-Forwarded-Method", "X-Forwarded-Uri")),
        "ext-authz": each_user(
            lambda member, token: written("POST", f"/gw/ext-authz{_path(member)}", _bearer(token))
        ),
        "client": each_user(lambda member, token: written("POST", _path(member), _bearer(token))),
        "opa for a path": each(
            lambda member: _posted("/v1/data/rival/answer", {"input": _native(member, ACTION_OF_THE_PATH)})
        ),
    }


def write(path: Path, requests: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(request + b"\0" for request in requests))


def written(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    headers = {"Host": HOST, **headers}
    if body:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def checks(workspaces: int) -> list[tuple[str, str]]:
    """Path and token of each user, for gRPC's `Check`."""
    return [(_path(member), _token(member)) for member in _members(USERS, among=workspaces)]


def _members(count: int, *, among: int) -> list[Member]:
    chance = random.Random(count)  # noqa: S311 - the same each time
    return [(chance.randrange(among), chance.randrange(world.MEMBERS)) for _ in range(count)]


def _posted(path: str, body: dict[str, object]) -> bytes:
    return written("POST", path, {}, json.dumps(body).encode())


def _native(member: Member, action: str) -> dict[str, object]:
    workspace, number = member
    return {"user": f"u{workspace}-{number}", "workspace": f"w{workspace}", "action": action}


def _authzen(member: Member) -> dict[str, object]:
    workspace, number = member
    return {
        "subject": {"type": "user", "id": f"u{workspace}-{number}"},
        "action": {"name": ACTION},
        "resource": {"type": "workspace", "id": f"w{workspace}"},
    }


def _ten(member: Member) -> dict[str, object]:
    return {**_authzen(member), "evaluations": [{}] * TEN}


def _searched(what: str) -> Callable[[Member], bytes]:
    def search(member: Member) -> bytes:
        asked: dict[str, Any] = _authzen(member)
        asked[what] = {"type": asked[what]["type"]} if what != "action" else None
        return _posted(f"/access/v1/search/{what}", {name: part for name, part in asked.items() if part})

    return search


def _batch(first: Member, workspaces: int) -> bytes:
    chance = random.Random(repr(first))  # noqa: S311 - the same each time
    members = [(chance.randrange(workspaces), chance.randrange(world.MEMBERS)) for _ in range(BATCH)]
    return _posted("/v1/authorize/batch", {"questions": [_native(member, ACTION) for member in members]})


def _consume(member: Member) -> bytes:
    asked = _native(member, "recording.start")
    return _posted("/v1/authorize", {**asked, "mode": "consume", "idempotency_key": KEY})


def _forwarded(dialect: str, method: str, uri: str) -> Callable[[Member, str], bytes]:
    def asked(member: Member, token: str) -> bytes:
        headers = {**_bearer(token), method: "POST", uri: _path(member)}
        if dialect == "forward-auth":
            headers["X-Forwarded-Host"] = HOST
        return written("GET", f"/gw/{dialect}", headers)

    return asked


def _path(member: Member) -> str:
    return f"/workspaces/w{member[0]}/roleplays"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _token(member: Member) -> str:
    claims = {"sub": f"u{member[0]}-{member[1]}", "iss": ISSUER, "aud": AUDIENCE}
    return jwt.encode({**claims, "exp": int(time.time()) + _TOKEN_LASTS_S}, SECRET, "HS256")
